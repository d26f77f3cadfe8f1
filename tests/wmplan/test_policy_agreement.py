"""Agreement of an imagined order of policies with the real one: both bootstraps, Fisher's interval, risk and return."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wmplan.statistics import bootstrap_mean, mmrv, pearson, regret_at_k, spearman
from wmplan.statistics.grouped import bootstrap_groups
from wmplan.statistics.policies import agreement, agreement_difference, fisher_interval, in_words, sharpe_ratio_at_k


def worlds(policies: int, scenes: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Estimates and outcomes of policies that differ by about one, in scenes of differing difficulty."""
    rng = np.random.default_rng(seed)
    skill, hard = rng.normal(0.0, 1.0, policies), rng.normal(0.0, 3.0, scenes)
    real = skill[:, None] + hard + rng.normal(0.0, 1.0, (policies, scenes))
    return real + noise * rng.normal(0.0, 1.0, (policies, 1)), real, [f"s{i}" for i in range(scenes)]


def test_fishers_interval_is_that_of_the_reference_and_of_scipy_for_pearson() -> None:
    found = fisher_interval(correlation=0.9, count=8, ranks=True)
    assert (found.low, found.high) == pytest.approx((0.52, 0.98), abs=0.006)
    import scipy.stats

    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    expected = scipy.stats.pearsonr(x, y).confidence_interval(0.95)
    value = pearson(estimate=x, real=y).value
    found = fisher_interval(correlation=value, count=30, ranks=False)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert not fisher_interval(correlation=0.5, count=3, ranks=True).valid
    assert "perfect" in fisher_interval(correlation=1.0, count=9, ranks=True).reason


def test_fishers_interval_covers_rank_correlations() -> None:
    rng = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(0.8 / 2)  # Spearman of a normal pair with Pearson 0.8
    hits = 0
    for _ in range(1500):
        x = rng.normal(size=25)
        y = 0.8 * x + 0.6 * rng.normal(size=25)
        found = fisher_interval(correlation=spearman(estimate=x, real=y).value, count=25, ranks=True)
        hits += found.low <= truth <= found.high
    assert hits / 1500 == pytest.approx(0.95, abs=0.02)


def test_an_exact_estimate_agrees_in_every_resample_and_a_placebo_in_none_to_speak_of() -> None:
    _, real, scenes = worlds(12, 60, 0.0)
    found = agreement(spearman, figure="Spearman", estimate=real, real=real, scenes=scenes, seed=0, resamples=200)
    assert found.value == pytest.approx(1.0)
    assert found.over_scenes.low == pytest.approx(1.0)
    assert found.over_policies.low == pytest.approx(1.0)
    exact = agreement(mmrv, figure="MMRV", estimate=real, real=real, scenes=scenes, seed=0, resamples=50)
    assert exact.value == pytest.approx(0.0)
    other = np.random.default_rng(5).normal(size=real.shape)
    placebo = agreement(spearman, figure="Spearman", estimate=other, real=real, scenes=scenes, seed=0, resamples=200)
    assert placebo.over_policies.low < 0.0 < placebo.over_policies.high
    assert found.over_scenes.count == 60
    assert found.over_policies.count == 12


def test_errors_that_scenes_share_only_show_over_policies() -> None:
    estimate, real, scenes = worlds(12, 400, 0.8, seed=3)
    found = agreement(pearson, figure="Pearson", estimate=estimate, real=real, scenes=scenes, seed=0, resamples=300)
    few, many = found.over_scenes, found.over_policies
    assert many.high - many.low > 3.0 * (few.high - few.low)
    assert many.low < found.value < many.high


def test_scenes_of_one_group_are_drawn_together() -> None:
    estimate, real, _ = worlds(8, 12, 0.5, seed=4)
    estimate, real = np.repeat(estimate, 10, axis=1), np.repeat(real, 10, axis=1)
    groups = [f"g{i // 10}" for i in range(120)]
    whole = agreement(pearson, figure="r", estimate=estimate, real=real, scenes=groups, seed=0, resamples=200)
    loose = agreement(
        pearson, figure="r", estimate=estimate, real=real, scenes=[str(i) for i in range(120)], seed=0, resamples=200
    )
    assert whole.over_scenes.count == 12
    width = whole.over_scenes.high - whole.over_scenes.low
    assert width > 1.8 * (loose.over_scenes.high - loose.over_scenes.low)


def test_drawing_groups_by_rows_is_drawing_them_by_sums() -> None:
    """Any statistic by rows, and means by sums of groups, go over the same resamples."""
    rng = np.random.default_rng(9)
    values, groups = rng.normal(size=90), [f"g{i % 17}" for i in range(90)]
    by_rows = bootstrap_groups(lambda rows: float(values[rows].mean()), groups, 4)
    by_sums = bootstrap_mean(values, 4, groups=groups)
    assert (by_rows.low, by_rows.high) == pytest.approx((by_sums.low, by_sums.high), abs=1e-12)
    assert (by_rows.value, by_rows.count) == (pytest.approx(by_sums.value), 17)
    alone = bootstrap_groups(lambda rows: float(values[rows].mean()), [str(i) for i in range(90)], 4)
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(90), rel=0.1)
    assert bootstrap_groups(lambda rows: 1.0, ["g"] * 5, 0).reason == "one group: no interval"


