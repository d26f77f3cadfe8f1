"""Does an estimated order match the real one? Higher is better on both sides; arguments are named, never positional.

A side that is constant holds no order: the answer is then NaN with a reason, never 0 or 1. Ties within a side are
treated exactly (average ranks, or the expectation over random tie breaking), so the order of the input never matters.
Estimates may be infinite (a candidate that must not win) where only their order counts; NaN is refused.

References:
    SIMPLER (Li et al., 2024) for MMRV; Kendall (1945) for tau-b; Jarvelin and Kekalainen (2002) for NDCG.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.special import gammaln
from scipy.stats import kendalltau, rankdata

from wmplan.statistics.measure import Measure


def pearson(*, estimate: Float[ndarray, "P"], real: Float[ndarray, "P"]) -> Measure:
    """Linear correlation in [-1, 1]."""
    reason = _no_order(estimate, real)
    if not reason and not np.isfinite(estimate).all():
        reason = "an estimate is infinite"
    if reason:
        return Measure(math.nan, len(real), reason)
    return Measure(_correlation(estimate.astype(np.float64), real.astype(np.float64)), len(real))


def spearman(*, estimate: Float[ndarray, "P"], real: Float[ndarray, "P"]) -> Measure:
    """Rank correlation in [-1, 1]: Pearson of average ranks."""
    reason = _no_order(estimate, real)
    if reason:
        return Measure(math.nan, len(real), reason)
    return Measure(_correlation(rankdata(estimate), rankdata(real)), len(real))


def kendall_tau_b(*, estimate: Float[ndarray, "P"], real: Float[ndarray, "P"]) -> Measure:
    """(concordant - discordant) / sqrt((C + D + ties only in estimate)(C + D + ties only in real)), in [-1, 1]."""
    reason = _no_order(estimate, real)
    if reason:
        return Measure(math.nan, len(real), reason)
    return Measure(float(kendalltau(rankdata(estimate), rankdata(real), variant="b").statistic), len(real))


def pairwise_accuracy(*, estimate: Float[ndarray, "P"], real: Float[ndarray, "P"]) -> Measure:
    """Share of pairs with different real values that are ordered alike; a tie in the estimate counts half.

    `count` is the number of such pairs.
    """
    reason = _no_order(estimate, real)
    if reason:
        return Measure(math.nan, 0, reason)
    i, j = np.triu_indices(len(real), 1)
    # Ranks, because the difference of two infinities is not a number.
    ranks, truth = rankdata(estimate), rankdata(real)
    alike = np.sign(ranks[i] - ranks[j]) * np.sign(truth[i] - truth[j])
    pairs = truth[i] != truth[j]
    return Measure(float((0.5 + 0.5 * alike[pairs]).mean()), int(pairs.sum()))


def mmrv(*, estimate: Float[ndarray, "P"], real: Float[ndarray, "P"]) -> Measure:
    """Mean maximum rank violation, 0 is best: the mean over i of the largest |r_i - r_j| that the estimate misorders.

    In units of `real`. Not symmetric: swapping the arguments gives another figure.
    """
    reason = _no_order(estimate, real)
    if reason:
        return Measure(math.nan, len(real), reason)
    misordered = (estimate[:, None] > estimate[None]) != (real[:, None] > real[None])
    return Measure(float((np.abs(real[:, None] - real[None]) * misordered).max(1).mean()), len(real))


def regret_at_k(*, estimate: Float[ndarray, "P"], real: Float[ndarray, "P"], k: int, raw: bool = False) -> Measure:
    """(best real - best real among the top k by estimate) / (range of real), 0 is best; `raw`: not divided.

    Where estimates tie at the cut, the exact expectation over random tie breaking.

    Raises:
        ValueError: if `k` is not in 1..P.
    """
    if not 1 <= k <= max(len(real), 1):
        raise ValueError(f"regret_at_k: k is {k}, expected 1 to {len(real)}")
    reason = _no_order(estimate, real)
    if reason:
        return Measure(math.nan, len(real), reason)
    cut = np.sort(estimate)[::-1][k - 1]
    above, tied = real[estimate > cut], np.sort(real[estimate == cut])[::-1].astype(np.float64)
    best_above = float(above.max()) if len(above) else -math.inf
    seats, crowd = k - len(above), len(tied)
    # The i-th best of the tied is the best one seated with probability C(crowd - i, seats - 1) / C(crowd, seats).
    i = np.arange(1, crowd - seats + 2)
    chance = np.exp(_log_choose(crowd - i, seats - 1) - _log_choose(np.array([crowd]), seats))
    expected = float((np.maximum(tied[: len(i)], best_above) * (chance / chance.sum())).sum())
    regret = max(float(real.max()) - expected, 0.0)
    return Measure(regret if raw else regret / float(real.max() - real.min()), len(real))


def ndcg(*, estimate: Float[ndarray, "P"], real: Float[ndarray, "P"], k: int = 5) -> Measure:
    """Discounted gain of the top k by estimate over that by truth, in [0, 1]; gains are `real` scaled to [0, 1].

    Tied estimates share the mean of their gains, which is the exact expectation over random tie breaking.
    """
    reason = _no_order(estimate, real)
    if reason:
        return Measure(math.nan, len(real), reason)
    gains = (real - real.min()).astype(np.float64) / float(real.max() - real.min())
    group = np.unique(estimate, return_inverse=True)[1]
    shared = (np.bincount(group, gains) / np.bincount(group))[group]
    top = min(k, len(real))
    discount = 1.0 / np.log2(np.arange(top) + 2.0)
    best = float(np.sort(gains)[::-1][:top] @ discount)
    return Measure(float(shared[np.argsort(-group, kind="stable")][:top] @ discount) / best, len(real))


def top_k_recall(*, estimate: Float[ndarray, "P"], real: Float[ndarray, "P"], k: int) -> Measure:
    """Share of the top k by estimate that is truly among the top k; k = 1 asks whether the best was chosen.

    Items that tie in truth with the k-th best all count as top; ties in the estimate by expectation.

    Raises:
        ValueError: if `k` is not in 1..P.
    """
    if not 1 <= k <= max(len(real), 1):
        raise ValueError(f"top_k_recall: k is {k}, expected 1 to {len(real)}")
    reason = _no_order(estimate, real)
    if reason:
        return Measure(math.nan, len(real), reason)
    cut = np.sort(estimate)[::-1][k - 1]
    above, tied = estimate > cut, estimate == cut
    chosen = above + tied * ((k - above.sum()) / tied.sum())
    return Measure(float(chosen[real >= np.sort(real)[::-1][k - 1]].sum()) / k, len(real))


def winners_curse(*, estimate: Float[ndarray, "P"], real: Float[ndarray, "P"]) -> Measure:
    """Optimism (estimate - real) of the chosen item minus the mean optimism of all; tied winners are averaged.

    Both sides must be on one scale.
    """
    reason = _no_order(estimate, real)
    if not reason and not np.isfinite(estimate).all():
        reason = "an estimate is infinite"
    if reason:
        return Measure(math.nan, len(real), reason)
    optimism = estimate.astype(np.float64) - real
    return Measure(float(optimism[estimate == estimate.max()].mean() - optimism.mean()), len(real))


# ------------------------------------------------------------------------------------------------------ details


def _no_order(estimate: ndarray, real: ndarray) -> str:
    """Why the two sides cannot be compared; empty if they can."""
    if np.isnan(estimate).any():
        raise ValueError(f"estimate[{int(np.flatnonzero(np.isnan(estimate))[0])}] is NaN, expected a number")
    if not np.isfinite(real).all():
        raise ValueError(f"real[{int(np.flatnonzero(~np.isfinite(real))[0])}] is not finite")
    if len(real) < 2:
        return f"{len(real)} items: no order"
    if (estimate == estimate[0]).all():
        return "the estimate is constant"
    if (real == real[0]).all():
        return "the real outcome is constant"
    return ""


def _correlation(a: ndarray, b: ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip((a @ b) / math.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def _log_choose(n: ndarray, k: int) -> ndarray:
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
