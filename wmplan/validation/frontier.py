"""The perception-distortion frontier: occ-KID (does it look like traffic?) against IoU (is it where it should be?).

A mean over futures wins every distortion and looks like no traffic; a sample looks like traffic and is wrong more
often. Points between them are mixtures of one sample with the mean, and the sample with its probabilities calibrated
on training scenes. A model is better than another only where it lies below and to the right.

References:
    Blau and Michaeli (2018), The perception-distortion tradeoff; `reference/seed_inventory.md`, rows 6 and 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wmplan.statistics import Measure
from wmplan.validation.calibration import tempered
from wmplan.validation.evidence import Evidence
from wmplan.validation.features import features
from wmplan.validation.kid import SECONDS, SceneFeatures
from wmplan.validation.kid import summarise as kid_of
from wmplan.validation.layers import Layer, mean_of

MIXTURES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Share of the mean; 0 is the sample, 1 the mean."""


@dataclass(frozen=True)
class Point:
    """One kind of forecast in one scene: what KID compares, and the IoU of everybody (NaN where nobody is)."""

    name: str
    features: SceneFeatures
    iou: float
    soft_iou: float


@dataclass(frozen=True)
class SceneFrontier:
    """All points of one scene."""

    group: str
    points: tuple[Point, ...]


def measure_frontier(evidence: Evidence, temperature: float = 1.0, seconds: float = SECONDS) -> SceneFrontier:
    """The first sample, its mixtures with the mean over samples, and the sample and the mean at the temperature."""
    step = evidence.seconds.index(seconds)
    sample, mean = evidence.occupancy[0, step], evidence.mean[step]
    slow, fast = evidence.velocity[:, step].mean(0), evidence.velocity[0, step]
    truth, cell = evidence.truth[step], evidence.grid.cell
    forecasts = {
        f"mixture {share:g}": (sample + share * (mean - sample), fast + share * (slow - fast)) for share in MIXTURES
    }
    forecasts["calibrated sample"] = (tempered(sample, temperature), fast)
    forecasts["calibrated mean"] = (tempered(mean, temperature), slow)
    pictures = [(truth[:2], truth[2:4]), *forecasts.values()]
    occupancies, velocities = (torch.stack([picture[i] for picture in pictures]) for i in range(2))
    true, *told = features(occupancies, velocities, cell)
    points = []
    for (name, (occupancy, _)), imagined in zip(forecasts.items(), told):
        found = SceneFeatures(evidence.scene_id, evidence.group, seconds, true, imagined)
        points.append(Point(name, found, *_ious(occupancy, truth)))
    return SceneFrontier(evidence.group, tuple(points))


def summarise(rows: Sequence[SceneFrontier], seed: int) -> list[Measure]:
    """KID, IoU and soft IoU of every point."""
    measures = []
    for p, point in enumerate(rows[0].points if rows else ()):
        of = [row.points[p] for row in rows]
        measures += kid_of([one.features for one in of], seed, f"occ_kid, {point.name}")
        measures.append(mean_of(f"iou, {point.name}", [one.iou for one in of], rows, seed))
        measures.append(mean_of(f"soft_iou, {point.name}", [one.soft_iou for one in of], rows, seed))
    return measures


def layer(temperature: float = 1.0) -> Layer[SceneFrontier]:
    """The layer with this temperature, fitted on training scenes."""
    return Layer("frontier", lambda evidence: measure_frontier(evidence, temperature), summarise)


def _ious(forecast: Tensor, truth: Tensor) -> tuple[float, float]:
    observed = truth[4] > 0.5
    p, y = (x[:2].amax(0).double() * observed for x in (forecast, truth))
    pairs = (((p > 0.5) & (y > 0.5), (p > 0.5) | (y > 0.5)), (p.minimum(y), p.maximum(y)))
    hard, soft = (float(a.double().sum() / b.double().sum()) if float(b.sum()) else np.nan for a, b in pairs)
    return hard, soft
