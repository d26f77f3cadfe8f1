"""What every estimator comes down to: a sum of ratios of sums over drives, so that one bootstrap serves them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.statistics.bootstrap import LEVEL, RESAMPLES, Interval, draw_counts, percentiles


@dataclass(frozen=True)
class Sums:
    """value = sum_j (sum_i numerators[i, j]) / (sum_i denominators[i, j]), drives i, terms j.

    A mean has one term with denominators of 1, a self-normalised estimate has weights there. `groups` names what is
    drawn together.
    """

    numerators: Float[ndarray, "N J"]
    denominators: Float[ndarray, "N J"]
    groups: tuple[str, ...]

    @staticmethod
    def mean(values: Float[ndarray, "N"], groups: tuple[str, ...]) -> Sums:
        """The mean of one value a drive."""
        column = values.astype(np.float64)[:, None]
        return Sums(column, np.ones_like(column), groups)

    @property
    def value(self) -> float:
        """The estimate; NaN where a denominator is zero, or a weight is too large for a number."""
        if not self._finite:
            return float("nan")
        return float(_ratios(self.numerators.sum(0), self.denominators.sum(0)))

    def draws(self, seed: int, resamples: int = RESAMPLES) -> Float[ndarray, "R"]:
        """The estimate of each resample of groups; the same groups and seed draw the same ones."""
        if not self._finite:
            return np.full(resamples, np.nan)
        top, bottom = self._by_group()
        return np.concatenate([_ratios(c @ top, c @ bottom) for c in draw_counts(len(top), seed, resamples)])

    def terms(self, seed: int, resamples: int) -> Float[ndarray, "R J"]:
        """Each term of each resample."""
        top, bottom = self._by_group()
        parts = []
        for counts in draw_counts(len(top), seed, resamples):
            with np.errstate(invalid="ignore", divide="ignore"):
                parts.append((counts @ top) / (counts @ bottom))
        return np.concatenate(parts)

    def interval(self, seed: int, *, resamples: int = RESAMPLES, level: float = LEVEL) -> Interval:
        """Percentile bootstrap over groups."""
        return _interval(self.value, self.draws(seed, resamples), resamples, level, len(set(self.groups)))

    def minus(self, other: Sums, seed: int, *, resamples: int = RESAMPLES, level: float = LEVEL) -> Interval:
        """How much larger this is than the other, on the same drives, drawn together.

        Raises:
            ValueError: other groups.
        """
        if self.groups != other.groups:
            raise ValueError("Sums.minus: the two have other drives, expected the same ones in the same order")
        draws = self.draws(seed, resamples) - other.draws(seed, resamples)
        return _interval(self.value - other.value, draws, resamples, level, len(set(self.groups)))

    @property
    def _finite(self) -> bool:
        return bool(np.isfinite(self.numerators).all() and np.isfinite(self.denominators).all())

    def _by_group(self) -> tuple[ndarray, ndarray]:
        names, members = np.unique(np.asarray(self.groups), return_inverse=True)
        sums = []
        for part in (self.numerators, self.denominators):
            total = np.zeros((len(names), part.shape[1]))
            np.add.at(total, members, part)
            sums.append(total)
        return sums[0], sums[1]


def _ratios(top: ndarray, bottom: ndarray) -> ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        value = (top / bottom).sum(-1)
    return np.where(np.isfinite(value), value, np.nan)


def _interval(value: float, draws: ndarray, resamples: int, level: float, count: int) -> Interval:
    if count < 2:
        return Interval(value, np.nan, np.nan, count, "one drive or group: no interval")
    return percentiles(value, draws[~np.isnan(draws)], resamples, level, count)
