"""Intervals: simulated coverage, closed forms, groups, and the cases in which there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from wmplan.statistics import (
    auroc,
    auroc_interval,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_statistic,
    minimum_detectable,
    paired_bootstrap,
    spearman,
)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = {0.95: 0, 0.8: 0}
    for trial in range(1500):
        sample = rng.normal(-3.0, 2.0, 300)
        for level in covered:
            interval = bootstrap_mean(sample, trial, resamples=400, level=level)
            covered[level] += interval.low <= -3.0 <= interval.high
    for level, hits in covered.items():
        assert hits / 1500 == pytest.approx(level, abs=0.015)


def test_the_interval_is_the_normal_one_where_that_is_right() -> None:
    sample = np.random.default_rng(1).normal(5.0, 1.0, 4000)
    interval = bootstrap_mean(sample, 0, resamples=4000)
    error = sample.std() / math.sqrt(4000)
    assert interval.value == pytest.approx(sample.mean())
    assert interval.low == pytest.approx(sample.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(sample.mean() + 1.96 * error, abs=0.15 * error)
    narrower = bootstrap_mean(np.tile(sample, 4), 0, resamples=1000)
    assert (narrower.high - narrower.low) == pytest.approx((interval.high - interval.low) / 2, rel=0.1)


def test_the_same_seed_gives_the_same_interval_and_another_does_not() -> None:
    sample = np.random.default_rng(2).normal(size=30)
    assert bootstrap_mean(sample, 7) == bootstrap_mean(sample, 7)
    assert bootstrap_mean(sample, 7) != bootstrap_mean(sample, 8)


def test_scenes_that_share_traffic_are_drawn_together() -> None:
    rng = np.random.default_rng(3)
    per_group = rng.normal(size=25)
    values, groups = np.repeat(per_group, 8), np.repeat([f"g{i}" for i in range(25)], 8)
    clustered = bootstrap_mean(values, 0, groups=groups.tolist())
    naive = bootstrap_mean(values, 0)
    alone = bootstrap_mean(per_group, 0)
    assert clustered.count == 25
    assert clustered.value == pytest.approx(naive.value)
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=0.15)
    assert clustered.high - clustered.low > 2.0 * (naive.high - naive.low)


def test_pairing_removes_what_both_share() -> None:
    rng = np.random.default_rng(4)
    difficulty = rng.normal(0.0, 10.0, 60)
    a, b = difficulty + 0.5 + rng.normal(0, 0.3, 60), difficulty + rng.normal(0, 0.3, 60)
    a[3], b[7] = np.nan, np.nan
    paired = paired_bootstrap(a, b, 0)
    assert paired.count == 58
    assert paired.excludes_zero
    assert paired.value == pytest.approx(np.nanmean(a - b))
    assert paired_bootstrap(b, a, 0).value == pytest.approx(-paired.value)
    assert not paired_bootstrap(a, a, 0).excludes_zero
    sd = np.nanstd(a - b, ddof=1)
    assert minimum_detectable(a - b) == pytest.approx((1.959964 + 0.841621) * sd / math.sqrt(58), rel=1e-5)


def test_a_ratio_pools_its_scenes() -> None:
    rng = np.random.default_rng(5)
    denominators = rng.uniform(0, 9, 50)
    interval = bootstrap_ratio(0.25 * denominators, denominators, 0)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))
    numerators = rng.uniform(0, 1, 50) * denominators
    assert bootstrap_ratio(numerators, denominators, 0).value == pytest.approx(numerators.sum() / denominators.sum())


def test_where_there_is_no_interval_the_reason_says_so() -> None:
    empty = bootstrap_mean(np.array([np.nan, np.nan]), 0)
    assert math.isnan(empty.value)
    assert empty.reason == "no scene has a value"
    single = bootstrap_mean(np.array([3.0]), 0)
    assert single.value == 3.0
    assert not single.valid
    assert single.reason
    assert not single.excludes_zero
    with pytest.raises(ValueError, match=r"numerators\[1\] is not finite"):
        bootstrap_ratio(np.array([1.0, np.inf]), np.ones(2), 0)


def test_any_statistic_over_its_rows() -> None:
    rng = np.random.default_rng(6)
    real = rng.normal(size=40)
    estimate = real + rng.normal(size=40)
    interval = bootstrap_statistic(lambda rows: spearman(estimate=estimate[rows], real=real[rows]).value, 40, 0)
    assert interval.low < interval.value < interval.high
    assert interval.value == spearman(estimate=estimate, real=real).value
    mean = bootstrap_statistic(lambda rows: float(real[rows].mean()), 40, 0)
    fast = bootstrap_mean(real, 0)
    assert (mean.low, mean.high) == pytest.approx((fast.low, fast.high), abs=0.06)


def test_auroc_agrees_with_scikit_learn_whatever_the_ties() -> None:
    rng = np.random.default_rng(7)
    for levels in (2, 3, 100):
        labels = rng.random(80) < 0.3
        scores = rng.integers(0, levels, 80) + labels * rng.integers(0, 2, 80).astype(float)
        order = rng.permutation(80)
        value = auroc(labels, scores).value
        assert value == pytest.approx(roc_auc_score(labels, scores))
        assert auroc(labels[order], scores[order]).value == pytest.approx(value, abs=1e-12)
    assert auroc(labels, np.zeros(80)).value == 0.5
    assert auroc(labels, np.where(labels, np.inf, -np.inf)).value == 1.0
    nothing = auroc(np.zeros(4, dtype=bool), np.arange(4.0))
    assert math.isnan(nothing.value)
    assert nothing.reason
    with pytest.raises(ValueError, match=r"scores\[0\] is NaN"):
        auroc(np.array([True, False]), np.array([np.nan, 0.0]))


def test_the_auroc_interval_resamples_scenes_exactly() -> None:
    rng = np.random.default_rng(8)
    scenes = np.repeat([f"s{i}" for i in range(30)], 4)
    labels = rng.random(120) < 0.4
    scores = np.round(rng.normal(size=120) + 0.8 * labels, 1)
    fast = auroc_interval(labels, scores, scenes.tolist(), 3)
    rows_of = {name: np.flatnonzero(scenes == name) for name in np.unique(scenes)}
    names = np.array(sorted(rows_of))
    generator = np.random.default_rng(3)
    draws = []
    for picks in generator.integers(0, 30, (1000, 30)):
        rows = np.concatenate([rows_of[name] for name in names[picks]])
        draws.append(auroc(labels[rows], scores[rows]).value)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (fast.low, fast.high) == pytest.approx((low, high), abs=1e-12)
    assert fast.value == auroc(labels, scores).value
