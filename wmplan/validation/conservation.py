"""L3, mass, overlap, off-road: does occupancy appear from nowhere, pass through itself, leave the road?

`mass change` is |mass in the inner window - mass that flows there from the frame before| over the latter, where every
cell flows by its own velocity; the outer 8 m give and take what the log cannot know. `overlap` is the share of mass
that flows to where there is no room (occupancy above 1). `off-road` is the share of vehicle mass on what is not
drivable. Each is compared with the same figure of the truth: the gate is at most 1 percentage point above it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, Grid
from wmplan.models.warp import cell_centres, splat
from wmplan.raster import OCCUPIED
from wmplan.statistics import Measure
from wmplan.validation.evidence import Evidence
from wmplan.validation.layers import Gate, Layer, mean_of

EXCESS = Gate(at_most=0.01)
BAND_M = 8.0
LEAST_M2 = 4.0
"""With less occupancy than a car's, relative changes mean nothing."""
NAMES = ("mass change", "overlap", "off-road")


@dataclass(frozen=True)
class SceneConservation:
    """One scene: the three figures of the imagination (means over samples and steps) and of the truth; NaN where there
    is too little of anything, or no map."""

    scene_id: str
    group: str
    imagined: Float64[ndarray, "3"]
    true: Float64[ndarray, "3"]


def measure_conservation(evidence: Evidence) -> SceneConservation:
    """The figures of one scene."""
    present, drivable = evidence.raster.history[-1, :4], evidence.raster.static[0]
    futures = torch.cat([evidence.occupancy, evidence.velocity], dim=2)
    samples = np.array([_figures(present, future, drivable, evidence.grid) for future in futures])
    known = np.isfinite(samples)
    count = known.sum(0)
    imagined = np.where(count > 0, np.where(known, samples, 0.0).sum(0) / np.maximum(count, 1), np.nan)
    true = np.array(_figures(present, evidence.truth[:, :4], drivable, evidence.grid))
    return SceneConservation(evidence.scene_id, evidence.group, imagined, true)


def summarise(rows: Sequence[SceneConservation], seed: int) -> list[Measure]:
    """Each figure, and how far it lies above the truth's in the same scenes."""
    measures = []
    for i, name in enumerate(NAMES):
        imagined, true = (np.array([getattr(row, side)[i] for row in rows]) for side in ("imagined", "true"))
        measures.append(mean_of(name, imagined, rows, seed))
        measures.append(mean_of(f"{name}, above true", imagined - true, rows, seed, EXCESS))
    return measures


def mass_curve(evidence: Evidence) -> Float64[ndarray, "T"]:
    """Imagined occupancy of the inner window (mean over samples) over the true one, step by step; NaN without any."""
    inner = _inner(evidence.grid)
    imagined, true = (float_sum(x[..., inner]) for x in (evidence.mean, evidence.truth[:, :2]))
    enough = true * evidence.grid.cell**2 >= LEAST_M2
    return np.where(enough, imagined / np.maximum(true, 1e-9), np.nan)


def float_sum(frames: Float[Tensor, "T 2 N"]) -> Float64[ndarray, "T"]:
    """The sum of each frame, in double precision."""
    total: Float64[ndarray, "T"] = frames.double().sum((-1, -2)).numpy()
    return total


LAYER = Layer("L3 conservation", measure_conservation, summarise)


def _figures(
    present: Float[Tensor, "4 H W"], future: Float[Tensor, "T 4 H W"], drivable: Float[Tensor, "H W"], grid: Grid
) -> tuple[float, float, float]:
    frames = torch.cat([present[None], future])
    inner, area = _inner(grid), grid.cell**2
    change, twice = [], []
    for before, after in pairwise(frames):
        flowed = _flow(before, grid)
        arrives = float(flowed[inner].sum())
        if arrives * area >= LEAST_M2:
            change.append(abs(float(after[:2].sum(0)[inner].sum()) - arrives) / arrives)
        total = float(flowed.sum())
        if total * area >= LEAST_M2:
            twice.append(float((flowed - 1.0).clamp(min=0.0).sum()) / total)
    vehicles = future[:, 0]
    mass = float(vehicles.sum())
    mapped = mass * area >= LEAST_M2 and float(drivable.max()) > 0.5
    off = float((vehicles * (1.0 - drivable)).sum()) / mass if mapped else math.nan
    return _mean(change), _mean(twice), off


def _flow(frame: Float[Tensor, "4 H W"], grid: Grid) -> Float[Tensor, "H W"]:
    """Where the occupancy of both kinds is half a second later, summed where it meets."""
    mass = frame[:2].sum(0)
    occupied = mass > OCCUPIED
    positions = cell_centres(grid)[occupied] + IMAGINED_STEP_S * frame[2:][:, occupied].T
    return splat(positions, mass[occupied][:, None], grid)[0]


def _inner(grid: Grid) -> Tensor:
    band = round(BAND_M / grid.cell)
    inner = torch.zeros(grid.rows, grid.cols, dtype=torch.bool)
    inner[band:-band, band:-band] = True
    return inner


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
