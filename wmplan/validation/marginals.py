"""L2, marginals: Wasserstein-1 distances of speed, gap, time to collision and time headway, imagined against true.

Reported without a gate: marginals can be right while every pairing of them is wrong (`joint`, `conditional`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from wmplan.statistics import Measure
from wmplan.validation.encounters import LONGEST_GAP_M, LONGEST_S, Encounters, SceneEncounters, measure_encounters
from wmplan.validation.layers import Layer, share_of, statistic_of

RANGES = {
    "speed": (0.0, 40.0, "m/s"),
    "gap": (0.0, LONGEST_GAP_M, "m"),
    "ttc": (0.0, LONGEST_S, "s"),
    "thw": (0.0, LONGEST_S, "s"),
}
BINS = 800
"""Values are compared on so many places of their range: finer than anything a raster shows."""


def summarise(rows: Sequence[SceneEncounters], seed: int) -> list[Measure]:
    """W1 of each quantity, pooled over scenes, and how many values the imagination has for one true one."""
    measures = []
    for name, (low, high, unit) in RANGES.items():
        sides = [np.array([_counts(side, name, low, high) for side in both]).reshape(-1, BINS) for both in _both(rows)]
        distance = partial(_w1, width=(high - low) / BINS)
        measures.append(statistic_of(f"w1, {name}, {unit}", np.hstack(sides), distance, rows, seed))
        true, imagined = (side.sum(1) for side in sides)
        measures.append(share_of(f"number, {name}, imagined over true", imagined, true, rows, seed))
    return measures


LAYER = Layer("L2 marginals", measure_encounters, summarise)


def _both(rows: Sequence[SceneEncounters]) -> tuple[list[Encounters], list[Encounters]]:
    return [row.true for row in rows], [row.imagined for row in rows]


def _counts(found: Encounters, name: str, low: float, high: float) -> Float64[ndarray, "bins"]:
    values = np.clip(getattr(found, name), low, np.nextafter(high, low))
    return np.histogram(values, BINS, (low, high))[0].astype(np.float64)


def _w1(sums: Float64[ndarray, "R N"], width: float) -> Float64[ndarray, "R"]:
    """The area between the distribution functions."""
    totals, shares = [], []
    for side in (sums[:, :BINS], sums[:, BINS:]):
        totals.append(side.sum(1))
        shares.append(np.cumsum(side, axis=1) / np.maximum(totals[-1], 1.0)[:, None])
    known = (totals[0] > 0.0) & (totals[1] > 0.0)
    return np.where(known, width * np.abs(shares[0] - shares[1]).sum(1), np.nan)
