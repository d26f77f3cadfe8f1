"""What one process does: scenes in, rows of every part for every model out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from numpy import ndarray

from experiments.assembly import use_compilation_cache
from experiments.validate.contenders import contenders
from experiments.validate.instrument import DIAGNOSTICS, DRIFT, LONG_RUN, RATE, forecast_parts, probe_rows
from experiments.validate.scenes import FIT, LONG, MEASURE, Loader, Scenes
from experiments.validate.settings import Settings
from wmplan.contracts import WorldModel
from wmplan.errors import InputError
from wmplan.randomness import NoiseBank, fold_in
from wmplan.scene import Future, Scene
from wmplan.simulator.drivers import TWIN as WRONG_DRIVERS
from wmplan.simulator.live import live
from wmplan.start import start_of
from wmplan.validation import evidence as looking
from wmplan.validation.calibration import SceneCalibration, measure_calibration
from wmplan.validation.drift import measure_drift
from wmplan.validation.frame_rate import measure_present
from wmplan.validation.interventions import among, probe
from wmplan.validation.long_run import MODES, imagining, run_long
from wmplan.validation.long_truth import long_truth
from wmplan.validation.memorisation import descriptor
from wmplan.validation.probes import CEILING, FORESEEN, Battery, commands, measure, measure_foreseen, measure_truth
from wmplan.validation.reaction import how_many_react

BANK_STEP = 5
"""Memorisation compares frames 3 s after t0."""


@dataclass(frozen=True)
class SceneRows:
    """One scene: a row by part and model, and why a part has none. `causal` is how many truly react, None where L4 was
    not asked."""

    scene_id: str
    group: str
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    causal: int | None = None


@dataclass(frozen=True)
class FitRows:
    """One training scene: the ego's accelerations; the calibration of each model and what its future looks like, where
    forecasts are measured."""

    commands: Float[ndarray, "N"]
    calibration: dict[str, SceneCalibration] = field(default_factory=dict)
    frame: Float[ndarray, "F"] | None = None


@dataclass(frozen=True)
class Work:
    """Settings and the scenes that task names refer to; picklable."""

    settings: Settings
    scenes: tuple[Scenes, ...]
    sources: tuple[tuple[str, str, str], ...]
    """purpose, store, source"""


def measuring(work: Work) -> Callable[[str], list[Any]]:
    """A function that does one task: `SceneRows`, or `FitRows` where the task is to fit."""
    command = work.settings.command
    use_compilation_cache(Path(command.cache).resolve() if command.cache else None)
    models = contenders(work.settings.model)
    scenes = {one.purpose: one for one in work.scenes}
    kinds: dict[str, Callable[..., Any]] = {FIT: _fit, MEASURE: _measure, LONG: _long}
    loaders = {purpose: Loader(store, source, command.stride_s) for purpose, store, source in work.sources}

    def do(task: str) -> list[Any]:
        purpose = task.partition("/")[0]
        found: list[Any] = []
        for item in scenes[purpose].of(task):
            for scene, future in loaders[purpose].scenes(item):
                one = kinds[purpose](models, scene, future, work.settings)
                found += [one] if one is not None else []
                if purpose == LONG:
                    break  # one scene a log: the others are in its future
        return found

    return do


def _fit(models: dict[str, WorldModel], scene: Scene, future: Future, settings: Settings) -> FitRows | None:
    command = settings.command
    if not {"L1", DIAGNOSTICS} & set(command.layers):
        return FitRows(commands(scene, future))
    try:
        observed = looking.observe(scene, future, *_shape(models))
    except InputError:
        return None  # a training scene more or less
    noise = NoiseBank(fold_in(command.seed, scene.scene_id, "fit"), command.samples)
    calibration = {
        name: measure_calibration(replace(looking.imagine(model, observed, noise), model=name))
        for name, model in models.items()
    }
    calibration[CEILING] = measure_calibration(looking.oracle(observed))
    frame = descriptor(observed.truth[BANK_STEP, :2], observed.raster.grid.cell)
    return FitRows(commands(scene, future), calibration, frame)


def _measure(models: dict[str, WorldModel], scene: Scene, future: Future, settings: Settings) -> SceneRows:
    result = SceneRows(scene.scene_id, scene.group)
    layers = settings.command.layers
    if {"L1", "L2", "L3", DIAGNOSTICS} & set(layers):
        try:
            result.rows.update(_forecast(models, scene, future, settings))
        except InputError as error:
            result.refused["forecast"] = str(error)
    if DIAGNOSTICS in layers:
        with contextlib.suppress(InputError):  # a log without a second chunk; the table's n tells how many had one
            result.rows[DRIFT] = _drift(models, scene, future, settings)
    if "L4" not in layers:
        return result
    try:
        rows, causal = _reaction(models, scene, future, settings)
    except InputError as error:
        result.refused["L4"] = str(error)
        return result
    result.rows.update(rows)
    return replace(result, causal=causal)


def _forecast(
    models: dict[str, WorldModel], scene: Scene, future: Future, settings: Settings
) -> dict[str, dict[str, Any]]:
    """Rows of L1 to L3: the models, and the true future as if imagined."""
    command, temperatures = settings.command, dict(settings.temperatures)
    observed = looking.observe(scene, future, *_shape(models))
    noise = NoiseBank(fold_in(command.seed, scene.scene_id, "imagine"), command.samples)
    rows: dict[str, dict[str, Any]] = {}
    shown = {name: replace(looking.imagine(model, observed, noise), model=name) for name, model in models.items()}
    for name, evidence in {**shown, CEILING: looking.oracle(observed)}.items():
        done: dict[Any, Any] = {}  # parts that share a measurement share its row
        for part in forecast_parts(command.layers, temperatures.get(name), settings.bank):
            if part.measure not in done:
                done[part.measure] = part.measure(evidence)
            rows.setdefault(part.name, {})[name] = done[part.measure]
    if DIAGNOSTICS in command.layers:
        rows[RATE] = {"data": measure_present(observed)}
    return rows


def _drift(models: dict[str, WorldModel], scene: Scene, future: Future, settings: Settings) -> dict[str, Any]:
    noise = NoiseBank(fold_in(settings.command.seed, scene.scene_id, "drift"), 1)
    return {name: measure_drift(model, scene, future, noise) for name, model in models.items()}


def _reaction(
    models: dict[str, WorldModel], scene: Scene, future: Future, settings: Settings
) -> tuple[dict[str, dict[str, Any]], int]:
    """Rows of L4 and how many truly react: all probes where somebody does; the reaction error alone in some of the
    scenes where nobody does; nothing in the others."""
    command = settings.command
    assert settings.sweep is not None, "the sweep is fitted before anything is measured"
    battery = Battery(settings.sweep, seed=command.seed)
    grid = next(iter(models.values())).grid
    alive = live(scene, future)
    probed = probe(scene, future, grid, battery.plans, alive)
    causal = how_many_react(probed.acted.select(battery.reaction))
    drawn = fold_in(command.seed, scene.scene_id, "still") / 2.0**63
    if not causal and drawn >= command.still_share:
        return {}, 0
    twin = among(probed, alive, WRONG_DRIVERS)
    found = {
        name: measure(name, model, probed, battery, command.seed, command.samples, twin, whole=causal > 0)
        for name, model in models.items()
    }
    found |= measure_truth(probed, battery, twin, whole=causal > 0)
    found[FORESEEN] = measure_foreseen(probed, battery, alive)
    return probe_rows(found), causal


def _long(models: dict[str, WorldModel], scene: Scene, future: Future, settings: Settings) -> SceneRows:
    """Imagination chained for 45 s, on the models' own frames and re-grounded; the truth in their place."""
    result = SceneRows(scene.scene_id, scene.group)
    try:
        truth = long_truth(live(scene, future), start_of(scene), next(iter(models.values())).grid)
    except InputError as error:
        result.refused["long run"] = str(error)
        return result
    branches = {name: imagining(model, settings.command.seed) for name, model in models.items()}
    branches[CEILING] = lambda chunk, raster, plans: truth.imagined(chunk)
    for mode in MODES:
        result.rows[LONG_RUN[mode]] = {
            name: run_long(scene.scene_id, scene.group, name, imagine, truth, mode)
            for name, imagine in branches.items()
        }
    return result


def _shape(models: dict[str, WorldModel]) -> tuple[Any, int]:
    model = next(iter(models.values()))
    return model.grid, min(one.horizon for one in models.values())
