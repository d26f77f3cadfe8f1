"""L1, decision-relevant prediction error: is the forecast right where a decision looks, and are its verdicts right?

`drpe` is the Brier score on the cells within 2 m of any candidate's swept path, weighted by 1 / (1 + seconds until the
first candidate gets there). `flip_rate` is the share of (scene, candidate) whose collision verdict on imagined
occupancy differs from that on the true roll, both read by the same critic from the same rasters.

On a log the true roll is what followed, whichever candidate is judged; with a road that reacts (`measure_flips`) it is
each candidate's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, Context, Critic, Grid, Imagined, SceneRaster
from wmplan.plans import Plans, Start
from wmplan.raster import swept_footprints
from wmplan.statistics import Measure
from wmplan.validation.evidence import Evidence, Observed
from wmplan.validation.layers import Gate, Layer, share_of

NEAR_M = 2.0
FLIPS = Gate(at_most=0.03)
ACCELS_MPS2 = (-4.0, -2.0, 0.0, 1.5)
SIDEWAYS_M = (-2.0, 0.0, 2.0)
COLUMN = "no_collision"
"""The critic's column that holds the verdict: the share of samples without an at-fault contact."""


@dataclass(frozen=True)
class Flips:
    """Of a scene's candidates: how many are judged, how many collide in truth, which verdicts differ and how."""

    candidates: int
    collide: int
    missed: int
    """collide in truth, not in the imagination"""
    invented: int
    """collide in the imagination, not in truth"""


@dataclass(frozen=True)
class SceneDecisions:
    """One scene: weighted squared error and weight near the candidates' paths, and the verdicts."""

    scene_id: str
    group: str
    error: float
    weight: float
    flips: Flips


def candidates(observed: Observed) -> Plans:
    """What might have been done instead: the executed plan with its acceleration and its way to the side changed.

    Twelve plans: 4 changes of acceleration, held for the whole plan, by 3 places to the side at its end.
    """
    plan, speed = observed.plan, float(observed.plan.states[0, 0, 3])
    moved = float(np.hypot(*np.diff(plan.states[0, :, :2].astype(np.float64), axis=0).T).sum())
    rows = []
    for accel in ACCELS_MPS2:
        for aside in SIDEWAYS_M:
            # A turn held over a distance s ends s^2 / 2 times its curvature to the side.
            bend = np.clip(2.0 * aside / max(moved, 5.0) ** 2, -0.1, 0.1)
            rows.append(plan.controls[0].astype(np.float64) + np.array([accel, bend]))
    return Plans.from_controls(np.array(rows), speed)


def measure_decisions(evidence: Evidence, pool: Plans, critic: Critic) -> SceneDecisions:
    """Error near the paths of the pool, and its verdicts, given what the ego did and what followed."""
    forecast, truth = evidence.mean.amax(1).double(), evidence.truth[:, :2].amax(1).double()
    weight = relevance(pool, evidence.raster.start, evidence.grid) * (evidence.truth[:, 4] > 0.5)
    error = float((weight * (forecast - truth) ** 2).sum())
    k, grid = len(pool), evidence.grid
    frames = _for_all(evidence.occupancy, evidence.velocity, k, grid)
    followed = _for_all(evidence.truth[None, :, :2], evidence.truth[None, :, 2:4], k, grid)
    flips = measure_flips(evidence.raster, pool, frames, followed, critic)
    return SceneDecisions(evidence.scene_id, evidence.group, error, float(weight.sum()), flips)


def measure_flips(raster: SceneRaster, pool: Plans, imagined: Imagined, truth: Imagined, critic: Critic) -> Flips:
    """The verdicts on each candidate's imagined and true future; a candidate without a finite verdict is left out."""
    thinks, knows = (_collides(critic, raster, pool, frames) for frames in (imagined, truth))
    judged = np.isfinite(thinks) & np.isfinite(knows)
    a, b = thinks[judged] > 0.5, knows[judged] > 0.5
    return Flips(int(judged.sum()), int(b.sum()), int((b & ~a).sum()), int((a & ~b).sum()))


def relevance(pool: Plans, start: Start, grid: Grid) -> Float[Tensor, "H W"]:
    """1 / (1 + seconds until a candidate comes within 2 m) of each cell, 0 where none ever does."""
    swept = swept_footprints(pool, start, grid).amax(0).numpy() > 0.5
    weight = np.zeros(swept.shape[1:])
    for t in range(len(swept)):
        if not swept[t].any():
            continue
        near = distance_transform_edt(~swept[t]) * grid.cell <= NEAR_M
        # A swept window of half a second is entered at its beginning.
        weight = np.maximum(weight, near / (1.0 + t * IMAGINED_STEP_S))
    return torch.from_numpy(weight)


def summarise(rows: Sequence[SceneDecisions], seed: int) -> list[Measure]:
    """Weighted Brier score and flip rate, scenes pooled; the flips also by kind, over the verdicts of that kind."""
    flips = [row.flips for row in rows]
    n = [one.candidates for one in flips]
    collide = [one.collide for one in flips]
    clear = [one.candidates - one.collide for one in flips]
    wrong = [one.missed + one.invented for one in flips]
    return [
        share_of("drpe", [row.error for row in rows], [row.weight for row in rows], rows, seed),
        share_of("flip_rate", wrong, n, rows, seed, FLIPS),
        share_of("flip_rate, of those that collide", [one.missed for one in flips], collide, rows, seed),
        share_of("flip_rate, of those that do not", [one.invented for one in flips], clear, rows, seed),
        share_of("collide_in_truth", collide, n, rows, seed),
    ]


def layer(critic: Critic) -> Layer[SceneDecisions]:
    """The layer that judges by this critic, on `candidates` of each scene."""

    def measure(evidence: Evidence) -> SceneDecisions:
        return measure_decisions(evidence, candidates(evidence.observed), critic)

    return Layer("L1 decisions", measure, summarise)


def _collides(critic: Critic, raster: SceneRaster, pool: Plans, frames: Imagined) -> Float64[ndarray, "K"]:
    terms = critic.terms(Context(raster, None), pool, frames)
    return 1.0 - terms.column(COLUMN).astype(np.float64)


def _for_all(
    occupancy: Float[Tensor, "M T 2 H W"], velocity: Float[Tensor, "M T 2 H W"], k: int, grid: Grid
) -> Imagined:
    """The same futures for each of k candidates, expanded and not copied."""
    occupancy, velocity = (part.expand(k, *part.shape) for part in (occupancy, velocity))
    return Imagined(occupancy, velocity, torch.zeros(*occupancy.shape[:3], 0), grid)
