"""Metrics of agreement of many resamples at once: row by row what `wmplan.statistics` says of each alone.

A thousand resamples of every estimator, score, truth and metric take minutes one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.stats import rankdata

Batched = Callable[[Float[ndarray, "R P"], Float[ndarray, "R P"]], Float[ndarray, "R"]]


def batched(metric: str, estimate: Float[ndarray, "R P"], real: Float[ndarray, "R P"]) -> Float[ndarray, "R"]:
    """The metric of each row, NaN where a side has no order or holds what is no number.

    Raises:
        KeyError: no such metric.
    """
    usable = _ordered(estimate) & _ordered(real)
    found = np.full(len(estimate), np.nan)
    if usable.any():
        found[usable] = _BATCHED[metric](estimate[usable], real[usable])
    return found


def _ordered(rows: Float[ndarray, "R P"]) -> Bool[ndarray, "R"]:
    if rows.shape[1] < 2:
        return np.zeros(len(rows), dtype=bool)
    return np.isfinite(rows).all(1) & (rows != rows[:, :1]).any(1)


def _pearson(estimate: ndarray, real: ndarray) -> ndarray:
    a, b = (side - side.mean(1, keepdims=True) for side in (estimate, real))
    with np.errstate(invalid="ignore", divide="ignore"):
        value = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.clip(value, -1.0, 1.0)


def _spearman(estimate: ndarray, real: ndarray) -> ndarray:
    return _pearson(rankdata(estimate, axis=1), rankdata(real, axis=1))


def _kendall(estimate: ndarray, real: ndarray) -> ndarray:
    a, b = (np.sign(side[:, :, None] - side[:, None]) for side in (estimate, real))
    return (a * b).sum((1, 2)) / np.sqrt((a**2).sum((1, 2)) * (b**2).sum((1, 2)))


def _mmrv(estimate: ndarray, real: ndarray) -> ndarray:
    misordered = (estimate[:, :, None] > estimate[:, None]) != (real[:, :, None] > real[:, None])
    return (np.abs(real[:, :, None] - real[:, None]) * misordered).max(2).mean(1)


def _regret_at_1(estimate: ndarray, real: ndarray) -> ndarray:
    """Who is chosen among ties is drawn: the mean of what they are worth."""
    top = estimate == estimate.max(1, keepdims=True)
    chosen = np.where(top, real, 0.0).sum(1) / top.sum(1)
    best = real.max(1)
    return np.maximum(best - chosen, 0.0) / (best - real.min(1))


_BATCHED: dict[str, Batched] = {
    "spearman": _spearman,
    "pearson": _pearson,
    "kendall": _kendall,
    "mmrv": _mmrv,
    "regret_at_1": _regret_at_1,
}
