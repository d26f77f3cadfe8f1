"""Risk-coverage curves: ties, closed forms, random and oracle rows; conformal refusal bands."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmplan.statistics.conformal import refusal_band
from wmplan.statistics.selective import aurc_interval, risk_coverage

items = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=5)


@given(items)
@settings(deadline=None)
def test_ties_are_the_expectation_over_all_orders(pairs: list[tuple[int, int]]) -> None:
    confidence, losses = np.array(pairs, dtype=float).T
    found = risk_coverage(confidence=confidence, losses=losses)
    curves = []
    for order in itertools.permutations(range(len(pairs))):
        if (np.diff(confidence[list(order)]) <= 0).all():
            curves.append(np.cumsum(losses[list(order)]) / np.arange(1, len(pairs) + 1))
    assert found.risk == pytest.approx(np.mean(curves, axis=0))
    assert found.oracle_aurc - 1e-12 <= found.aurc
    assert found.random == pytest.approx(losses.mean())


def test_a_hundred_tied_scores_give_the_mean_loss_in_any_input_order() -> None:
    """torch-uncertainty: 0.022, 0.196 or 0.517, by input order."""
    losses = np.array([1.0] * 20 + [0.0] * 80)
    rng = np.random.default_rng(0)
    for order in (np.arange(100), np.arange(100)[::-1], rng.permutation(100)):
        found = risk_coverage(confidence=np.full(100, 0.7), losses=losses[order])
        assert found.aurc == pytest.approx(0.2)
        assert found.augrc == pytest.approx(0.1)
        assert found.share_of_random_excess == pytest.approx(1.0)


def test_values_by_hand() -> None:
    found = risk_coverage(confidence=np.array([3.0, 1.0, np.inf, 2.0]), losses=np.array([0.0, 1.0, 1.0, 0.0]))
    assert found.risk == pytest.approx([1.0, 1 / 2, 1 / 3, 1 / 2])
    assert found.aurc == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert found.oracle_aurc == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert found.e_aurc == pytest.approx(found.aurc - found.oracle_aurc)
    # c r(c) is 0, 1/4, 1/4, 1/4, 1/2.
    assert found.augrc == pytest.approx((1 / 8 + 1 / 4 + 1 / 4 + 3 / 8) / 4)


def test_a_confidence_that_knows_the_loss_is_the_oracle_and_its_negative_the_worst() -> None:
    losses = np.random.default_rng(1).random(200)
    best, worst = (risk_coverage(confidence=sign * losses, losses=losses) for sign in (-1.0, 1.0))
    assert best.e_aurc == pytest.approx(0.0, abs=1e-12)
    assert best.share_of_random_excess == pytest.approx(0.0, abs=1e-9)
    assert worst.aurc > worst.random > worst.oracle_aurc
    assert best.augrc == pytest.approx(best.oracle_augrc)
    random = [risk_coverage(confidence=np.random.default_rng(i).random(200), losses=losses) for i in range(200)]
    assert np.mean([one.aurc for one in random]) == pytest.approx(losses.mean(), abs=0.02)
    assert np.mean([one.augrc for one in random]) == pytest.approx(0.5 * losses.mean(), abs=0.01)


def test_equal_losses_leave_nothing_to_select_and_bad_input_is_refused() -> None:
    flat = risk_coverage(confidence=np.arange(5.0), losses=np.full(5, 0.1))
    assert np.isnan(flat.share_of_random_excess)
    assert flat.e_aurc == pytest.approx(0.0)
    with pytest.raises(ValueError, match=r"confidence\[1\] is NaN"):
        risk_coverage(confidence=np.array([1.0, np.nan]), losses=np.zeros(2))
    with pytest.raises(ValueError, match=r"losses\[0\] is not finite"):
        risk_coverage(confidence=np.zeros(2), losses=np.array([np.inf, 0.0]))
    with pytest.raises(ValueError, match="0 items"):
        risk_coverage(confidence=np.zeros(0), losses=np.zeros(0))


def test_the_interval_draws_whole_scenes() -> None:
    rng = np.random.default_rng(2)
    per_scene = rng.random(20)
    losses, confidence = np.repeat(per_scene, 10), np.repeat(rng.random(20), 10)
    scenes = [f"s{i // 10}" for i in range(200)]
    together = aurc_interval(confidence=confidence, losses=losses, scenes=scenes, seed=0, resamples=300)
    alone = aurc_interval(
        confidence=confidence, losses=losses, scenes=[str(i) for i in range(200)], seed=0, resamples=300
    )
    assert together.count == 20
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low > 2.0 * (alone.high - alone.low)


@pytest.mark.parametrize(("calibration", "alpha"), [(99, 0.05), (200, 0.05), (500, 0.01)])
def test_the_band_of_refusals_holds_for_split_conformal_p_values(calibration: int, alpha: float) -> None:
    rng = np.random.default_rng(calibration)
    trials, inside, rates = 400, 0, []
    band = refusal_band(calibration=calibration, trials=trials, alpha=alpha)
    for _ in range(2000):
        scores, new = np.sort(rng.random(calibration)), rng.random(trials)
        p = (1.0 + calibration - np.searchsorted(scores, new, side="left")) / (calibration + 1.0)
        rates.append(float((p < alpha - 1e-12).mean()))
        inside += band.low - 1e-12 <= rates[-1] <= band.high + 1e-12
    assert np.mean(rates) == pytest.approx(band.rate, rel=0.06)
    assert band.rate <= alpha
    assert 0.935 <= inside / 2000 <= 0.99  # counts are whole numbers: a little more than nominal
    binomial = 1.96 * np.sqrt(alpha * (1 - alpha) / trials)
    assert band.high - band.low > 2.0 * binomial * 1.1


def test_too_few_calibration_scenes_refuse_nothing_and_say_so() -> None:
    none = refusal_band(calibration=19, trials=50, alpha=0.05)
    assert (none.rate, none.high) == (0.0, 0.0)
    assert "19 scenes are too few" in none.reason
    with pytest.raises(ValueError, match="alpha 1"):
        refusal_band(calibration=19, trials=50, alpha=1.0)