def test_a_better_estimator_is_found_to_be_better_on_the_same_draws() -> None:
    good, real, scenes = worlds(16, 80, 0.2, seed=6)
    bad, _, _ = worlds(16, 80, 3.0, seed=6)
    found = agreement_difference(
        spearman, figure="Spearman", first=good, second=bad, real=real, scenes=scenes, seed=0, resamples=200
    )
    assert found.over_scenes.excludes_zero
    assert found.value > 0.0
    same = agreement_difference(
        spearman, figure="Spearman", first=good, second=good, real=real, scenes=scenes, seed=0, resamples=50
    )
    assert (same.over_scenes.low, same.over_policies.high) == (0.0, 0.0)


def test_constant_sides_and_wrong_tables_are_named() -> None:
    estimate, real, scenes = worlds(5, 6, 0.5)
    flat = agreement(spearman, figure="r", estimate=np.zeros_like(real), real=real, scenes=scenes, seed=0, resamples=20)
    assert np.isnan(flat.value)
    assert flat.over_scenes.reason == "the estimate is constant"
    assert "does not exist" in in_words(flat) or "constant" in in_words(flat)
    with pytest.raises(ValueError, match="expected one shape"):
        agreement(spearman, figure="r", estimate=estimate, real=real, scenes=scenes[:4], seed=0)
    holed = real.copy()
    holed[2, 3] = np.nan
    with pytest.raises(ValueError, match=r"real\[2, 3\] is not finite"):
        agreement(spearman, figure="r", estimate=estimate, real=holed, scenes=scenes, seed=0)


def test_a_small_number_of_policies_is_said_in_words() -> None:
    estimate, real, scenes = worlds(6, 40, 1.0, seed=8)
    few = agreement(spearman, figure="Spearman", estimate=estimate, real=real, scenes=scenes, seed=0, resamples=200)
    assert "with 6 policies" in in_words(few)
    assert "too wide" in in_words(few)
    assert "short of the truth" in in_words(few)
    two = agreement(
        spearman, figure="Spearman", estimate=estimate[:2], real=real[:2], scenes=scenes, seed=0, resamples=100
    )
    assert two.over_policies.value == two.over_scenes.value
    assert in_words(two) == "Spearman: no interval over policies (2 policies, expected 4 or more)."
    exact, real, scenes = worlds(40, 40, 0.0, seed=8)
    many = agreement(spearman, figure="Spearman", estimate=exact, real=real, scenes=scenes, seed=0, resamples=100)
    assert "narrow enough" in in_words(many)
    assert "short of" not in in_words(many)


def test_risk_and_return_by_hand_and_by_all_ways_of_breaking_ties() -> None:
    estimate, real = np.array([4.0, 3.0, 2.0, 1.0]), np.array([1.0, 3.0, 9.0, 0.0])
    assert sharpe_ratio_at_k(estimate=estimate, real=real, k=2, behaviour=0.5).value == pytest.approx(2.5 / 1.0)
    assert sharpe_ratio_at_k(estimate=estimate, real=real, k=2, behaviour=5.0).value == pytest.approx(-2.0)
    tied = np.array([4.0, 2.0, 2.0, 2.0])
    every = [
        (max(top) - 0.5) / np.std(top) for top in ([1.0, *rest] for rest in itertools.combinations([3.0, 9.0, 0.0], 1))
    ]
    found = sharpe_ratio_at_k(estimate=tied, real=real, k=2, behaviour=0.5)
    assert found.value == pytest.approx(np.mean(every))
    shuffled = sharpe_ratio_at_k(estimate=tied[[2, 0, 3, 1]], real=real[[2, 0, 3, 1]], k=2, behaviour=0.5)
    assert shuffled.value == pytest.approx(found.value)
    with pytest.raises(ValueError, match="k is 1"):
        sharpe_ratio_at_k(estimate=estimate, real=real, k=1, behaviour=0.0)
    same = sharpe_ratio_at_k(estimate=estimate, real=np.array([2.0, 2.0, 1.0, 0.0]), k=2, behaviour=0.0)
    assert "no deviation" in same.reason
    assert np.isnan(same.value)
    assert "constant" in sharpe_ratio_at_k(estimate=np.ones(4), real=real, k=2, behaviour=0.0).reason


def test_regret_takes_the_best_of_the_top_and_does_not_add_them_up() -> None:
    """SCOPE-RL sums the top k."""
    real = np.array([5.0, 4.0, 3.0])
    assert regret_at_k(estimate=real, real=real, k=3).value == 0.0
