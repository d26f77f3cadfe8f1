"""The winner's curse: how much better the chosen candidate looks than it is, against the number of candidates.

For each pool size the expectation over all sub-pools of a scene's candidates is exact, without any draw: among random
sub-pools of m of K candidates, the i-th best by estimate is chosen with probability C(K - i, m - 1) / C(K, m).

References:
    Smith and Winkler (2006), the optimizer's curse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.integrate import quad
from scipy.special import gammaln
from scipy.stats import norm

from wmplan.statistics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_mean


@dataclass(frozen=True)
class SelectionCurve:
    """What choosing the best-looking of more and more candidates brings, each figure a mean over scenes.

    All are against the mean of a scene's candidates. `imagined_gain`: how much better the chosen one looks;
    `real_gain`: how much better it is; `curse`: the first minus the second. `refused`: share of (scene, sub-pool)
    pairs of which the gate left nothing to choose from.
    """

    sizes: tuple[int, ...]
    imagined_gain: tuple[Interval, ...]
    real_gain: tuple[Interval, ...]
    curse: tuple[Interval, ...]
    refused: tuple[float, ...]


def selection_curve(
    *,
    estimate: Float[ndarray, "S K"],
    real: Float[ndarray, "S K"],
    sizes: Sequence[int],
    scenes: Sequence[str],
    seed: int,
    gate: Bool[ndarray, "S K"] | None = None,
    looks: Float[ndarray, "S K"] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> SelectionCurve:
    """The curve of S scenes with K candidates each, both sides in one unit; `gate` is True where a candidate may be
    chosen (sub-pools are drawn from all). Tied candidates are chosen with equal probability. `looks` is how good a
    candidate looks where that is not the estimate that it is chosen by.

    Raises:
        ValueError: a size that is not in 1..K, or a value that is not finite.
    """
    count = estimate.shape[1]
    wrong = [size for size in sizes if not 1 <= size <= count]
    if wrong:
        raise ValueError(f"selection_curve: pool size {wrong[0]}, expected 1 to {count}")
    looks = estimate if looks is None else looks
    if not all(np.isfinite(table).all() for table in (estimate, looks, real)):
        raise ValueError("selection_curve: a value is not finite, expected estimates and outcomes of all candidates")
    chosen = np.stack(
        [_chosen(row, size, None if gate is None else gate[i]) for size in sizes for i, row in enumerate(estimate)]
    )
    chosen = chosen.reshape(len(sizes), *estimate.shape)
    left = chosen.sum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = chosen / left[..., None]
        imagined = (share * looks).sum(2) - looks.mean(1)
        actual = (share * real).sum(2) - real.mean(1)

    def intervals(values: ndarray) -> tuple[Interval, ...]:
        return tuple(bootstrap_mean(row, seed, groups=scenes, resamples=resamples, level=level) for row in values)

    return SelectionCurve(
        tuple(sizes),
        intervals(imagined),
        intervals(actual),
        intervals(imagined - actual),
        tuple(float(1.0 - row.mean()) for row in left),
    )


def expected_maximum(size: int) -> float:
    """The expected largest of so many standard normal numbers: the winner's curse, in its standard deviations, of a
    critic that is nothing but independent normal noise."""
    if size < 1:
        raise ValueError(f"expected_maximum: size {size}, expected 1 or more")
    # E max = integral of x d(Phi^m); in two halves, so that the quadrature sees the narrow peak of a large m.
    middle = float(norm.ppf(0.5 ** (1.0 / size)))
    density = lambda x: x * size * norm.pdf(x) * math.exp((size - 1) * norm.logcdf(x))  # noqa: E731
    return float(quad(density, middle - 12.0, middle)[0] + quad(density, middle, middle + 12.0)[0])


def _chosen(estimate: ndarray, size: int, gate: ndarray | None) -> Float[ndarray, "K"]:
    """The probability that each candidate is chosen from a random sub-pool; sums to less than 1 behind a gate."""
    count = len(estimate)
    allowed = np.ones(count, bool) if gate is None else gate
    # Refused candidates come last: they take seats of the sub-pool, and are never chosen.
    place = np.where(allowed, estimate, -np.inf)
    order = np.argsort(-place, kind="stable")
    seats = np.arange(1, count + 1)
    possible = seats <= count - size + 1
    log = np.where(possible, _log_choose(np.maximum(count - seats, size - 1), size - 1), -np.inf)
    chance = np.exp(log - _log_choose(np.array([count]), size))
    by_candidate = np.empty(count)
    by_candidate[order] = chance
    group = np.unique(place, return_inverse=True)[1]
    return (np.bincount(group, by_candidate) / np.bincount(group))[group] * allowed


def _log_choose(n: ndarray, k: int) -> ndarray:
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
