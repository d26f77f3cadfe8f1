"""What a layer of the instrument is, and how rows of scenes become figures with intervals and gates.

A layer measures one scene of one model into a row, then says all rows of that model as figures. Rows are drawn again
by groups of scenes, 1000 times, for 95 % intervals: scenes that share traffic are never taken for independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray
from numpy.typing import ArrayLike

from wmplan.statistics import Interval, Measure, bootstrap_mean, bootstrap_ratio
from wmplan.statistics.bootstrap import LEVEL, RESAMPLES, draw_counts, percentiles
from wmplan.validation.evidence import Evidence

NOTHING = "no scene has a value"


@runtime_checkable
class OfScene(Protocol):
    """A row: what a layer found in one scene."""

    @property
    def group(self) -> str: ...


Row = TypeVar("Row", bound=OfScene)


@dataclass(frozen=True)
class Layer(Generic[Row]):
    """One part of the instrument. `measure` reads one scene of one model, `summarise(rows, seed)` all rows of one."""

    name: str
    measure: Callable[[Evidence], Row]
    summarise: Callable[[Sequence[Row], int], list[Measure]]


@dataclass(frozen=True)
class Gate:
    """Closed bounds that a figure has to keep. Gates are initial: `reference/evaluation.md`, section 4."""

    at_least: float = -math.inf
    at_most: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.at_least):
            return f"at most {self.at_most:g}"
        return f"at least {self.at_least:g}" if math.isinf(self.at_most) else f"{self.at_least:g} to {self.at_most:g}"

    def cleared(self, value: float) -> bool | None:
        """Whether the value keeps the bounds; None for NaN."""
        return None if math.isnan(value) else self.at_least <= value <= self.at_most


def figure(metric: str, interval: Interval, count: int, gate: Gate | None = None) -> Measure:
    """An interval as a figure of a table. `count` is the number of scenes that had a value."""
    return Measure(
        value=interval.value,
        count=count,
        reason=interval.reason,
        metric=metric,
        low=interval.low,
        high=interval.high,
        gate="" if gate is None else str(gate),
        cleared=None if gate is None else gate.cleared(interval.value),
    )


def mean_of(
    metric: str,
    values: ArrayLike,
    rows: Sequence[OfScene],
    seed: int,
    gate: Gate | None = None,
) -> Measure:
    """The mean over the scenes that have a value (the others are NaN)."""
    numbers = np.asarray(values, dtype=np.float64)
    interval = bootstrap_mean(numbers, seed, groups=groups_of(rows))
    return figure(metric, interval, int((~np.isnan(numbers)).sum()), gate)


def share_of(
    metric: str,
    parts: ArrayLike,
    wholes: ArrayLike,
    rows: Sequence[OfScene],
    seed: int,
    gate: Gate | None = None,
) -> Measure:
    """The sum of parts over the sum of wholes, scenes pooled; `count` is the number of scenes with a whole."""
    top, bottom = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    interval = bootstrap_ratio(top, bottom, seed, groups=groups_of(rows))
    return figure(metric, interval, int((bottom != 0.0).sum()), gate)


def groups_of(rows: Sequence[OfScene]) -> list[str]:
    """The group of each row."""
    return [row.group for row in rows]


def statistic_of(
    metric: str,
    sums: Float[ndarray, "S N"],
    of: Callable[[Float64[ndarray, "R N"]], Float64[ndarray, "R"]],
    rows: Sequence[OfScene],
    seed: int,
    gate: Gate | None = None,
) -> Measure:
    """A statistic of sums over scenes: `of` gets one row a resample, the scenes' numbers summed."""
    if not len(rows):
        return figure(metric, Interval(math.nan, math.nan, math.nan, 0, NOTHING), 0, gate)
    groups = np.unique(groups_of(rows), return_inverse=True)[1]
    added = np.zeros((groups.max() + 1, sums.shape[1]))
    np.add.at(added, groups, np.asarray(sums, dtype=np.float64))
    interval = resampled(lambda counts: of(counts @ added), len(added), seed)
    return figure(metric, interval, len(rows), gate)


def resampled(of: Callable[[Float64[ndarray, "R G"]], Float64[ndarray, "R"]], groups: int, seed: int) -> Interval:
    """Any statistic of how often each of the groups is drawn: `of` gets one row a resample, all ones for the value.

    Resamples where it is NaN are left out.
    """
    value = float(of(np.ones((1, groups)))[0])
    if math.isnan(value):
        return Interval(value, math.nan, math.nan, groups, NOTHING)
    if groups < 2:
        return Interval(value, math.nan, math.nan, groups, "one scene: no interval")
    found = np.concatenate([of(counts) for counts in draw_counts(groups, seed, RESAMPLES)])
    return percentiles(value, found[~np.isnan(found)], RESAMPLES, LEVEL, groups)
