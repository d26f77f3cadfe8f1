"""Estimators against dynamic programming, hand-computed values, and the mean return."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import tabular_problem as tabular

from wmplan.errors import InputError
from wmplan.ope.doubly_robust import Values, direct, doubly_robust, magic, simplex_minimum, weighted_doubly_robust
from wmplan.ope.estimates import MODEL, WEIGHTED, evaluate
from wmplan.ope.fqe import Features, Ridge, Trees, cross_fitted, fit_q
from wmplan.ope.importance import (
    importance_sampling,
    per_decision,
    weighted_importance_sampling,
    weighted_per_decision,
)
from wmplan.ope.trajectories import Trajectories

TRUTH = tabular.solved(tabular.TARGET)


def test_backward_induction_is_the_sum_over_all_drives() -> None:
    assert TRUTH.value == pytest.approx(tabular.every_drive_value(tabular.TARGET), abs=1e-12)


def test_every_estimator_reaches_the_true_value_and_its_error_falls_as_one_over_root_n() -> None:
    errors: dict[str, list[list[float]]] = {}
    for step, count in enumerate((200, 2400)):
        for seed in range(20):
            sample = tabular.drives(count, 1000 * step + seed)
            features = sample.features(tabular.TARGET)
            values, reason = cross_fitted(sample.logged, features, Ridge(), seed, folds=2)
            assert not reason
            found = evaluate(sample.logged, values, seed, resamples=20)
            for estimate in found.estimates:
                errors.setdefault(estimate.method, [[], []])[step].append(estimate.value - TRUTH.value)
    assert set(errors) == {*WEIGHTED, *MODEL}
    for method, (few, many) in errors.items():
        spread = np.sqrt(np.mean(np.square(few))), np.sqrt(np.mean(np.square(many)))
        # 12 times the drives: the error divided by 3.5; 20 repetitions know each spread to about 16 %.
        assert 2.0 < spread[0] / spread[1] < 6.0, (method, spread)
        assert abs(np.mean(many)) < 3.5 * np.std(many) / math.sqrt(20) + 1e-3, method


def hand() -> Trajectories:
    """Three drives, the last of one decision; ratios 2, 3 | 1/2, 1 | 4."""
    ratio = np.log(np.array([[2.0, 3.0], [0.5, 1.0], [4.0, 1.0]]))
    behaviour = np.full((3, 2), -1.25)
    return Trajectories(
        "hand",
        ("a", "b", "c"),
        np.array([[1.0, 2.0], [3.0, -1.0], [5.0, 100.0]]),
        np.array([[True, True], [True, True], [True, False]]),
        behaviour,
        behaviour + ratio,
        discount=0.5,
    )


VALUES = Values(np.array([[0.5, 1.0], [2.0, 0.0], [4.0, 9.0]]), np.array([[1.0, 0.5], [1.5, -0.5], [3.0, 9.0]]))


def test_values_computed_by_hand_on_three_drives() -> None:
    # Returns 1 + 2/2 = 2, 3 - 1/2 = 2.5, 5; weights 6, 1/2, 4.
    logged = hand()
    assert logged.returns.tolist() == [2.0, 2.5, 5.0]
    assert importance_sampling(logged).value == pytest.approx((12 + 1.25 + 20) / 3)
    assert weighted_importance_sampling(logged).value == pytest.approx((12 + 1.25 + 20) / 10.5)
    # First rewards weigh 2, 1/2, 4, second ones 6, 1/2 and nothing.
    assert per_decision(logged).value == pytest.approx((2 + 1.5 + 20 + 0.5 * (12 - 0.5)) / 3)
    assert weighted_per_decision(logged).value == pytest.approx(23.5 / 6.5 + 0.5 * 11.5 / 10.5)
    assert direct(logged, VALUES).value == pytest.approx(5.5 / 3)
    # w_0 (r - Q) + V, then (w_1 (r - Q) + w_0 V) / 2.
    first, second = 2 * 0.5 + 1 + 0.5 * 1 + 1.5 + 4 * 1 + 3, 0.5 * (6 * 1 + 2 * 0.5 + 0.5 * -1 + 0.5 * -0.5)
    assert doubly_robust(logged, VALUES).value == pytest.approx((first + second) / 3)
    weighted = (1 + 0.5 + 4) / 6.5 + 5.5 / 3 + 0.5 * ((6 - 0.5) / 10.5 + (1 - 0.25) / 6.5)
    assert weighted_doubly_robust(logged, VALUES).value == pytest.approx(weighted)


def test_with_the_logs_own_policy_every_estimate_is_the_mean_return() -> None:
    sample = tabular.drives(80, 3, target=tabular.BEHAVIOUR)
    logged, mean = sample.logged, sample.logged.returns.mean()
    taken = sample.features(tabular.BEHAVIOUR).taken
    own = Features(taken, taken[:, :, None], np.ones((*taken.shape[:2], 1)))
    fitted = fit_q(logged, own, Ridge(0.0 + 1e-12), 0)
    values = fitted.values(own)
    assert fitted.change == pytest.approx(0.0, abs=1e-9)
    for estimate in evaluate(logged, values, 0, resamples=20).estimates:
        assert estimate.value == pytest.approx(mean, abs=1e-6), estimate.method
    any_model = Values(values.q * 0.0 + 3.0, values.q * 0.0 + 3.0)
    assert doubly_robust(logged, any_model).value == pytest.approx(mean)
    assert weighted_doubly_robust(logged, any_model).value == pytest.approx(mean)


def test_a_model_without_error_needs_no_weights_and_a_wrong_one_does_not_mislead_dr() -> None:
    sample = tabular.drives(6000, 5)
    time = np.broadcast_to(np.arange(tabular.STEPS), sample.states.shape)
    right = Values(TRUTH.q[time, sample.states, sample.actions], TRUTH.v[time, sample.states])
    wrong = Values(right.q + 2.0, right.v + 2.0)
    assert direct(sample.logged, wrong).value > TRUTH.value + 1.5
    for values in (right, wrong):
        for estimator in (doubly_robust, weighted_doubly_robust):
            interval = estimator(sample.logged, values).interval(0, resamples=200)
            assert interval.low - 0.01 < TRUTH.value < interval.high + 0.01
    narrow, wide = (
        doubly_robust(sample.logged, right).interval(0, resamples=200),
        importance_sampling(sample.logged).interval(0, resamples=200),
    )
    assert narrow.high - narrow.low < 0.7 * (wide.high - wide.low)


def test_magic_follows_the_model_where_it_is_right_and_the_weights_where_it_is_not() -> None:
    sample = tabular.drives(4000, 6)
    time = np.broadcast_to(np.arange(tabular.STEPS), sample.states.shape)
    right = Values(TRUTH.q[time, sample.states, sample.actions], TRUTH.v[time, sample.states])
    wrong = Values(right.q + 5.0, right.v + 5.0)
    blends = [magic(sample.logged, values, 0) for values in (right, wrong)]
    assert blends[0].value == pytest.approx(TRUTH.value, abs=0.05)
    assert blends[1].value == pytest.approx(weighted_doubly_robust(sample.logged, wrong).value, abs=0.1)
    assert abs(blends[1].value - TRUTH.value) < 0.2


def test_the_simplex_minimum_is_the_best_of_a_fine_grid() -> None:
    rng = np.random.default_rng(0)
    grid = np.array([(i, j, 50 - i - j) for i in range(51) for j in range(51 - i)]) / 50.0
    for _ in range(20):
        root = rng.standard_normal((3, 3))
        matrix = root @ root.T
        x = simplex_minimum(matrix)
        assert x.sum() == pytest.approx(1.0)
        assert (x >= 0.0).all()
        assert x @ matrix @ x <= np.einsum("gi,ij,gj->g", grid, matrix, grid).min() + 1e-6


def test_fqe_looks_at_the_next_situation_and_not_at_this_one() -> None:
    """d3rlpy #93: s where s' belongs. Here this situation is worth 0 and the next one 1."""
    n = 50
    rewards = np.tile([0.0, 1.0], (n, 1))
    logged = Trajectories("p", tuple(map(str, range(n))), rewards, np.ones((n, 2), bool), None, None, discount=0.5)
    taken = np.tile(np.eye(2), (n, 1, 1))
    fitted = fit_q(logged, Features(taken, taken[:, :, None], np.ones((n, 2, 1))), Ridge(), 0)
    values = fitted.values(Features(taken, taken[:, :, None], np.ones((n, 2, 1))))
    assert values.v[0] == pytest.approx([0.5, 1.0], abs=1e-4)


