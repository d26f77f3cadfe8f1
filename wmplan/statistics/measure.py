"""A figure that may not exist: its value, how many items it rests on, and why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One figure. Where it cannot be computed `value` is NaN and `reason` says why: never a silent 0 or 1.

    A figure of a table also has its name, its interval (NaN where there is none), the gate that it has to pass in
    words, and whether it does (None where there is no gate or no figure).
    """

    value: float
    count: int
    """items (or scenes) that the figure rests on"""
    reason: str = ""
    metric: str = ""
    low: float = math.nan
    high: float = math.nan
    gate: str = ""
    cleared: bool | None = None

    @property
    def valid(self) -> bool:
        """Whether there is a figure."""
        return math.isfinite(self.value)

    def __float__(self) -> float:
        return self.value
