"""L1, occ-KID: are imagined frames of the same distribution as true ones? MMD^2, unbiased, of a frozen encoder.

The cubic kernel (x.y / d + 1)^3, 100 subsets of 50 scenes, one frame a scene. The encoder is `features.py`'s scattering
(nothing trained). It looks at one *sample* of a model: the mean over samples is another forecast, a blurred one.

References:
    Binkowski et al. (2018), Demystifying MMD GANs, section 4 (KID).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray

from wmplan.statistics import Interval, Measure
from wmplan.validation.discrepancy import Blocks, blocks, cubic, distance_of
from wmplan.validation.evidence import Evidence
from wmplan.validation.features import features
from wmplan.validation.layers import Layer, figure

SUBSETS = 100
SUBSET = 50
SECONDS = 3.0


@dataclass(frozen=True)
class SceneFeatures:
    """Features of the true and of one imagined frame of a scene, at the same time after t0."""

    scene_id: str
    group: str
    seconds: float
    true: Float64[ndarray, "F"]
    imagined: Float64[ndarray, "F"]


def measure_features(evidence: Evidence, seconds: float = SECONDS) -> SceneFeatures:
    """Features of the truth and of the first sample, `seconds` after t0."""
    step = evidence.seconds.index(seconds)
    occupancy = torch.stack([evidence.truth[step, :2], evidence.occupancy[0, step]])
    velocity = torch.stack([evidence.truth[step, 2:4], evidence.velocity[0, step]])
    true, imagined = features(occupancy, velocity, evidence.grid.cell)
    return SceneFeatures(evidence.scene_id, evidence.group, seconds, true, imagined)


def summarise(rows: Sequence[SceneFeatures], seed: int, metric: str = "occ_kid") -> list[Measure]:
    """The KID at the rows' time; none below 50 scenes."""
    name = f"{metric}, {rows[0].seconds:g} s" if rows else metric
    if len(rows) < SUBSET:
        reason = f"{len(rows)} scenes, {SUBSET} are needed for a subset"
        return [figure(name, Interval(math.nan, math.nan, math.nan, len(rows), reason), len(rows))]
    found = blocks(
        [row.true[None] for row in rows], [row.imagined[None] for row in rows], [row.group for row in rows], cubic
    )
    return [distance_of(name, found, rows, seed, value=_over_subsets(found, len(rows), seed))]


LAYER = Layer("L1 occ-KID", measure_features, summarise)


def _over_subsets(found: Blocks, scenes: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    chosen = np.zeros((SUBSETS, scenes))
    for row in chosen:
        row[rng.choice(scenes, SUBSET, replace=False)] = 1.0
    values = found.statistic(chosen)
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
