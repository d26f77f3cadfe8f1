"""Drift: what happens when a model goes on from its own frames.

Two chunks: the model imagines 3 s, the window moves to where the ego then truly is, and it imagines 3 s more, once from
its own last four frames (`free`) and once from the true ones (`regrounded`). The gap between the two is what drift
costs; what both lose against the first chunk is not drift. Both are scored on the cells that the first window had seen.

Curves: `half_life_s` is the first time at which an accuracy is below half of its first value, `error_growth` the slope
of the logarithm of the error after 3 s, per second.

References:
    `reference/world_models.md` 4.6; `reference/seed_inventory.md`, row 17 (373 to 409, re-projected 391, for a
    regressor; 345 to 443, re-projected 451, for diffusion: FID of pictures).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray

from wmplan.contracts import IMAGINED_STEP_S, RASTER_HISTORY, WorldModel
from wmplan.randomness import NoiseBank, fold_in
from wmplan.raster import STRIDE
from wmplan.scene import Future, Scene
from wmplan.statistics import Measure
from wmplan.validation.evidence import Evidence, imagine, observe
from wmplan.validation.features import features
from wmplan.validation.kid import SceneFeatures
from wmplan.validation.kid import summarise as kid_of
from wmplan.validation.later import carried, later
from wmplan.validation.layers import mean_of


@dataclass(frozen=True)
class Chunk:
    """Accuracy at each step of one chunk, and what KID compares at its end."""

    iou: Float64[ndarray, "T"]
    soft_iou: Float64[ndarray, "T"]
    features: SceneFeatures


@dataclass(frozen=True)
class SceneDrift:
    """One scene: the first chunk, and the second from the model's own frames and from the true ones."""

    scene_id: str
    group: str
    first: Chunk
    free: Chunk
    regrounded: Chunk


def measure_drift(model: WorldModel, scene: Scene, future: Future, noise: NoiseBank) -> SceneDrift:
    """Both chunks of one scene; the second goes on from the first sample.

    Raises:
        InputError: the log does not show the ego for both chunks.
    """
    first = imagine(model, observe(scene, future, model.grid, model.horizon), noise)
    after, rest, pose = later(scene, future, model.horizon * STRIDE)
    second = observe(after, rest, model.grid, model.horizon)
    own = torch.cat([first.raster.history[:, :4], torch.cat([first.occupancy[0], first.velocity[0]], dim=1)])
    own = carried(own[-RASTER_HISTORY:], model.grid, pose)
    seen = own[-1, 4] > 0.5
    second = replace(second, truth=_only(second.truth, seen))
    history = second.raster.history.clone()
    history[:, :4] = own[:, :4]
    raster = second.raster
    carried_on = replace(raster, history=history, digest=f"{raster.digest}/{first.raster.digest}/{model.digest}")
    again = NoiseBank(fold_in(noise.seed, "second chunk"), noise.samples)
    free = imagine(model, replace(second, raster=carried_on), again)
    grounded = imagine(model, second, again)
    return SceneDrift(scene.scene_id, scene.group, _chunk(first), _chunk(free), _chunk(grounded))


def summarise(rows: Sequence[SceneDrift], seed: int) -> list[Measure]:
    """IoU at the end of each chunk, the differences between them in the same scenes, and the KID of each."""
    ends = {
        name: np.array([getattr(row, name).soft_iou[-1] for row in rows]) for name in ("first", "free", "regrounded")
    }
    measures = [mean_of(f"soft_iou at the end, {name}", values, rows, seed) for name, values in ends.items()]
    measures.append(mean_of("drift: soft_iou, free minus regrounded", ends["free"] - ends["regrounded"], rows, seed))
    measures.append(mean_of("soft_iou, free minus first", ends["free"] - ends["first"], rows, seed))
    curves = [np.concatenate([row.first.soft_iou, row.free.soft_iou]) for row in rows]
    lives = [half_life_s(curve) for curve in curves]
    measures.append(mean_of("half-life, s, of those that halve", lives, rows, seed))
    measures.append(mean_of("halved within both chunks", [float(np.isfinite(life)) for life in lives], rows, seed))
    growth = [error_growth(1.0 - curve) for curve in curves]
    measures.append(mean_of("growth of log error after 3 s, 1/s", growth, rows, seed))
    for name in ("first", "free", "regrounded"):
        measures += kid_of([getattr(row, name).features for row in rows], seed, f"occ_kid at the end, {name}")
    return measures


def half_life_s(accuracy: Float[ndarray, "T"], step_s: float = IMAGINED_STEP_S) -> float:
    """The first time at which the accuracy is below half of its first value; NaN where it never is, or has none.

    A step without a value (nobody was there) is passed over.
    """
    known = np.flatnonzero(np.isfinite(accuracy))
    if not len(known) or accuracy[known[0]] <= 0.0:
        return math.nan
    below = known[accuracy[known] < 0.5 * accuracy[known[0]]]
    return float(step_s * (below[0] + 1)) if len(below) else math.nan


def error_growth(error: Float[ndarray, "T"], after_s: float = 3.0, step_s: float = IMAGINED_STEP_S) -> float:
    """Slope of the logarithm of the error from `after_s` on, per second, by least squares; NaN below two values."""
    times = step_s * (1 + np.arange(len(error)))
    kept = (times >= after_s) & np.isfinite(error) & (error > 0.0)
    if kept.sum() < 2:
        return math.nan
    return float(np.polyfit(times[kept], np.log(error[kept]), 1)[0])


def _chunk(evidence: Evidence) -> Chunk:
    """The first sample throughout: the second chunk goes on from it."""
    truth, sample = evidence.truth, evidence.occupancy[0]
    observed = (truth[:, 4] > 0.5).double()
    p, y = ((x[:, :2].amax(1).double() * observed) for x in (sample, truth))
    hard, soft = (
        _shares(a, b) for a, b in (((p > 0.5) & (y > 0.5), (p > 0.5) | (y > 0.5)), (p.minimum(y), p.maximum(y)))
    )
    mask = observed[-1].float()
    ends = [
        features(frame[None, :2] * mask, speed[None] * mask, evidence.grid.cell)[0]
        for frame, speed in ((truth[-1, :2], truth[-1, 2:4]), (sample[-1], evidence.velocity[0, -1]))
    ]
    found = SceneFeatures(evidence.scene_id, evidence.group, evidence.seconds[-1], ends[0], ends[1])
    return Chunk(hard, soft, found)


def _shares(part: torch.Tensor, whole: torch.Tensor) -> Float64[ndarray, "T"]:
    a, b = (x.double().sum((-1, -2)).numpy() for x in (part, whole))
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0.0)


def _only(truth: Float[torch.Tensor, "T 5 H W"], seen: torch.Tensor) -> Float[torch.Tensor, "T 5 H W"]:
    """The truth, of which only these cells count as observed."""
    kept = truth.clone()
    kept[:, 4] *= seen
    return kept
