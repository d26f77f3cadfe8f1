"""Rank agreement: SciPy, hand-computed values, exact ties, constant sides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from wmplan.statistics import (
    Measure,
    kendall_tau_b,
    mmrv,
    ndcg,
    pairwise_accuracy,
    pearson,
    regret_at_k,
    spearman,
    top_k_recall,
    winners_curse,
)

ALL: dict[str, Callable[..., Measure]] = {
    "pearson": pearson,
    "spearman": spearman,
    "kendall": kendall_tau_b,
    "pairwise": pairwise_accuracy,
    "mmrv": mmrv,
    "regret1": lambda **kw: regret_at_k(k=1, **kw),
    "regret3": lambda **kw: regret_at_k(k=3, **kw),
    "ndcg": ndcg,
    "top1": lambda **kw: top_k_recall(k=1, **kw),
    "top3": lambda **kw: top_k_recall(k=3, **kw),
    "curse": winners_curse,
}
levels = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=4, max_size=12)


def sides(pairs: list[tuple[int, int]]) -> dict[str, Any]:
    estimate, real = np.array(pairs, dtype=float).T
    return {"estimate": estimate, "real": real}


@given(levels)
def test_correlations_agree_with_scipy(pairs: list[tuple[int, int]]) -> None:
    both = sides(pairs)
    if not spearman(**both).valid:
        return
    w, r = both["estimate"], both["real"]
    assert pearson(**both).value == pytest.approx(scipy.stats.pearsonr(w, r).statistic, abs=1e-12)
    assert spearman(**both).value == pytest.approx(scipy.stats.spearmanr(w, r).statistic, abs=1e-12)
    assert kendall_tau_b(**both).value == pytest.approx(scipy.stats.kendalltau(w, r).statistic, abs=1e-12)


@given(levels, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_input_never_matters(pairs: list[tuple[int, int]], random) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    for measure in ALL.values():
        a, b = measure(**sides(pairs)), measure(**sides(shuffled))
        assert a.reason == b.reason
        assert a.value == pytest.approx(b.value, abs=1e-12, nan_ok=True)


@given(levels)
def test_every_pair_is_counted_once(pairs: list[tuple[int, int]]) -> None:
    both = sides(pairs)
    score, count = 0.0, 0
    for (w1, r1), (w2, r2) in itertools.combinations(pairs, 2):
        if r1 != r2:
            count += 1
            score += 0.5 if w1 == w2 else float((w1 > w2) == (r1 > r2))
    measure = pairwise_accuracy(**both)
    if measure.valid:
        assert measure.count == count
        assert measure.value == pytest.approx(score / count)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_expectations_over_ties_equal_brute_force(k: int) -> None:
    rng = np.random.default_rng(k)
    for _ in range(15):
        estimate, real = rng.integers(0, 3, 6).astype(float), rng.integers(0, 5, 6).astype(float)
        if not spearman(estimate=estimate, real=real).valid:
            continue
        gains = (real - real.min()) / (real.max() - real.min())
        discount = 1.0 / np.log2(np.arange(k) + 2.0)
        best_gain = np.sort(gains)[::-1][:k] @ discount
        regrets, gain, hits, ways = 0.0, 0.0, 0.0, 0
        for order in itertools.permutations(range(6)):
            ranked = estimate[list(order)]
            if (np.diff(ranked) > 0).any():
                continue
            top = list(order[:k])
            ways += 1
            regrets += real.max() - real[top].max()
            gain += gains[top] @ discount / best_gain
            hits += (real[top] >= np.sort(real)[::-1][k - 1]).mean()
        expected = regrets / ways
        assert regret_at_k(estimate=estimate, real=real, k=k, raw=True).value == pytest.approx(expected)
        relative = regret_at_k(estimate=estimate, real=real, k=k).value
        assert relative == pytest.approx(expected / (real.max() - real.min()))
        assert ndcg(estimate=estimate, real=real, k=k).value == pytest.approx(gain / ways)
        assert top_k_recall(estimate=estimate, real=real, k=k).value == pytest.approx(hits / ways)


def test_values_computed_by_hand() -> None:
    w, r = np.array([4.0, 3.0, 2.0, 1.0]), np.array([2.0, 5.0, 1.0, 0.0])
    both: dict[str, Any] = {"estimate": w, "real": r}
    assert mmrv(**both).value == pytest.approx((3 + 3 + 0 + 0) / 4)
    assert regret_at_k(**both, k=1).value == pytest.approx(3 / 5)
    assert regret_at_k(**both, k=2).value == 0.0
    assert pairwise_accuracy(**both).value == pytest.approx(5 / 6)
    assert winners_curse(**both).value == pytest.approx((4 - 2) - (10 - 8) / 4)
    dcg = 0.4 + 1.0 / math.log2(3) + 0.2 / 2
    assert ndcg(**both).value == pytest.approx(dcg / (1.0 + 0.4 / math.log2(3) + 0.2 / 2))


def test_mmrv_is_not_symmetric_and_its_arguments_are_named() -> None:
    w, r = np.array([1.0, 2.0, 30.0]), np.array([2.0, 1.0, 3.0])
    assert mmrv(estimate=w, real=r).value == pytest.approx(2 / 3)
    w2, r2 = np.array([1.0, 1.0, 2.0]), np.array([1.0, 4.0, 9.0])
    assert mmrv(estimate=w2, real=r2).value != mmrv(estimate=r2, real=w2).value
    with pytest.raises(TypeError):
        mmrv(w, r)  # type: ignore[misc]


@pytest.mark.parametrize("name", ALL)
def test_a_constant_side_has_no_order(name: str) -> None:
    flat, rising = np.full(4, 2.0), np.arange(4.0)
    for estimate, real, word in ((flat, rising, "estimate"), (rising, flat, "real")):
        measure = ALL[name](estimate=estimate, real=real)
        assert math.isnan(measure.value)
        assert not measure.valid
        assert word in measure.reason


@pytest.mark.parametrize("name", ALL)
def test_perfect_and_reversed_orders_are_the_extremes(name: str) -> None:
    real = np.arange(8.0)
    good, bad = ALL[name](estimate=real, real=real).value, ALL[name](estimate=-real, real=real).value
    best = {"mmrv": 0.0, "regret1": 0.0, "regret3": 0.0, "curse": 0.0}.get(name, 1.0)
    assert good == pytest.approx(best)
    worse = np.less if best == 1.0 else np.greater
    assert worse(bad, good)


def test_a_candidate_that_must_not_win_is_ranked_last_and_nan_is_refused() -> None:
    estimate, real = np.array([-np.inf, 1.0, 2.0, -np.inf]), np.array([0.0, 1.0, 2.0, 0.0])
    assert spearman(estimate=estimate, real=real).value == pytest.approx(1.0)
    assert pairwise_accuracy(estimate=estimate, real=real).value == 1.0
    assert not pearson(estimate=estimate, real=real).valid
    with pytest.raises(ValueError, match=r"estimate\[2\] is NaN"):
        spearman(estimate=np.array([0.0, 1.0, np.nan]), real=np.arange(3.0))
    with pytest.raises(ValueError, match="k is 5"):
        regret_at_k(estimate=estimate, real=real, k=5)
