"""Split-conformal calibration of a nonconformity score: p-values, and how far beyond the usual a score lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray


@dataclass(frozen=True)
class Conformal:
    """Sorted scores of calibration scenes that the score was not fitted on, and the quantile where the excess begins.

    References:
        Vovk et al. (2005), "Algorithmic learning in a random world", section 2.2; `reference/evaluation.md` 3.
    """

    scores: Float64[ndarray, "N"]
    tail: float

    @staticmethod
    def of(scores: Float64[ndarray, "N"], tail: float) -> Conformal:
        """The calibration by these scores, in any order."""
        return Conformal(np.sort(scores), tail)

    def p_value(self, scores: Float64[ndarray, "K"]) -> Float64[ndarray, "K"]:
        """(1 + number of calibration scores at least as large) / (n + 1); NaN stays NaN."""
        larger = len(self.scores) - np.searchsorted(self.scores, scores, side="left")
        return np.where(np.isfinite(scores), (1.0 + larger) / (len(self.scores) + 1.0), np.nan)

    def excess(self, scores: Float64[ndarray, "K"]) -> Float64[ndarray, "K"]:
        """max(0, s - the largest usual score) / interquartile range: positive only where p < 1 - tail."""
        return np.maximum(scores - self.limit, 0.0) / self.spread

    @property
    def limit(self) -> float:
        """The largest score whose p-value is still at least 1 - tail; infinite with too few scores for that."""
        rank = int(np.ceil((1.0 - self.tail) * (len(self.scores) + 1) - 1e-9)) - 1
        return float(self.scores[len(self.scores) - rank]) if rank >= 1 else np.inf

    @property
    def spread(self) -> float:
        """Interquartile range of the calibration scores, at least 1e-6."""
        low, high = np.quantile(self.scores, [0.25, 0.75])
        return float(max(high - low, 1e-6))
