"""Frame-rate preflight, before any training: are futures of like presents alike, and at which stride no longer?

For each scene the k scenes most like it at t0 (traffic, its velocities, what the ego does next; never of its own group)
and how different their futures are, over how different those of any two scenes are: near 0 the present decides, 1 it
tells nothing. What grows with the stride is what a deterministic model cannot know at that stride; where nothing grows,
neither more samples nor a slower frame rate will show more than one future (`reference/seed_inventory.md`, row 18:
0.742 to 0.708 at 2 Hz).

It needs many scenes: with few, neighbours are not alike, and every ratio is near 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor

from wmplan.raster import STRIDE
from wmplan.statistics import Measure
from wmplan.validation.evidence import Observed
from wmplan.validation.layers import mean_of

NEIGHBOURS = 5
POOL_M = 4.0
STRIDES = (1, 2, 4, 6)
"""Imagined steps ahead, 0.5 s each."""


@dataclass(frozen=True)
class ScenePresent:
    """What a scene is like at t0, and how its occupancy has changed at each stride."""

    group: str
    present: Float64[ndarray, "F"]
    change: Float64[ndarray, "S P"]


def measure_present(observed: Observed) -> ScenePresent:
    """Descriptors of one scene; no model takes part."""
    cell, now = observed.raster.grid.cell, observed.raster.history[-1, :4]
    moving = now[2:4] * now[:2].amax(0) / 10.0
    action = observed.plan.states[0, ::STRIDE, [0, 1, 3]].astype(np.float64).ravel() / 10.0
    present = np.concatenate([_pooled(torch.cat([now[:2], moving]), cell), action])
    base = _pooled(now[:2], cell)
    steps = [stride - 1 for stride in STRIDES]
    return ScenePresent(observed.group, present, np.stack([_pooled(observed.truth[s, :2], cell) - base for s in steps]))


def summarise(rows: Sequence[ScenePresent], seed: int, neighbours: int = NEIGHBOURS) -> list[Measure]:
    """The ratio at each stride; none with fewer groups than neighbours."""
    measures = []
    groups = np.array([row.group for row in rows])
    present = np.array([row.present for row in rows])
    apart = groups[:, None] != groups[None]
    away = np.where(apart, _squares(present), np.inf) if len(rows) else np.zeros((0, 0))
    for s, stride in enumerate(STRIDES):
        values = np.full(len(rows), np.nan)
        if len(set(groups)) > neighbours:
            future = np.sqrt(_squares(np.array([row.change[s] for row in rows])))
            nearest = np.argsort(away, axis=1)[:, :neighbours]
            usual = float(future[apart].mean())
            if usual > 0.0:
                values = np.take_along_axis(future, nearest, axis=1).mean(1) / usual
        measures.append(mean_of(f"spread of like presents, {stride * 0.5:g} s", values, rows, seed))
    return measures


def _pooled(planes: Float[Tensor, "C H W"], cell_m: float) -> Float64[ndarray, "F"]:
    side = max(1, round(POOL_M / cell_m))
    pooled: Float64[ndarray, "F"] = torch.nn.functional.avg_pool2d(planes.double()[:, None], side).flatten().numpy()
    return pooled


def _squares(x: Float64[ndarray, "N F"]) -> Float64[ndarray, "N N"]:
    norms = (x**2).sum(1)
    return np.maximum(norms[:, None] + norms[None] - 2.0 * x @ x.T, 0.0)
