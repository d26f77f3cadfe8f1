"""How well a score finds what is rare: the area under the precision-recall curve."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray

from wmplan.statistics.measure import Measure


def average_precision(labels: Bool[ndarray, "N"], scores: Float[ndarray, "N"]) -> Measure:
    """Sum over the distinct scores, highest first, of the gain in recall times the precision there; 1 is best.

    Equal scores are taken together, so the order of the input never matters. A score without skill gets the share of
    positives.

    Raises:
        ValueError: if a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError(f"average_precision: scores[{int(np.flatnonzero(np.isnan(scores))[0])}] is NaN")
    positives = int(labels.sum())
    if not positives:
        return Measure(math.nan, len(labels), "no positives")
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    hits = np.cumsum(labels[order])[last]
    return Measure(float((np.diff(hits, prepend=0) / positives) @ (hits / (last + 1))), len(labels))


def average_precisions(
    labels: Bool[ndarray, "B C N"], scores: Float[ndarray, "B C N"], counted: Bool[ndarray, "B C N"]
) -> Float64[ndarray, "B C"]:
    """`average_precision` of the counted items of each row; NaN where a row has no positives."""
    rows = np.empty(labels.shape[:2])
    for row in np.ndindex(rows.shape):
        rows[row] = average_precision(labels[row][counted[row]], scores[row][counted[row]]).value
    return rows
