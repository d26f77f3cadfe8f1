"""The Intelligent Driver Model against its closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmplan.simulator import idm


def drivers(time_gap: float, standstill: float, accel: float, decel: float) -> idm.Drivers:
    return idm.Drivers(*(jnp.float32(x) for x in (time_gap, standstill, accel, decel, 1.0)))


@pytest.mark.parametrize(("speed", "desired"), [(0.0, 10.0), (5.0, 15.0), (12.0, 15.0), (14.5, 15.0)])
def test_nobody_accelerates_at_the_equilibrium_gap_and_both_sides_of_it_do(speed, desired):
    driver = drivers(1.3, 2.0, 1.4, 2.0)
    speed, desired = jnp.float32(speed), jnp.float32(desired)
    gap = idm.equilibrium_gap(speed, desired, driver)
    at = [float(idm.acceleration(speed, jnp.float32(0.0), gap * k, desired, driver)) for k in (0.97, 1.0, 1.03)]
    assert at[0] < -1e-3
    assert at[1] == pytest.approx(0.0, abs=1e-5)
    assert at[2] > 1e-3


def test_a_follower_settles_at_the_equilibrium_gap():
    driver, lead, desired = drivers(1.3, 2.0, 1.4, 2.0), 10.0, jnp.float32(15.0)

    def one(state, _):
        gap, speed = state
        accel = idm.acceleration(speed, speed - lead, gap, desired, driver)
        faster = speed + 0.02 * accel
        return (gap + 0.02 * (lead - 0.5 * (speed + faster)), faster), None

    (gap, speed), _ = jax.lax.scan(one, (jnp.float32(60.0), jnp.float32(3.0)), None, 10_000)
    assert float(speed) == pytest.approx(10.0, abs=1e-3)
    assert float(gap) == pytest.approx((2.0 + 1.3 * 10.0) / np.sqrt(1.0 - (10.0 / 15.0) ** 4), rel=1e-4)


@pytest.mark.parametrize("decel", [1.5, 2.5])
def test_braking_distance_to_a_standing_obstacle_is_v2_over_2b(decel):
    """Without time and standstill gap the braking term alone is (v2/2s)2/b: from s = v2/2b it stays b until standstill.

    Treiber and Kesting, Traffic Flow Dynamics, equation 11.17.
    """
    driver = drivers(0.0, 0.0, 0.01, decel)
    start = 15.0
    distance = start**2 / (2.0 * decel)

    def one(state, _):
        gap, speed = state
        accel = idm.acceleration(speed, speed, gap, jnp.float32(1e3), driver)
        faster = jnp.maximum(speed + 0.001 * accel, 0.0)
        return (gap - 0.0005 * (speed + faster), faster), accel

    steps = int(0.9 * start / decel / 0.001)
    (gap, speed), accel = jax.lax.scan(one, (jnp.float32(distance), jnp.float32(start)), None, steps)
    assert np.asarray(accel) == pytest.approx(-decel, rel=0.03)
    assert float(speed**2 / (2.0 * gap)) == pytest.approx(decel, rel=0.02), "what is left is again the braking distance"


def test_drawn_drivers_stay_in_their_ranges_and_differ():
    drawn = idm.draw(jax.random.key(3), 2000)
    for values, low, high in zip(drawn, (1.0, 1.5, 1.0, 1.5, 0.85), (2.0, 3.0, 2.0, 3.0, 1.1), strict=True):
        assert low <= float(values.min()) < low + 0.01 * (high - low) * 2
        assert high >= float(values.max()) > high - 0.01 * (high - low) * 2
    assert abs(np.corrcoef(np.asarray(drawn.time_gap), np.asarray(drawn.accel))[0, 1]) < 0.1
