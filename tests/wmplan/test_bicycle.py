"""The kinematic bicycle: closed forms, inverse pairs, standstill."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmplan import bicycle
from wmplan.frames import Pose, wrap_angle
from wmplan.plans import Plans

DT = 0.1


def roll(speed: float, controls: np.ndarray) -> np.ndarray:
    return bicycle.forward(np.array([0.0, 0.0, 0.0, speed]), controls, DT)


def test_constant_curvature_drives_an_exact_circle():
    radius, steps = 20.0, 50
    states = roll(8.0, np.tile([0.0, 1.0 / radius], (steps, 1)))
    np.testing.assert_allclose(np.hypot(states[:, 0], states[:, 1] - radius), radius, atol=1e-9)
    assert states[-1, 2] == pytest.approx(wrap_angle(np.array(8.0 * steps * DT / radius)))


def test_braking_covers_the_closed_form_distance_and_stays_stopped():
    states = roll(7.3, np.tile([-3.0, 0.0], (60, 1)))
    assert states[-1, 0] == pytest.approx(7.3**2 / 6.0, abs=1e-9)
    assert states[-1, 3] == 0.0
    assert (np.diff(states[:, 0]) >= 0.0).all()


@given(
    seed=st.integers(0, 10_000),
    speed=st.floats(5.0, 25.0),
)
def test_forward_undoes_inverse(seed, speed):
    rng = np.random.default_rng(seed)
    controls = np.stack([rng.uniform(-1.0, 1.0, 30), rng.uniform(-0.05, 0.05, 30)], axis=-1)
    states = roll(speed, controls)
    again = bicycle.inverse(states, DT)
    np.testing.assert_allclose(again, controls, atol=1e-9)
    np.testing.assert_allclose(bicycle.forward(states[0], again, DT), states, atol=1e-8)


def test_inverse_is_defined_at_standstill():
    controls = bicycle.inverse(np.zeros((11, 4)), DT)
    np.testing.assert_array_equal(controls, 0.0)


@given(angle=st.floats(-50.0, 50.0))
def test_wrapped_angle_is_the_same_direction_in_the_half_open_interval(angle):
    wrapped = wrap_angle(np.array(angle))
    assert -np.pi < wrapped <= np.pi
    assert np.cos(wrapped) == pytest.approx(np.cos(angle), abs=1e-9)
    assert np.sin(wrapped) == pytest.approx(np.sin(angle), abs=1e-9)


def test_wrap_keeps_pi_and_turns_minus_pi():
    assert wrap_angle(np.array(np.pi)) == np.pi
    assert wrap_angle(np.array(-np.pi)) == np.pi


@given(x=st.floats(-100, 100), y=st.floats(-100, 100), yaw=st.floats(-3.1, 3.1), seed=st.integers(0, 99))
def test_pose_round_trip(x, y, yaw, seed):
    pose, points = Pose(x, y, yaw), np.random.default_rng(seed).normal(size=(5, 2)) * 50
    np.testing.assert_allclose(pose.to_outer(pose.to_local(points)), points, atol=1e-9)
    moved = pose.to_local(points + np.array([1.0, 2.0])) - pose.to_local(points)
    np.testing.assert_allclose(moved, pose.rotate_to_local(np.tile([1.0, 2.0], (5, 1))), atol=1e-9)


def test_equal_plans_have_equal_bytes_and_bounds_hold():
    controls = np.random.default_rng(0).normal(size=(16, 30, 2)) * np.array([20.0, 1.0])
    plans = Plans.from_controls(controls, speed=9.0)
    again = Plans.from_controls(plans.controls, speed=9.0)
    assert plans.controls.tobytes() == again.controls.tobytes()
    assert plans.states.tobytes() == again.states.tobytes()
    assert np.abs(plans.controls[..., 0]).max() <= bicycle.MAX_ACCEL_MPS2
    assert np.abs(plans.controls[..., 1]).max() <= np.float32(bicycle.MAX_CURVATURE_PM)


def test_non_finite_controls_stay_visible():
    controls = np.zeros((2, 30, 2))
    controls[1, 4, 0] = np.nan
    plans = Plans.from_controls(controls, speed=5.0)
    assert np.isfinite(plans.states[0]).all()
    assert not np.isfinite(plans.states[1, 5:]).all()


def test_plans_refuse_states_of_another_length():
    with pytest.raises((ValueError, TypeError), match="states"):
        Plans(np.zeros((2, 30, 2), np.float32), np.zeros((2, 30, 4), np.float32))
