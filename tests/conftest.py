"""Strictness for the whole suite: shapes checked at run time, warnings are errors, no silent rank promotion."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # two pytest workers on two cores; pools of threads would wait for each other
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MPLBACKEND", "Agg")

from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

PACKAGES = ("wmplan", "critics", "optimizers", "rollout_cache", "experiments")
install_import_hook(list(PACKAGES), "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real logs; tests that need it skip where it is missing."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real logs are not at {REAL_DATA}")
    return REAL_DATA
