"""One small study, run once for all tests that look at its results."""

from __future__ import annotations

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
