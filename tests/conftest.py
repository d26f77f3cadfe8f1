"""Strictness for the whole suite: shapes checked at run time, warnings are errors, no silent rank promotion."""

from __future__ import annotations

import os

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
