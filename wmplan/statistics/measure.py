"""A figure that may not exist: its value, how many items it rests on, and why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One figure. Where it cannot be computed `value` is NaN and `reason` says why: never a silent 0 or 1."""

    value: float
    count: int
    """items (or scenes) that the figure rests on"""
    reason: str = ""

    @property
    def valid(self) -> bool:
        """Whether there is a figure."""
        return math.isfinite(self.value)

    def __float__(self) -> float:
        return self.value
