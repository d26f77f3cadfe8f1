"""Percentile bootstrap over scenes: means, ratios of sums, paired differences, any statistic of a sample.

Scenes are the unit that is drawn again. Where several scenes share traffic (`groups`), whole groups are drawn: windows
that overlap are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

RESAMPLES = 1000
LEVEL = 0.95
_CHUNK = 2_000_000
"""Numbers held at once while resampling."""


@dataclass(frozen=True)
class Interval:
    """A figure with its interval. Without one `low` and `high` are NaN, and `reason` says why."""

    value: float
    low: float
    high: float
    count: int
    """scenes (or groups of scenes) that it rests on"""
    reason: str = ""

    @property
    def valid(self) -> bool:
        """Whether there is a figure and an interval."""
        return math.isfinite(self.value) and math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero; False where there is none."""
        return self.low > 0.0 or self.high < 0.0


def bootstrap_mean(
    values: Float[ndarray, "S"],
    seed: int,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """The mean over scenes. NaN means that a scene has no value; it is left out, and `count` tells how many stayed."""
    kept = ~np.isnan(values)
    chosen = None if groups is None else np.asarray(groups)[kept].tolist()
    return bootstrap_ratio(
        values[kept], np.ones(int(kept.sum())), seed, groups=chosen, resamples=resamples, level=level
    )


def paired_bootstrap(
    first: Float[ndarray, "S"],
    second: Float[ndarray, "S"],
    seed: int,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """The mean of `first - second` over the scenes where both have a value (the others are NaN in either)."""
    return bootstrap_mean(first - second, seed, groups=groups, resamples=resamples, level=level)


def bootstrap_ratio(
    numerators: Float[ndarray, "S"],
    denominators: Float[ndarray, "S"],
    seed: int,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """The sum of numerators over the sum of denominators, scenes pooled, scenes drawn again.

    Raises:
        ValueError: if an input is not finite.
    """
    for name, part in (("numerators", numerators), ("denominators", denominators)):
        if not np.isfinite(part).all():
            raise ValueError(f"bootstrap_ratio: {name}[{int(np.flatnonzero(~np.isfinite(part))[0])}] is not finite")
    if groups is not None:
        members = np.unique(np.asarray(groups), return_inverse=True)[1]
        numerators, denominators = np.bincount(members, numerators), np.bincount(members, denominators)
    count = len(numerators)
    total = float(np.sum(denominators))
    if count == 0 or total == 0.0:
        return Interval(math.nan, math.nan, math.nan, count, "no scene has a value")
    value = float(np.sum(numerators)) / total
    if count == 1:
        return Interval(value, math.nan, math.nan, 1, "one scene: no interval")
    stacked = np.stack([numerators, denominators], axis=1)
    draws = np.concatenate([counts @ stacked for counts in draw_counts(count, seed, resamples)])
    usable = draws[:, 1] != 0.0
    return percentiles(value, draws[usable, 0] / draws[usable, 1], resamples, level, count)


def paired_ratio_bootstrap(
    first: tuple[Float[ndarray, "S"], Float[ndarray, "S"]],
    second: tuple[Float[ndarray, "S"], Float[ndarray, "S"]],
    seed: int,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """The difference of two pooled ratios (numerators, denominators) over the same scenes, drawn together."""
    stacked = np.stack([*first, *second], axis=1)
    if not np.isfinite(stacked).all():
        raise ValueError(f"paired_ratio_bootstrap: row {int(np.argwhere(~np.isfinite(stacked))[0, 0])} is not finite")
    if groups is not None:
        members = np.unique(np.asarray(groups), return_inverse=True)[1]
        stacked = np.stack([np.bincount(members, column) for column in stacked.T], axis=1)
    count = len(stacked)
    sums = stacked.sum(0)
    if sums[1] == 0.0 or sums[3] == 0.0:
        return Interval(math.nan, math.nan, math.nan, count, "no scene has a value")
    value = float(sums[0] / sums[1] - sums[2] / sums[3])
    if count < 2:
        return Interval(value, math.nan, math.nan, count, "one scene: no interval")
    draws = np.concatenate([counts @ stacked for counts in draw_counts(count, seed, resamples)])
    draws = draws[(draws[:, 1] != 0.0) & (draws[:, 3] != 0.0)]
    return percentiles(value, draws[:, 0] / draws[:, 1] - draws[:, 2] / draws[:, 3], resamples, level, count)


def bootstrap_statistic(
    statistic: Callable[[Int[ndarray, "S"]], float],
    count: int,
    seed: int,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Any statistic of the rows 0..count-1, called with the rows of each resample; NaN results are left out.

    For what has no vectorised form here, such as a rank correlation over planners.
    """
    if count < 2:
        return Interval(math.nan, math.nan, math.nan, count, f"{count} items: no interval")
    rows = np.arange(count)
    value = float(statistic(rows))
    rng = np.random.default_rng(seed)
    draws = np.array([statistic(rng.integers(0, count, count)) for _ in range(resamples)], dtype=np.float64)
    return percentiles(value, draws[~np.isnan(draws)], resamples, level, count)


def minimum_detectable(differences: Float[ndarray, "S"], *, power: float = 0.8, level: float = LEVEL) -> float:
    """The smallest true mean difference that as many scenes would show with this power; NaN below two scenes.

    Normal approximation: (z_level + z_power) * standard error of the mean difference. NaN entries are left out.
    """
    kept = differences[~np.isnan(differences)]
    if len(kept) < 2:
        return math.nan
    normal = NormalDist()
    error = float(kept.std(ddof=1)) / math.sqrt(len(kept))
    return (normal.inv_cdf((1.0 + level) / 2.0) + normal.inv_cdf(power)) * error


def draw_counts(count: int, seed: int, resamples: int) -> Iterator[Float[ndarray, "R S"]]:
    """How often each item is drawn, resample by resample, in blocks that fit in memory."""
    rng = np.random.default_rng(seed)
    block = max(1, _CHUNK // count)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        picks = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(picks.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def percentiles(value: float, draws: ndarray, resamples: int, level: float, count: int) -> Interval:
    """The interval of these draws; none where fewer than half of all resamples have a value."""
    if len(draws) < resamples / 2:
        return Interval(value, math.nan, math.nan, count, f"only {len(draws)} of {resamples} resamples have a value")
    low, high = np.quantile(draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(value, float(low), float(high), count)
