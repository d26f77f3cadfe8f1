"""Diversity: do M samples differ, and by as much as the forecast errs?

`spread` is the mean distance between two samples of one scene over the mean distance of a sample from the truth: 0 for
M copies, 1 when the truth is like one more sample, above 1 when samples differ more than they err. What a sampler loses
when steps are saved or guidance is raised: measure rows for each setting, then compare them (`against`). Distances are
between occupancies averaged over 2 m, so that a difference of less than that counts for little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S
from wmplan.statistics import Measure, paired_bootstrap
from wmplan.validation.evidence import Evidence
from wmplan.validation.layers import Layer, figure, groups_of, mean_of, share_of

POOL_M = 2.0
SECONDS = (1.0, 2.0, 3.0)


@dataclass(frozen=True)
class SceneDiversity:
    """One scene at each imagined step: mean squared distance between two samples (NaN for one sample), mean squared
    distance of a sample and of the nearest sample from the truth."""

    scene_id: str
    group: str
    between: Float64[ndarray, "T"]
    error: Float64[ndarray, "T"]
    nearest: Float64[ndarray, "T"]


def measure_diversity(evidence: Evidence) -> SceneDiversity:
    """Distances between the samples, and of the samples from the truth."""
    samples, truth = (_pooled(x, evidence.grid.cell) for x in (evidence.occupancy, evidence.truth[None, :, :2]))
    m = len(samples)
    away = ((samples - truth) ** 2).sum(-1).numpy()
    # The mean over pairs, from the variance: sum of squared deviations times 2 / (M - 1).
    scatter = ((samples - samples.mean(0)) ** 2).sum(-1).sum(0).numpy()
    between = 2.0 * scatter / (m - 1) if m > 1 else np.full(samples.shape[1], np.nan)
    return SceneDiversity(evidence.scene_id, evidence.group, between, away.mean(0), away.min(0))


def summarise(rows: Sequence[SceneDiversity], seed: int) -> list[Measure]:
    """Spread over error, and what the best of M saves, at each time; scenes pooled."""
    measures = []
    for seconds in SECONDS:
        t = round(seconds / IMAGINED_STEP_S) - 1
        between, error, nearest = (
            np.array([getattr(row, name)[t] for row in rows]) for name in ("between", "error", "nearest")
        )
        at = f"{seconds:g} s"
        kept = np.isfinite(between)
        some = [row for row, keep in zip(rows, kept) if keep]
        measures.append(share_of(f"spread over error, {at}", between[kept], error[kept], some, seed))
        measures.append(share_of(f"best of M over mean error, {at}", nearest, error, rows, seed))
        measures.append(mean_of(f"distance between samples, {at}", np.sqrt(between), rows, seed))
    return measures


def against(settings: Mapping[str, Sequence[SceneDiversity]], reference: str, seed: int) -> list[Measure]:
    """Distance between samples at 3 s of each setting (steps, guidance) minus that of the reference, same scenes.

    Raises:
        ValueError: a setting has other scenes than the reference.
    """
    t = round(SECONDS[-1] / IMAGINED_STEP_S) - 1
    measures = []
    first = settings[reference]
    for name, rows in settings.items():
        if [row.scene_id for row in rows] != [row.scene_id for row in first]:
            raise ValueError(f"against: {name} has other scenes than {reference}, expected the same in the same order")
        pair = [np.sqrt(np.array([row.between[t] for row in side])) for side in (rows, first)]
        interval = paired_bootstrap(pair[0], pair[1], seed, groups=groups_of(rows))
        known = int(np.isfinite(pair[0] - pair[1]).sum())
        measures.append(figure(f"distance between samples, 3 s, {name} minus {reference}", interval, known))
    return measures


LAYER = Layer("diversity", measure_diversity, summarise)


def _pooled(frames: Float[Tensor, "M T 2 H W"], cell_m: float) -> Float[Tensor, "M T P"]:
    """Occupied square metres of each pool, flattened, in double precision."""
    side = max(1, round(POOL_M / cell_m))
    m, t = frames.shape[:2]
    pooled = torch.nn.functional.avg_pool2d(frames.double().flatten(0, 2)[:, None], side) * (side * cell_m) ** 2
    return pooled.reshape(m, t, -1)
