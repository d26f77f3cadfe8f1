"""One small study, run once for all tests that look at its results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.logs import LogsConfig
from experiments.study import StudyConfig
from wmplan.scene import STEP_S, Kind, Lights, Log
from wmplan.store_writer import StoreWriter
from wmplan.testing.scenes import Body, straight_road

SCENES = (
    ("a-behind-a-leader", 10.0, None),
    ("b-free-road", 14.0, [Body(-20.0, 3.5, speed=12.0)]),
    ("c-pedestrian-ahead", 6.0, [Body(22.0, -4.0, np.pi / 2, 1.2, Kind.PEDESTRIAN, 0.7, 0.7), Body(9.0, 3.5)]),
)
"""Three scenes on a straight road: (name, ego speed m/s, road users)."""


def write_store(path: Path) -> Path:
    """A store of the three scenes."""
    with StoreWriter(path, 150.0, 0.0, {}) as writer:
        for name, speed, bodies in SCENES:
            scene, future = straight_road(bodies, speed, name)
            log = Log(
                log_id=name,
                group=scene.group,
                dataset=scene.dataset,
                file=name,
                dt_s=STEP_S,
                tracks=scene.ego,
                road_map=scene.road_map,
                lights=Lights.none(scene.ego.valid.shape[1]),
                recorded_ego=scene.ego_id,
            )
            writer.add(log, scene, future)
        writer.finish([], [])
    return path


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small study's store, cache and results lie."""
    folder = tmp_path_factory.mktemp("study")
    write_store(folder / "store")
    return folder


@pytest.fixture(scope="session")
def config(place: Path):
    """Makes configs: three scenes, two optimizers with small budgets, constant velocity as world model, changes."""

    def make(**changes: object) -> StudyConfig:
        settings: dict[str, object] = {
            "logs": LogsConfig(format="store", path=str(place / "store")),
            "model": "cv",
            "optimizers": ("cem", "lattice"),
            "candidates": 32,
            "samples": 2,
            "cache": str(place / "cache"),
            "out": str(place / "first"),
            "report": False,
            "mlflow": False,
            "workers": 2,
        }
        return StudyConfig(**{**settings, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def first(place: Path, config) -> Path:
    """The results of the small study: two workers, an empty cache at first, logged to MLflow."""
    from experiments.study import run

    assert run(config(mlflow=True)) == 0
    return place / "first"


COMPUTING = ("torch", "jax", "scipy.stats", "sklearn", "matplotlib", "jinja2")
"""Without these no candidate is imagined or planned, no figure computed, no picture drawn, no page filled."""


@pytest.fixture(scope="session")
def studied_apart(first: Path, place: Path):
    """Runs the small study in a process of its own: which of `COMPUTING` it loaded, and what it said."""

    def study(out: str, *more: str) -> tuple[list[str], str]:
        words = ["study", "logs=store", f"logs.path={place / 'store'}", "model=cv", "optimizers=[cem,lattice]"]
        words += ["candidates=32", "samples=2", f"out={place / out}", f"cache={place / 'cache'}", *more]
        ask = f"print(json.dumps([main({words!r}), *(m for m in {COMPUTING} if m in sys.modules)]))"
        program = f"import json, sys\nfrom experiments.cli import main\n{ask}"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        status, *loaded = json.loads(done.stdout.splitlines()[-1])
        assert status == 0, done.stderr
        return loaded, done.stderr

    return study
