"""Does the imagined order of policies match the real one, and how sure is that? Scenes and policies drawn again.

Tables have a row for each policy and a column for each scene: what each is imagined to be worth there, and what it was
really worth. Two intervals belong to each figure. Over scenes: other scenes, these policies. Over policies: other
policies like these. The second is the wider one where policies are few, and usually the honest one.

References:
    Fisher (1915); Fieller et al. (1957) for the factor 1.03 of rank correlations; Kiyohara et al. (2024) for
    SharpeRatio@k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.statistics.agreement import _no_order
from wmplan.statistics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_statistic
from wmplan.statistics.grouped import bootstrap_groups
from wmplan.statistics.measure import Measure

RANK_FACTOR = 1.03
"""Ranks make the standard error of a transformed correlation this much larger."""
MOST_TIES = 5000
"""Ways of breaking ties at a cut that are tried; beyond, there is no figure."""


@runtime_checkable
class Metric(Protocol):
    """A measure of agreement of two sides, such as `spearman`."""

    def __call__(self, *, estimate: Float[ndarray, "P"], real: Float[ndarray, "P"]) -> Measure: ...


LEAST_POLICIES = 4
"""An order of fewer says nothing of others."""


@dataclass(frozen=True)
class Agreed:
    """One figure of agreement with both of its intervals."""

    figure: str
    over_scenes: Interval
    over_policies: Interval

    @property
    def value(self) -> float:
        """The figure itself."""
        return self.over_scenes.value


def agreement(
    metric: Metric,
    *,
    figure: str,
    estimate: Float[ndarray, "P S"],
    real: Float[ndarray, "P S"],
    scenes: Sequence[str],
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Agreed:
    """`metric` of the policies' means over scenes. `scenes` names the group of each column.

    Raises:
        ValueError: tables of different shapes, or a value that is not finite.
    """
    _check_tables(estimate, real, scenes)

    def of_scenes(columns: ndarray) -> float:
        return metric(estimate=estimate[:, columns].mean(1), real=real[:, columns].mean(1)).value

    means, truth = estimate.mean(1), real.mean(1)
    over_scenes = bootstrap_groups(of_scenes, scenes, seed, resamples=resamples, level=level)
    over_policies = bootstrap_statistic(
        lambda rows: metric(estimate=means[rows], real=truth[rows]).value,
        len(means),
        seed,
        resamples=resamples,
        level=level,
    )
    over_policies = of_enough(over_policies)
    whole = metric(estimate=means, real=truth)
    if not whole.valid:
        nothing = Interval(math.nan, math.nan, math.nan, len(means), whole.reason)
        return Agreed(figure, nothing, nothing)
    return Agreed(figure, over_scenes, over_policies)


def agreement_difference(
    metric: Metric,
    *,
    figure: str,
    first: Float[ndarray, "P S"],
    second: Float[ndarray, "P S"],
    real: Float[ndarray, "P S"],
    scenes: Sequence[str],
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Agreed:
    """How much higher the metric is for the first estimator than for the second, on the same scenes and policies, drawn
    together.

    Raises:
        ValueError: tables of different shapes, or a value that is not finite.
    """
    _check_tables(first, real, scenes)
    _check_tables(second, real, scenes)

    def difference(policies: ndarray, columns: ndarray) -> float:
        part = np.ix_(policies, columns)
        truth = real[part].mean(1)
        one = metric(estimate=first[part].mean(1), real=truth).value
        return one - metric(estimate=second[part].mean(1), real=truth).value

    all_policies, all_scenes = np.arange(real.shape[0]), np.arange(real.shape[1])
    return Agreed(
        figure,
        bootstrap_groups(lambda c: difference(all_policies, c), scenes, seed, resamples=resamples, level=level),
        of_enough(
            bootstrap_statistic(
                lambda p: difference(p, all_scenes), len(all_policies), seed, resamples=resamples, level=level
            )
        ),
    )


def of_enough(over_policies: Interval) -> Interval:
    """The interval, or none where it is of fewer than `LEAST_POLICIES`: two of them have the same order or the reverse
    in every resample that has one."""
    if over_policies.count >= LEAST_POLICIES:
        return over_policies
    reason = f"{over_policies.count} policies, expected {LEAST_POLICIES} or more"
    return Interval(over_policies.value, math.nan, math.nan, over_policies.count, reason)


def fisher_interval(*, correlation: float, count: int, ranks: bool, level: float = LEVEL) -> Interval:
    """tanh(atanh(rho) +- z f / sqrt(count - 3)), f = 1.03 for a correlation of ranks and 1 for Pearson's."""
    if count < LEAST_POLICIES:
        return Interval(correlation, math.nan, math.nan, count, f"{count} items, expected 4 or more: no interval")
    if not abs(correlation) < 1.0:
        return Interval(correlation, math.nan, math.nan, count, "a perfect correlation has no Fisher interval")
    half = NormalDist().inv_cdf((1.0 + level) / 2.0) * (RANK_FACTOR if ranks else 1.0) / math.sqrt(count - 3)
    middle = math.atanh(correlation)
    return Interval(correlation, math.tanh(middle - half), math.tanh(middle + half), count)


