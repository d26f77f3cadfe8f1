"""Intervals for means: simulated coverage, closed forms, width over n, negative rewards, stated ranges."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from wmplan.statistics.bootstrap import Interval
from wmplan.statistics.intervals import empirical_bernstein, hoeffding, prediction_powered, student_t, tuned_weight

TRIALS = 4000


def coverage(interval: Callable[[np.ndarray], Interval], draw: Callable[[], np.ndarray], truth: float) -> float:
    found = [interval(draw()) for _ in range(TRIALS)]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def test_students_interval_is_scipys_and_covers_what_it_says() -> None:
    """SCOPE-RL: t(1 - alpha) for two sides covers 89.9 %."""
    rng = np.random.default_rng(0)
    sample = rng.normal(-4.0, 3.0, 12)
    found = student_t(sample)
    expected = scipy.stats.t.interval(0.95, 11, sample.mean(), scipy.stats.sem(sample))
    assert (found.low, found.high) == pytest.approx(expected)
    for n in (5, 20):
        hit = coverage(student_t, lambda n=n: rng.normal(-4.0, 3.0, n), -4.0)
        assert hit == pytest.approx(0.95, abs=0.015)
        assert hit > 0.93


@pytest.mark.parametrize("n", [100, 10_000])
def test_hoeffdings_width_falls_with_n(n: int) -> None:
    """SCOPE-RL: 13.5 at 100 and 135.8 at 10 000, where 0.136 and 0.0136 are right."""
    found = hoeffding(np.full(n, 0.5), low=0.0, high=1.0)
    assert found.high - 0.5 == pytest.approx(1.358 / math.sqrt(n), rel=1e-3)


@pytest.mark.parametrize("bound", [hoeffding, empirical_bernstein])
def test_bounds_hold_for_negative_returns_and_keep_their_promise(bound: Callable[..., Interval]) -> None:
    """SCOPE-RL and OBP take the range from the sample: with negative returns a lower bound above the mean."""
    rng = np.random.default_rng(1)
    sample = -3.0 + 2.0 * (rng.random(200) < 0.2)
    found = bound(sample, low=-3.0, high=-1.0)
    assert found.low < sample.mean() < found.high
    hit = coverage(
        lambda x: bound(x, low=-3.0, high=-1.0), lambda: -3.0 + 2.0 * (rng.random(50) < 0.2), -3.0 + 2.0 * 0.2
    )
    assert hit >= 0.95
    moved = bound(sample + 10.0, low=7.0, high=9.0)
    assert moved.low - found.low == pytest.approx(10.0)


def test_bernstein_is_shorter_than_hoeffding_where_the_variance_is_small() -> None:
    sample = np.where(np.arange(2000) % 100 == 0, 1.0, 0.0)
    log = math.log(2 / 0.025)
    found, wide = empirical_bernstein(sample, low=0.0, high=1.0), hoeffding(sample, low=0.0, high=1.0)
    half = 7 * log / (3 * 1999) + math.sqrt(2 * sample.var(ddof=1) * log / 2000)
    assert found.high - found.value == pytest.approx(half)
    assert found.high - found.low < 0.7 * (wide.high - wide.low)
    few = sample[:20]
    assert empirical_bernstein(few, low=0.0, high=1.0).high > hoeffding(few, low=0.0, high=1.0).high


@pytest.mark.parametrize("bound", [hoeffding, empirical_bernstein])
def test_the_range_is_stated_and_kept(bound: Callable[..., Interval]) -> None:
    with pytest.raises(TypeError):
        bound(np.zeros(5))
    with pytest.raises(ValueError, match=r"values\[2\] is 1.5"):
        bound(np.array([0.0, 1.0, 1.5]), low=0.0, high=1.0)
    with pytest.raises(ValueError, match="the first below the second"):
        bound(np.zeros(5), low=1.0, high=1.0)
    assert not empirical_bernstein(np.zeros(1), low=0.0, high=1.0).valid


@pytest.mark.parametrize("weight", [1.0, None])
def test_few_executed_and_many_imagined_outcomes_cover_the_truth_whatever_the_bias(weight: float | None) -> None:
    rng = np.random.default_rng(2)
    hits, powered, alone = 0, [], []
    for _ in range(TRIALS):
        world = rng.normal(2.0, 1.0, 340)
        imagined = 0.8 * world - 1.5 + rng.normal(0.0, 0.4, 340)
        found = prediction_powered(imagined[40:], imagined[:40], world[:40], weight=weight)
        hits += found.low <= 2.0 <= found.high
        powered.append(found.high - found.low)
        only = student_t(world[:40])
        alone.append(only.high - only.low)
    assert 0.935 <= hits / TRIALS <= 0.965
    assert np.mean(powered) < 0.75 * np.mean(alone)


def test_imagination_that_says_nothing_costs_width_unless_it_is_weighed() -> None:
    rng = np.random.default_rng(3)
    world, noise = rng.normal(0.0, 1.0, 60), rng.normal(0.0, 3.0, 560)
    alone = student_t(world)
    plain = prediction_powered(noise[60:], noise[:60], world)
    tuned = prediction_powered(noise[60:], noise[:60], world, weight=None)
    assert plain.high - plain.low > 2.5 * (alone.high - alone.low)
    assert tuned.high - tuned.low < 1.05 * (alone.high - alone.low)


def test_prediction_powered_values_by_hand() -> None:
    found = prediction_powered(np.array([1.0, 3.0, 5.0, 3.0]), np.array([2.0, 4.0]), np.array([1.0, 4.0]))
    assert found.value == pytest.approx(3.0 - 0.5)
    # var f = 8/3 over 4, var (y - f) = 0.5 over 2.
    error = math.sqrt(8 / 12 + 0.25)
    freedom = (8 / 12 + 0.25) ** 2 / ((8 / 12) ** 2 / 3 + 0.25**2 / 1)
    assert found.high - found.value == pytest.approx(scipy.stats.t.ppf(0.975, freedom) * error)
    exact = prediction_powered(np.full(3, 2.0), np.full(2, 2.0), np.full(2, 5.0))
    assert (exact.low, exact.high) == (5.0, 5.0)
    assert not prediction_powered(np.ones(5), np.ones(1), np.ones(1)).valid


def test_a_perfect_imagination_is_worth_all_its_scenes_and_a_useless_one_none() -> None:
    rng = np.random.default_rng(8)
    true, noise = rng.normal(3.0, 2.0, 2000), rng.normal(0.0, 5.0, 2000)
    perfect = prediction_powered(true[400:], true[:400], true[:400], weight=None)
    everything = student_t(true)
    assert tuned_weight(true[400:], true[:400], true[:400]) == pytest.approx(1600 / 2000, rel=0.05)
    assert perfect.high - perfect.low == pytest.approx(everything.high - everything.low, rel=0.05)
    assert perfect.value == pytest.approx(everything.value, abs=0.02)
    assert tuned_weight(noise[400:], noise[:400], true[:400]) == pytest.approx(0.0, abs=0.04)
    useless = prediction_powered(noise[400:], noise[:400], true[:400], weight=None)
    alone = prediction_powered(noise[400:], noise[:400], true[:400], weight=0.0)
    only = student_t(true[:400])
    assert (alone.value, alone.low, alone.high) == pytest.approx((only.value, only.low, only.high))
    assert useless.high - useless.low == pytest.approx(only.high - only.low, rel=0.02)
    assert tuned_weight(np.ones(9), np.ones(3), np.arange(3.0)) == 0.0


def test_scenes_that_share_traffic_count_as_their_groups() -> None:
    """Every scene ten times is the interval of each once; groups of one change nothing; groups of four cover."""
    rng = np.random.default_rng(9)
    true = rng.normal(0.0, 1.0, 120)
    imagined = 0.7 * true + rng.normal(0.0, 0.5, 120)
    names = [f"g{i}" for i in range(120)]
    parts = imagined[30:], imagined[:30], true[:30]
    once = prediction_powered(*parts, weight=0.9)
    alone = prediction_powered(*parts, weight=0.9, groups=(names[30:], names[:30]))
    assert (alone.low, alone.high) == pytest.approx((once.low, once.high))
    repeated = [np.repeat(part, 10) for part in parts]
    groups = [name for name in names for _ in range(10)]
    tenfold = prediction_powered(*repeated, weight=0.9, groups=(groups[300:], groups[:300]))
    assert tenfold.high - tenfold.low == pytest.approx(once.high - once.low, rel=0.03)
    hits = 0
    for _ in range(TRIALS):
        shared = np.repeat(rng.normal(0.0, 1.0, 100), 4)
        world = shared + rng.normal(0.0, 0.5, 400)
        seen = world + 1.0 + rng.normal(0.0, 0.5, 400)
        order = rng.permutation(400)
        few, many = order[:60], order[60:]
        traffic = np.array([f"g{i // 4}" for i in range(400)])
        sides = traffic[many].tolist(), traffic[few].tolist()
        found = prediction_powered(seen[many], seen[few], world[few], weight=None, groups=sides)
        hits += found.low <= 0.0 <= found.high
    assert 0.93 <= hits / TRIALS <= 0.97


def test_widths_fall_as_one_over_root_n() -> None:
    rng = np.random.default_rng(4)
    small, large = rng.random(400), rng.random(6400)

    def width(found: Interval) -> float:
        return found.high - found.low

    assert width(student_t(small)) / width(student_t(large)) == pytest.approx(4.0, rel=0.1)
    ratio = width(hoeffding(small, low=0.0, high=1.0)) / width(hoeffding(large, low=0.0, high=1.0))
    assert ratio == pytest.approx(4.0)
    imagined = rng.random(64_000)
    few = prediction_powered(imagined[:4000], small, small**2)
    many = prediction_powered(imagined, large, large**2)
    assert width(few) / width(many) == pytest.approx(4.0, rel=0.1)