def test_trees_come_near_and_stay_within_what_rewards_allow() -> None:
    sample = tabular.drives(3000, 8)
    features = sample.features(tabular.TARGET)
    fitted = fit_q(sample.logged, features, Trees(10, 5), 0)
    values = fitted.values(features)
    assert direct(sample.logged, values).value == pytest.approx(TRUTH.value, abs=0.15)
    far = Features(features.taken * 100.0, features.wished * 100.0, features.shares)
    assert np.abs(fitted.values(far).v).max() <= 2.0 * tabular.STEPS


def test_a_diverging_fit_is_found_and_said() -> None:
    n, steps = 40, 40
    rng = np.random.default_rng(0)
    taken = rng.uniform(0.5, 1.0, (n, steps, 1))
    logged = Trajectories(
        "far", tuple(map(str, range(n))), np.ones((n, steps)) * taken[:, :, 0], np.ones((n, steps), bool), None, None
    )
    wished = 5.0 * taken[:, :, None]
    features = Features(taken, wished, np.ones((n, steps, 1)))
    _, reason = cross_fitted(logged, features, Ridge(), 0)
    assert "policy far: fitted Q grew" in reason


def test_cross_fitting_never_shows_a_drive_to_the_model_that_judges_it() -> None:
    n = 12
    groups = tuple(f"g{i // 3}" for i in range(n))
    rewards = np.arange(n, dtype=float)[:, None]
    logged = Trajectories("p", tuple(map(str, range(n))), rewards, np.ones((n, 1), bool), None, None, groups=groups)
    # A model that knew the own group would say its reward: its features name the group.
    taken = np.eye(4)[np.arange(n) // 3][:, None]
    features = Features(taken, taken[:, :, None], np.ones((n, 1, 1)))
    values, _ = cross_fitted(logged, features, Ridge(), 0, folds=4)
    for g in range(4):
        mine = np.arange(n) // 3 == g
        assert values.v[mine, 0] == pytest.approx(rewards[~mine].mean(), abs=1e-6)
    with pytest.raises(InputError, match="5 folds of 4 groups"):
        cross_fitted(logged, features, Ridge(), 0, folds=5)


def test_what_lies_behind_a_drives_end_changes_nothing() -> None:
    sample = tabular.drives(200, 9)
    features = sample.features(tabular.TARGET)
    values, _ = cross_fitted(sample.logged, features, Ridge(), 0)
    logged, out = sample.logged, ~sample.logged.mask
    assert out.any()
    assert logged.behaviour is not None
    assert logged.target is not None
    other = dataclasses.replace(
        logged,
        rewards=np.where(out, np.nan, logged.rewards),
        behaviour=np.where(out, np.nan, logged.behaviour),
        target=np.where(out, -np.inf, logged.target),
    )
    spoiled = Features(
        np.where(out[..., None], np.nan, features.taken),
        np.where(out[..., None, None], np.nan, features.wished),
        features.shares,
    )
    again, _ = cross_fitted(other, spoiled, Ridge(), 0)
    first, second = evaluate(logged, values, 0, resamples=20), evaluate(other, again, 0, resamples=20)
    assert [e.interval for e in first.estimates] == [e.interval for e in second.estimates]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("rewards", np.nan, r"scene b: reward of decision 1 is nan"),
        ("behaviour", -np.inf, r"scene b: behaviour of decision 1 is -inf"),
        ("target", np.inf, r"scene b: target of decision 1 is inf"),
        ("target", np.nan, r"scene b: target of decision 1 is nan"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_scene_and_decision(field: str, value: float, message: str) -> None:
    logged = hand()
    spoiled = np.array(getattr(logged, field))
    spoiled[1, 1] = value
    with pytest.raises(InputError, match=message):
        dataclasses.replace(logged, **{field: spoiled})


def test_a_mask_with_a_gap_and_an_impossible_discount_are_refused() -> None:
    logged = hand()
    with pytest.raises(InputError, match="scene c: mask has a gap"):
        dataclasses.replace(logged, mask=np.array([[True, True], [True, True], [False, True]]))
    with pytest.raises(InputError, match=r"discount 0\.0"):
        dataclasses.replace(logged, discount=0.0)
    features = tabular.drives(3, 0).features(tabular.TARGET)
    short = Features(features.taken[:, :2], features.wished[:, :2], features.shares[:, :2] * 0.5)
    with pytest.raises(InputError, match=r"scene a: features\.shares of decision 0"):
        fit_q(logged, short, Ridge(), 0)
