"""Intervals for a mean besides the bootstrap: Student's t, two that hold for every bounded law, prediction-powered.

All are two-sided and take independent values, one a scene. Where scenes share traffic use the bootstrap with groups
(the prediction-powered one takes groups itself).
A range is part of how a reward is defined and has to be stated; it is never read off the sample.

References:
    Hoeffding (1963); Maurer and Pontil (2009), theorem 4 (empirical Bernstein); Angelopoulos et al. (2023),
    prediction-powered inference, and (2024), PPI++, for its tuned weight; Satterthwaite (1946).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.stats import t as student

from wmplan.statistics.bootstrap import LEVEL, Interval


def student_t(values: Float[ndarray, "S"], *, level: float = LEVEL) -> Interval:
    """mean +- t(1 - alpha/2, n - 1) s / sqrt(n): exact for normal values, and nearly so for many others.

    Raises:
        ValueError: if a value is not finite.
    """
    _check_finite("student_t", values)
    if len(values) < 2:
        return _none(values, "expected 2 scenes or more")
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return _around(float(values.mean()), _quantile(level, float(len(values) - 1)) * error, len(values))


def hoeffding(values: Float[ndarray, "S"], *, low: float, high: float, level: float = LEVEL) -> Interval:
    """mean +- (high - low) sqrt(ln(2/alpha) / (2n)), where every possible value lies in [low, high].

    Covers at least `level` for every law on that range, and usually much more.

    Raises:
        ValueError: if the range is empty, or a value lies outside of it.
    """
    _check_range("hoeffding", values, low, high)
    if not len(values):
        return _none(values, "expected a scene or more")
    half = (high - low) * math.sqrt(math.log(2.0 / (1.0 - level)) / (2.0 * len(values)))
    return _around(float(values.mean()), half, len(values))


def empirical_bernstein(values: Float[ndarray, "S"], *, low: float, high: float, level: float = LEVEL) -> Interval:
    """mean +- (R 7 ln(2/d) / (3(n - 1)) + sqrt(2 var ln(2/d) / n)), R = high - low, d = alpha/2 on each side.

    Covers at least `level` for every law on the range; shorter than Hoeffding's where the variance is small against
    the range and n is large.

    Raises:
        ValueError: if the range is empty, or a value lies outside of it.
    """
    _check_range("empirical_bernstein", values, low, high)
    n = len(values)
    if n < 2:
        return _none(values, "expected 2 scenes or more")
    log = math.log(2.0 / (0.5 * (1.0 - level)))
    half = (high - low) * 7.0 * log / (3.0 * (n - 1)) + math.sqrt(2.0 * float(values.var(ddof=1)) * log / n)
    return _around(float(values.mean()), half, n)


def prediction_powered(
    imagined: Float[ndarray, "N"],
    imagined_executed: Float[ndarray, "S"],
    real: Float[ndarray, "S"],
    *,
    weight: float | None = 1.0,
    groups: tuple[Sequence[str], Sequence[str]] | None = None,
    level: float = LEVEL,
) -> Interval:
    """The mean real outcome, from few executed scenes (`imagined_executed` and `real`, in one order) and many that were
    only imagined (`imagined`; none of the executed ones among them): w mean_N f + mean_n(y - w f).

    Holds whatever the bias of the imagination is: a bad one only makes it wide. `weight` is w; None = `tuned_weight`,
    with which it is about never wider than the executed scenes alone (w = 0). `groups` names what each imagined and
    each executed scene shares its traffic with: errors are then summed by group before they are squared, for a group
    may have scenes of both kinds. `count` is the number of executed scenes.

    Raises:
        ValueError: if a value is not finite.
    """
    for part in (imagined, imagined_executed, real):
        _check_finite("prediction_powered", part)
    n, many = len(real), len(imagined)
    fitted = int(weight is None)  # a weight read off the executed scenes costs one of them
    if n < 2 + fitted or many < 2:
        return _none(real, f"and {many} imagined ones, expected {2 + fitted} and 2 or more")
    w = tuned_weight(imagined, imagined_executed, real) if weight is None else weight
    rest = real - w * imagined_executed
    value = w * float(imagined.mean()) + float(rest.mean())
    parts = np.array([w**2 * float(imagined.var(ddof=1)) / many, float(rest.var(ddof=1 + fitted)) / n])
    counts = np.array([many, n])
    total = float(parts.sum())
    if groups is not None:
        total, counts = _by_group(w * imagined, rest, groups, fitted)
        if (counts < [2, 2 + fitted]).any():
            return _none(real, f"of {counts[1]} groups, expected {2 + fitted} or more")
    if total == 0.0:
        return Interval(value, value, value, n)
    left = counts - [1, 1 + fitted]
    freedom = parts.sum() ** 2 / float((parts**2 / left).sum()) if parts.any() else float(left.min())
    return _around(value, _quantile(level, freedom) * math.sqrt(total), n)


def tuned_weight(
    imagined: Float[ndarray, "N"], imagined_executed: Float[ndarray, "S"], real: Float[ndarray, "S"]
) -> float:
    """cov(y, f) / (var(f) (1 + n/N)), estimated: the weight that makes `prediction_powered` shortest (PPI++). 0 where
    imagination says nothing, N / (n + N) where it is the truth."""
    spread = float(np.concatenate([imagined, imagined_executed]).var(ddof=1))
    if spread == 0.0:
        return 0.0
    return float(np.cov(real, imagined_executed)[0, 1]) / (spread * (1.0 + len(real) / len(imagined)))


def _by_group(
    imagined: ndarray, rest: ndarray, groups: tuple[Sequence[str], Sequence[str]], fitted: int
) -> tuple[float, Int[ndarray, "2"]]:
    """The variance of the sum of both means where groups are drawn and not scenes; how many groups each side has."""
    sides = [
        (part - part.mean()) / math.sqrt(len(part) * (len(part) - lost))
        for part, lost in ((imagined, 1), (rest, 1 + fitted))
    ]
    members = np.unique(np.concatenate([np.asarray(side) for side in groups]), return_inverse=True)[1]
    sums = np.bincount(members, np.concatenate(sides))
    counts = np.array([len(set(side)) for side in groups])
    scenes = np.array([len(part) for part in (imagined, rest)])
    # With every scene a group of its own nothing is added; with few groups what G - 1 in place of n - 1 adds.
    few = float(((scenes - 1) / scenes * counts / np.maximum(counts - 1, 1)).max())
    return float((sums**2).sum()) * few, counts


def _around(value: float, half: float, count: int) -> Interval:
    return Interval(value, value - half, value + half, count)


def _none(values: ndarray, expected: str) -> Interval:
    value = float(values.mean()) if len(values) else math.nan
    return Interval(value, math.nan, math.nan, len(values), f"{len(values)} scenes, {expected}: no interval")


def _quantile(level: float, freedom: float) -> float:
    return float(student.ppf((1.0 + level) / 2.0, freedom))


def _check_finite(name: str, values: ndarray) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: values[{int(np.flatnonzero(~np.isfinite(values))[0])}] is not finite")


def _check_range(name: str, values: ndarray, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{name}: range [{low}, {high}], expected two finite numbers, the first below the second")
    _check_finite(name, values)
    outside = np.flatnonzero((values < low) | (values > high))
    if len(outside):
        i = int(outside[0])
        raise ValueError(f"{name}: values[{i}] is {values[i]:g}, expected a value in the stated [{low:g}, {high:g}]")
