"""Risk over imagined samples: limits, order, broken samples, NumPy and JAX alike."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmplan.risk import CVaR, Entropic, Mean, Worst

COSTS = np.random.default_rng(0).gamma(2.0, 3.0, (8, 50))
EVERY = (Mean(), Worst(), CVaR(0.3), CVaR(1.0), Entropic(0.5))


def test_limits():
    np.testing.assert_allclose(Mean()(COSTS), COSTS.mean(axis=0))
    np.testing.assert_allclose(CVaR(1.0)(COSTS), COSTS.mean(axis=0))
    assert np.array_equal(Worst()(COSTS), COSTS.max(axis=0))
    assert np.array_equal(CVaR(1e-12)(COSTS), COSTS.max(axis=0))
    np.testing.assert_allclose(Entropic(1e-9)(COSTS), COSTS.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(Entropic(1e6)(COSTS), COSTS.max(axis=0), rtol=1e-5)


def test_cvar_takes_part_of_a_sample():
    costs = np.array([[1.0], [5.0], [3.0], [9.0]])
    assert CVaR(0.25)(costs) == pytest.approx(9.0)
    assert CVaR(0.5)(costs) == pytest.approx(7.0)
    assert CVaR(0.375)(costs) == pytest.approx((9.0 + 0.5 * 5.0) / 1.5)


def test_entropic_of_a_gaussian_is_mean_plus_half_theta_variance():
    costs = np.random.default_rng(1).normal(4.0, 2.0, (200_000, 1))
    assert Entropic(0.3)(costs)[0] == pytest.approx(4.0 + 0.5 * 0.3 * 4.0, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.02, 0.98), st.floats(0.02, 0.98))
def test_more_averse_is_never_cheaper(a, b):
    low, high = sorted((a, b))
    assert (CVaR(high)(COSTS) <= CVaR(low)(COSTS) + 1e-12).all()
    assert (Entropic(low)(COSTS) <= Entropic(high)(COSTS) + 1e-12).all()
    for risk in (CVaR(low), Entropic(low)):
        assert (risk(COSTS) >= COSTS.mean(axis=0) - 1e-12).all()
        assert (risk(COSTS) <= COSTS.max(axis=0) + 1e-12).all()


@pytest.mark.parametrize("risk", EVERY)
def test_moved_costs_move_the_result(risk):
    np.testing.assert_allclose(risk(COSTS + 7.0), risk(COSTS) + 7.0)
    np.testing.assert_allclose(risk(np.full((4, 3), 1e6)), 1e6)


@pytest.mark.parametrize("risk", EVERY)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_broken_sample_breaks_its_candidate_alone(risk, value):
    costs = COSTS.copy()
    costs[3, 7] = value
    found = risk(costs)
    assert found[7] == np.inf
    others = np.arange(50) != 7
    assert np.array_equal(found[others], risk(COSTS)[others])


@pytest.mark.parametrize("risk", EVERY)
def test_rows_are_priced_alone_whatever_the_order_of_samples(risk):
    assert np.array_equal(risk(COSTS[:, 5:6]), risk(COSTS)[5:6])
    np.testing.assert_allclose(risk(COSTS[::-1]), risk(COSTS), rtol=1e-12)
    np.testing.assert_allclose(risk(jnp.asarray(COSTS, jnp.float32)), risk(COSTS), rtol=1e-5)
    assert hash(risk) == hash(type(risk)(**vars(risk)))


@pytest.mark.parametrize(("make", "message"), [(lambda: CVaR(0.0), "alpha is 0.0"), (lambda: CVaR(1.5), "alpha is 1.5"),
                                               (lambda: Entropic(0.0), "theta is 0.0")])  # fmt: skip
def test_impossible_aversion_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
