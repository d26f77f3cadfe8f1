"""Comfort by nuPlan's filters: SciPy itself is the oracle for the filters, the published bounds for the verdict."""

import numpy as np
import pytest
from scipy.signal import savgol_filter

from wmplan.comfort import BOUNDS, ComfortSignals, comfort_signals, comfortable, discomfort, plan_signals
from wmplan.plans import Plans, Start

DT = 0.1


def motion(rows: int, n: int):
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(3, rows, n)).cumsum(axis=2) * 0.1
    return walk[0], walk[1], walk[2]


@pytest.mark.parametrize("n", [6, 9, 14, 31, 41])
def test_filters_are_scipys_with_the_windows_that_nuplan_really_uses(n):
    yaw, lon, lat = motion(4, n)
    got = comfort_signals(yaw, lon, lat, DT)

    def smooth(x):
        return savgol_filter(x, min(8, n), 2, axis=1)

    def slope(x):
        return savgol_filter(x, min(15, n), 2, deriv=1, delta=DT, axis=1)

    expected = {
        "lon_accel": smooth(lon),
        "lat_accel": smooth(lat),
        "yaw_rate": savgol_filter(yaw, 5, 2, deriv=1, delta=DT, axis=1),
        "yaw_accel": savgol_filter(yaw, 5, 3, deriv=2, delta=DT, axis=1),
        "lon_jerk": slope(smooth(lon)),
        "jerk": slope(smooth(np.hypot(lon, lat))),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(got, name), values, atol=1e-7, err_msg=name)


def test_a_quadratic_heading_has_the_exact_rate():
    t = np.arange(31) * DT
    yaw = (0.2 * t + 0.5 * 0.3 * t**2)[None]
    got = comfort_signals(yaw, np.full((1, 31), 1.5), np.zeros((1, 31)), DT)
    np.testing.assert_allclose(got.yaw_rate[0], 0.2 + 0.3 * t, atol=1e-7)
    np.testing.assert_allclose(got.yaw_accel[0], 0.3, atol=1e-6)
    np.testing.assert_allclose(got.lon_accel, 1.5, atol=1e-7)
    np.testing.assert_allclose(got.lon_jerk, 0.0, atol=1e-7)


def test_a_heading_that_passes_pi_does_not_spin():
    yaw = np.linspace(3.0, 3.4, 31)
    wrapped = np.where(yaw > np.pi, yaw - 2 * np.pi, yaw)[None]
    still = np.zeros((1, 31))
    np.testing.assert_allclose(comfort_signals(wrapped, still, still, DT).yaw_rate, 0.4 / 3.0, atol=1e-6)


@pytest.mark.parametrize("name", list(BOUNDS))
@pytest.mark.parametrize("side", [0, 1])
def test_bounds_are_strict(name, side):
    edge = BOUNDS[name][side]
    inward = -np.sign(edge) * 1e-6
    zeros = {other: np.zeros((3, 8)) for other in BOUNDS}
    zeros[name] = zeros[name].copy()
    zeros[name][:, 4] = [edge + inward, edge, edge - inward]
    assert comfortable(ComfortSignals(**zeros)).tolist() == [True, False, False]


def test_rows_do_not_depend_on_each_other():
    yaw, lon, lat = motion(50, 31)
    whole, one = comfort_signals(yaw, lon, lat, DT), comfort_signals(yaw[7:8], lon[7:8], lat[7:8], DT)
    assert whole.jerk[7].tobytes() == one.jerk[0].tobytes()
    assert discomfort(whole)[7] == discomfort(one)[0]


def test_a_standing_car_is_comfortable_whatever_its_controls_say():
    route = np.stack([np.arange(64.0), np.zeros(64)], axis=1).astype(np.float32)
    start = Start(0.0, 0.0, 0.0, 4.8, 2.0, 8.0, route)
    controls = np.full((1, 30, 2), [-6.0, 0.2])
    signals = plan_signals(Plans.from_controls(controls, 0.0), start)
    assert comfortable(signals).all()
    assert discomfort(signals)[0] == 0.0


def test_a_jump_from_the_present_counts():
    route = np.stack([np.arange(64.0), np.zeros(64)], axis=1).astype(np.float32)
    plan = Plans.from_controls(np.full((1, 30, 2), [-3.3, 0.0]), 10.0)
    for accel, fine in ((-3.3, True), (2.0, False)):
        start = Start(10.0, accel, 0.0, 4.8, 2.0, 12.0, route)
        assert comfortable(plan_signals(plan, start)).tolist() == [fine]


def test_too_short_a_motion_is_an_error():
    short = np.zeros((1, 5))
    with pytest.raises(ValueError, match="5 samples, expected at least 6"):
        comfort_signals(short, short, short, DT)
