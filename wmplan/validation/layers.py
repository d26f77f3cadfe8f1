"""What a layer of the instrument is, and how rows of scenes become figures with intervals and gates.

A layer measures one scene of one model into a row, then says all rows of that model as figures. Rows are drawn again
by groups of scenes, 1000 times, for 95 % intervals: scenes that share traffic are never taken for independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.statistics import Interval, Measure, bootstrap_mean, bootstrap_ratio
from wmplan.validation.evidence import Evidence


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
    values: Sequence[float] | Float[ndarray, "S"],
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
    parts: Sequence[float] | Float[ndarray, "S"],
    wholes: Sequence[float] | Float[ndarray, "S"],
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
