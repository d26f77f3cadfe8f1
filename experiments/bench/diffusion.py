"""`wmplan bench diffusion`: what denoising steps and guidance do to a `dit` model's forecast, diversity and cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.bench.rows import Rows
from experiments.results import FOLDER

if TYPE_CHECKING:
    from wmplan.models.dit_model import Diffusion
    from wmplan.models.dit_options import DitOptions
    from wmplan.models.training import Examples

SAMPLES = 4


@dataclass(frozen=True)
class DiffusionBench:
    """What to measure."""

    model: str
    """a checkpoint folder of the family dit"""
    store: str
    """a store with validation scenes"""
    scenes: int = 96
    """at most so many validation scenes, spread over the store"""
    steps: tuple[int, ...] = (1, 4, 8, 50)
    """denoising steps compared"""
    guidance: tuple[float, ...] = (1.5, 3.0)
    """weights of guidance compared with 1, at the steps that the model has in use"""
    results: str = str(FOLDER)
    """folder of the results"""


def run(config: DiffusionBench) -> int:
    """Figures for each setting, recorded; the exit status.

    Raises:
        InputError: the model is of another family, or the store has no validation scenes.
    """
    from wmplan.errors import InputError
    from wmplan.models import load_model
    from wmplan.models.dit_model import Diffusion
    from wmplan.models.training.data import Examples
    from wmplan.threads import limit_threads

    limit_threads(1)
    model = load_model(config.model)
    if not isinstance(model, Diffusion):
        raise InputError(f"{config.model}: family is {model.name}, expected dit")
    examples = Examples.build(_scenes(Path(config.store), config.scenes), model.grid, model.horizon)
    command = f"wmplan bench diffusion model={Path(config.model).name} store={Path(config.store).name}"
    rows = Rows(4, command, config.results)
    base = model.sampling
    settings = {f"{n} steps": replace(base, steps=n, guidance=1.0) for n in config.steps}
    settings |= {f"{base.steps} steps, guidance {w:g}": replace(base, guidance=w) for w in config.guidance}
    for name, options in settings.items():
        _figures(rows, name, model, options, examples)
    for name, options in settings.items():
        rows.write(f"dit cost, one 3 s sample on one core, {name}, ms CPU", 1e3 * _seconds(model, options, examples))
    return 0


def _figures(rows: Rows, name: str, model: Diffusion, options: DitOptions, examples: Examples) -> None:
    """IoU of the mean forecast beside constant velocity, and how much two samples differ, at 1, 2 and 3 s."""
    from wmplan.models.training.dit_calibrate import rollouts
    from wmplan.models.training.measure import measure
    from wmplan.statistics import bootstrap_mean

    apart: list[np.ndarray] = []

    def forecast(network, batch, ids, samples, horizon):  # type: ignore[no-untyped-def]  # as `measure.Forecast`
        frames = rollouts(network, batch, ids, samples, horizon, options)
        first, second = (frames[:, m].amax(2) > 0.5 for m in (0, 1))
        both, either = ((x & y).sum((-1, -2)) for x, y in ((first, second), (first | second, first | second)))
        apart.append(np.where(either > 0, 1.0 - both.numpy() / np.maximum(either.numpy(), 1), np.nan))
        return frames.mean(1)

    found = measure(model.network, examples, SAMPLES, model.horizon, forecast=forecast)
    iou, gain, differ = found.iou[0], found.gain(found.models[0], "cv"), np.concatenate(apart)
    for t in (1, 3, 5):
        seconds = f"{found.seconds[t]:g} s"
        interval = bootstrap_mean(iou[:, t], 0, groups=found.groups)
        rows.write(f"dit forecast IoU at {seconds}, {name}", float(interval.value), n=len(examples),
                   interval=(interval.low, interval.high))  # fmt: skip
        rows.write(f"dit forecast IoU at {seconds}, {name} - cv", float(gain[t, 0]), "above 0",
                   bool(gain[t, 1] > 0.0), (float(gain[t, 1]), float(gain[t, 2])), len(examples))  # fmt: skip
        interval = bootstrap_mean(differ[:, t], 0, groups=found.groups)
        rows.write(f"dit share of occupied cells in which two samples differ at {seconds}, {name}",
                   float(interval.value), n=len(examples), interval=(interval.low, interval.high))  # fmt: skip


def _seconds(model: Diffusion, options: DitOptions, examples: Examples) -> float:
    """CPU seconds of one sample over the horizon, from a full pass of rollouts of the fullest scene; least of three."""
    from wmplan.models.training.dit_calibrate import rollouts

    chunk = model.network.preset.chunk
    fullest = int(examples.fullness.argmax())
    batch = examples.batch(np.array([fullest]))
    call = partial(rollouts, model.network, batch, [examples.scene_ids[fullest]], chunk, model.horizon, options)
    took = []
    for _ in range(3):
        began = time.process_time()
        call()
        took.append(time.process_time() - began)
    return min(took) / chunk


def _scenes(store: Path, most: int) -> Iterator:
    from wmplan.errors import InputError
    from wmplan.sealed import SealedFutures
    from wmplan.store import SceneStore

    opened, sealed = SceneStore.open(store), SealedFutures.open(store)
    index = opened.index()
    ids = sorted(index.loc[index["split"] == "val", "scene_id"])
    if not ids:
        raise InputError(f"{store}: no scenes of split 'val', expected some")
    for i in np.unique(np.linspace(0, len(ids) - 1, most).astype(int)):
        yield opened.scene(ids[i]), sealed.future(ids[i])
