"""The Intelligent Driver Model against its closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmplan.simulator import idm
from wmplan.simulator.drivers import RANGES, TWIN, Drivers, draw, shifted


def drivers(time_gap: float, standstill: float, accel: float, decel: float) -> Drivers:
    rest = {"speed_factor": 1.0, "politeness": 0.0, "threshold": 0.1, "critical_gap": 4.0}
    values = {"time_gap": time_gap, "standstill": standstill, "accel": accel, "decel": decel} | rest
    return Drivers(**{k: jnp.float32(v) for k, v in values.items()}, reaction=jnp.int32(0))


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


def swing(driver: Drivers, speed: float, desired: float, period: float, followers: int = 30) -> float:
    """How much wider the last of a platoon swings than the first, when the leader's speed swings a little."""
    gap = float(idm.equilibrium_gap(jnp.float32(speed), jnp.float32(desired), driver))
    dt, steps = 0.05, int(12 * period / 0.05)

    def one(state, t):
        gaps, speeds = state
        lead = speed + 0.05 * jnp.sin(2.0 * jnp.pi * t * dt / period)
        ahead = jnp.concatenate([lead[None], speeds[:-1]])
        accel = jax.vmap(idm.acceleration, in_axes=(0, 0, 0, None, None))(
            speeds, speeds - ahead, gaps, jnp.float32(desired), driver
        )
        return (gaps + dt * (ahead - speeds), speeds + dt * accel), speeds

    start = jnp.full(followers, gap), jnp.full(followers, speed)
    _, speeds = jax.lax.scan(one, start, jnp.arange(steps, dtype=jnp.float32))
    late = np.asarray(speeds[-int(2 * period / dt) :])
    return float(np.ptp(late[:, -1]) / np.ptp(late[:, 0]))


@pytest.mark.parametrize(
    ("accel", "time_gap"), [(0.4, 1.0), (0.6, 1.0), (1.0, 1.0), (1.6, 1.3), (2.5, 1.3), (3.5, 1.6)]
)
def test_a_platoons_string_stability_changes_where_theory_says(accel, time_gap):
    """Perturbations do not grow along the platoon if and only if f_v^2 - f_l^2 >= 2 f_s, for the derivatives of the
    acceleration by own speed, leader's speed and gap at the equilibrium (from |G(iw)| <= 1 at all frequencies w)."""
    driver, speed, desired = drivers(time_gap, 2.0, accel, 1.5), 10.0, 20.0
    gap = idm.equilibrium_gap(jnp.float32(speed), jnp.float32(desired), driver)

    def f(s, v, lead):
        return idm.acceleration(v, v - lead, s, jnp.float32(desired), driver)

    f_s, f_v, f_l = (float(d) for d in jax.grad(f, argnums=(0, 1, 2))(gap, jnp.float32(speed), jnp.float32(speed)))
    margin = f_v**2 - f_l**2 - 2.0 * f_s
    assert abs(margin) > 0.02, "too near the border to tell in a short run"
    slowest = max(20.0, 2.0 * np.pi / np.sqrt(abs(margin)) * 3.0)
    assert (swing(driver, speed, desired, slowest) <= 1.0) == (margin > 0.0)


def test_drawn_drivers_stay_in_their_ranges_and_differ():
    drawn = draw(jnp.uint32(3), jnp.zeros(2000, dtype=jnp.int32))
    for values, (low, high) in zip(drawn, RANGES, strict=True):
        assert low <= float(values.min()) < low + 0.01 * (high - low) * 2
        assert high >= float(values.max()) > high - 0.01 * (high - low) * 2
    assert abs(np.corrcoef(np.asarray(drawn.time_gap), np.asarray(drawn.accel))[0, 1]) < 0.1


def test_a_driver_does_not_depend_on_how_many_there_are():
    many, few = (draw(jnp.uint32(3), jnp.zeros(n, dtype=jnp.int32)) for n in (40, 4))
    assert all(np.array_equal(a[:4], b) for a, b in zip(many, few))


def test_the_twin_is_thirty_per_cent_off():
    drawn = draw(jnp.uint32(3), jnp.zeros(50, dtype=jnp.int32))
    twin = shifted(drawn, TWIN)
    assert np.allclose(twin.time_gap / drawn.time_gap, 1.3)
    assert np.allclose(twin.decel / drawn.decel, 0.7)
    assert np.allclose(twin.critical_gap / drawn.critical_gap, 1.3)
    assert (twin.reaction >= drawn.reaction).all()
    assert (twin.reaction > drawn.reaction).any()
    assert np.array_equal(twin.accel, drawn.accel)