def sharpe_ratio_at_k(*, estimate: Float[ndarray, "P"], real: Float[ndarray, "P"], k: int, behaviour: float) -> Measure:
    """(best real value in the top k by estimate - the behaviour policy's) / standard deviation of those k real values.

    The deviation divides by k; the numerator may be negative. Where estimates tie at the cut, the mean over all ways
    of breaking the ties, each of which must have a deviation.

    Raises:
        ValueError: if `k` is not in 2..P: one value has no deviation.
    """
    if not 2 <= k <= max(len(real), 2):
        raise ValueError(f"sharpe_ratio_at_k: k is {k}, expected 2 to {len(real)}")
    reason = _no_order(estimate, real)
    if reason:
        return Measure(math.nan, len(real), reason)
    cut = np.sort(estimate)[::-1][k - 1]
    above, tied = real[estimate > cut].astype(np.float64), np.sort(real[estimate == cut]).astype(np.float64)
    if math.comb(len(tied), k - len(above)) > MOST_TIES:
        return Measure(math.nan, len(real), f"{len(tied)} estimates tie at the cut: too many ways to break the ties")
    tops = [np.concatenate([above, some]) for some in combinations(tied, k - len(above))]
    spreads = [float(top.std()) for top in tops]
    if min(spreads) == 0.0:
        return Measure(math.nan, len(real), f"the top {k} are worth the same: no deviation")
    return Measure(float(np.mean([(top.max() - behaviour) / s for top, s in zip(tops, spreads)])), len(real))


def in_words(agreed: Agreed) -> str:
    """A sentence on how much a correlation (or a share) with this interval over policies says."""
    wide = agreed.over_policies
    if not wide.valid:
        return f"{agreed.figure}: no interval over policies ({wide.reason or 'the figure does not exist'})."
    width, few = wide.high - wide.low, wide.count
    shown = f"{agreed.figure} {wide.value:.2f} with {few} policies; others like them would give {wide.low:.2f} to "
    if width > 0.5:
        verdict = "too wide to tell a good estimator from a middling one"
    elif width > 0.2:
        verdict = "wide: good for which of two clearly different estimators is better, not for the second digit"
    else:
        verdict = "narrow enough to compare estimators"
    small = " Below 16 policies the bootstrap itself is short of the truth." if few < 16 else ""
    return f"{shown}{wide.high:.2f}: {verdict}.{small}"


def _check_tables(estimate: ndarray, real: ndarray, scenes: Sequence[str]) -> None:
    if estimate.shape != real.shape or real.shape[1] != len(scenes):
        raise ValueError(
            f"agreement: estimates {estimate.shape}, real {real.shape}, {len(scenes)} scenes, expected one shape (P, S)"
        )
    for name, table in (("estimate", estimate), ("real", real)):
        if not np.isfinite(table).all():
            p, s = (int(i) for i in np.argwhere(~np.isfinite(table))[0])
            raise ValueError(f"agreement: {name}[{p}, {s}] is not finite, expected every policy in every scene")
