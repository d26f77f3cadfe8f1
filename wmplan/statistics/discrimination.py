"""How well a score tells two classes apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.stats import rankdata

from wmplan.statistics.bootstrap import LEVEL, RESAMPLES, Interval, draw_counts, percentiles
from wmplan.statistics.measure import Measure


def auroc(labels: Bool[ndarray, "N"], scores: Float[ndarray, "N"]) -> Measure:
    """The chance that a random positive scores above a random negative; ties count half. Infinite scores are ranked.

    Raises:
        ValueError: if a score is NaN.
    """
    _check(scores)
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return Measure(math.nan, len(labels), f"{positives} positives and {negatives} negatives: both are needed")
    ranks = rankdata(scores)
    above = float(ranks[labels].sum()) - positives * (positives + 1) / 2.0
    return Measure(above / (positives * negatives), len(labels))


def auroc_interval(
    labels: Bool[ndarray, "N"],
    scores: Float[ndarray, "N"],
    scenes: Sequence[str],
    seed: int,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """AUROC with a scene bootstrap: all rows of a scene (or group) are drawn together.

    A resample without one of the classes has no AUROC and is left out.
    """
    value = auroc(labels, scores)
    names, members = np.unique(np.asarray(scenes), return_inverse=True)
    if not value.valid:
        return Interval(math.nan, math.nan, math.nan, len(names), value.reason)
    if len(names) < 2:
        return Interval(value.value, math.nan, math.nan, len(names), "one scene: no interval")
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    positive = labels[order].astype(np.float64)
    parts = []
    for counts in draw_counts(len(names), seed, resamples):
        for few in np.array_split(counts, max(1, counts.shape[0] * len(order) // 2_000_000)):
            weights = few[:, members[order]]
            up = np.add.reduceat(weights * positive, starts, axis=1)
            down = np.add.reduceat(weights * (1.0 - positive), starts, axis=1)
            below = np.cumsum(down, axis=1) - down
            pairs = up.sum(1) * down.sum(1)
            wins = (up * (below + 0.5 * down)).sum(1)
            parts.append(np.divide(wins, pairs, out=np.full_like(wins, np.nan), where=pairs > 0))
    draws = np.concatenate(parts)
    return percentiles(value.value, draws[~np.isnan(draws)], resamples, level, len(names))


def _check(scores: ndarray) -> None:
    if np.isnan(scores).any():
        raise ValueError(f"auroc: scores[{int(np.flatnonzero(np.isnan(scores))[0])}] is NaN, expected a number")
