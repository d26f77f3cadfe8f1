"""Forecasts of a model and of both baselines on a store's validation scenes, scored against what followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.assembly import build_model
from experiments.processes import run_tasks
from experiments.progress import track
from wmplan.errors import InputError
from wmplan.executed import executed_plan
from wmplan.forecast import SceneForecast, score
from wmplan.randomness import NoiseBank, fold_in
from wmplan.raster import rasterize, rasterize_future
from wmplan.scene import STEP_S
from wmplan.sealed import SealedFutures
from wmplan.start import start_of
from wmplan.store import SceneStore

HORIZON_S = 3.0
BASELINES = ("cv", "persistence")


@dataclass(frozen=True)
class Settings:
    """What every process of a forecast is told."""

    store: Path
    model: str
    samples: int
    seed: int


def forecasts(
    store: Path, model: str, split: str = "val", samples: int = 4, seed: int = 0, workers: int = 2, most: int = 0
) -> list[SceneForecast]:
    """Every scene of the split, forecast by the model and the baselines given what the ego really did.

    Scenes whose log does not show the ego for 3 s are left out, and said. With `most` above 0, a fixed random choice of
    at most so many scenes.

    Raises:
        InputError: no scenes of the split, or none that can be scored.
    """
    index = SceneStore.open(store).index()
    scenes = index.loc[index["split"] == split, "scene_id"].tolist()
    if not scenes:
        raise InputError(f"{store}: no scenes of split {split!r}, expected some")
    if most:
        scenes = sorted(sorted(scenes, key=lambda name: fold_in(0, "chosen for forecasts", name))[:most])
    settings = Settings(store, model, samples, seed)
    found: list[SceneForecast] = []
    outcomes = run_tasks("experiments.forecasting:forecasting", settings, scenes, workers)
    for done in track(outcomes, "forecasts", len(scenes)):
        if done.error:
            raise InputError(f"scene {done.task}: {done.error}")
        found += done.result
    if not found:
        raise InputError(f"{store}: none of {len(scenes)} scenes shows its ego for {HORIZON_S:g} s")
    return sorted(found, key=lambda one: (one.scene_id, one.model))


def forecasting(settings: Settings) -> Callable[[str], list[SceneForecast]]:
    """A function that forecasts and scores one scene; nothing for one whose log does not show the ego."""
    store, sealed = SceneStore.open(settings.store), SealedFutures.open(settings.store)
    models = [build_model(spec, HORIZON_S) for spec in (settings.model, *BASELINES)]

    def forecast(scene_id: str) -> list[SceneForecast]:
        scene, future = store.scene(scene_id), sealed.future(scene_id)
        plan = executed_plan(scene, future, start_of(scene), round(HORIZON_S / STEP_S))
        if plan is None:
            return []
        grid = models[0].grid
        raster, truth = rasterize(scene, grid), rasterize_future(scene, future, grid, models[0].horizon)
        noise = NoiseBank(fold_in(settings.seed, scene_id, "imagine"), settings.samples)
        return [score(model, raster, truth, plan, noise, scene.group) for model in models]

    return forecast
