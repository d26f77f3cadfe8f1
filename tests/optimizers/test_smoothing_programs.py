"""The convex programs themselves: closed forms, optimality conditions, affine parameters, proofs of infeasibility."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import nnls

from optimizers.limits import Limits
from optimizers.profiles import Lateral, Longitudinal, SmoothingConfig
from optimizers.quadratic import QuadraticProgram

STEPS, DT = 30, 0.1
WIDE = Limits(1e3, -1e3, 1e3, 10.0, 1e3, 1e5)


def demand(speed: float, wanted: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions and speeds of a car that has another speed at once."""
    v = np.append(speed, np.full(STEPS, wanted))
    return np.append(0.0, np.cumsum(v[1:]) * DT), v


def target(seed: int, speed: float = 10.0) -> tuple[np.ndarray, np.ndarray]:
    """Positions and speeds of a bumpy drive."""
    accel = np.random.default_rng(seed).normal(0, 2.0, STEPS)
    v = np.maximum(np.append(speed, speed + np.cumsum(accel) * DT), 0.0)
    return np.append(0.0, np.cumsum(0.5 * (v[1:] + v[:-1]) * DT)), v


def test_slack_bounds_give_the_solution_of_the_kkt_system():
    """Minimum of a quadratic form under the dynamics as equalities, jerk, acceleration, speed and position unknown."""
    config = SmoothingConfig(max_jerk_mps3=1e4)
    moved, v = target(0)
    now = 0.7
    found = Longitudinal(config, WIDE, STEPS).solve(moved, v, now, warm=False)

    n, eye, back = STEPS, np.eye(STEPS), np.eye(STEPS, k=-1)
    zero = np.zeros((n, n))
    dynamics = np.block([
        [-DT * eye, eye - back, zero, zero],
        [zero, -DT * eye, eye - back, zero],
        [zero, zero, -0.5 * DT * (eye + back), eye - back],
    ])  # fmt: skip
    right = np.zeros(3 * n)
    right[0], right[n], right[2 * n] = now, v[0], 0.5 * DT * v[0]
    weights = np.repeat([config.jerk_weight, 0.0, config.speed_weight, config.position_weight], n)
    wanted = np.concatenate([np.zeros(2 * n), v[1:], moved[1:]])
    kkt = np.block([[np.diag(2 * weights), dynamics.T], [dynamics, np.zeros((3 * n, 3 * n))]])
    exact = np.linalg.solve(kkt, np.concatenate([2 * weights * wanted, right]))[:n]
    assert found.unknown is not None
    np.testing.assert_allclose(found.unknown, exact, atol=1e-4)


@pytest.mark.parametrize("wanted", [6.0, 10.9, 14.0])
def test_active_bounds_keep_the_optimality_conditions(wanted):
    """Minus the gradient is a combination, with weights of 0 or more, of the normals of the bounds that are met."""
    config, limits = SmoothingConfig(max_jerk_mps3=2.0), Limits(max_speed_mps=11.0, max_accel_mps2=0.8)
    moved, v = demand(10.0, wanted)
    program = Longitudinal(config, limits, STEPS)
    found = program.solve(moved, v, 0.5, warm=False)
    jerk = found.unknown
    assert jerk is not None
    accel = 0.5 + program.to_accel @ jerk
    speed = v[0] + DT * np.cumsum(accel)
    way = np.cumsum(0.5 * DT * (speed + np.append(v[0], speed[:-1])))
    gradient = 2 * config.jerk_weight * jerk
    gradient += 2 * config.speed_weight * program.to_speed.T @ (speed - v[1:])
    gradient += 2 * config.position_weight * program.to_moved.T @ (way - moved[1:])
    slack = np.concatenate([2.0 - jerk, 2.0 + jerk, 0.8 - accel, accel + 6.0, 11.0 - speed, speed])
    rows = np.vstack(
        [np.eye(STEPS), -np.eye(STEPS)] + [s * m for m in (program.to_accel, program.to_speed) for s in (1, -1)]
    )
    assert slack.min() > -1e-5
    active = slack < 1e-4
    assert active.sum() > 0
    assert nnls(rows[active].T, -gradient)[1] < 1e-3
    assert np.linalg.norm(gradient) > 0.1
    assert found.stationarity < 1e-3
    assert found.violation < 1e-5
    assert found.gap < 1e-5


def test_warm_start_gives_the_same_optimum():
    config, limits = SmoothingConfig(), Limits()
    warm, cold = Longitudinal(config, limits, STEPS), Longitudinal(config, limits, STEPS)
    for seed in range(4):
        moved, v = target(seed, speed=3.0 + seed)
        a, b = warm.solve(moved, v, 0.0, warm=seed > 0), cold.solve(moved, v, 0.0, warm=False)
        assert a.unknown is not None and b.unknown is not None  # noqa: PT018
        np.testing.assert_allclose(a.unknown, b.unknown, atol=5e-3)


def test_warm_start_saves_iterations():
    moved, v = demand(10.0, 5.0)
    program = Longitudinal(SmoothingConfig(max_jerk_mps3=2.0), Limits(), STEPS)
    first = program.solve(moved, v, 0.0, warm=False)
    again = program.solve(moved, v, 0.0, warm=True)
    assert again.iterations < first.iterations


def test_problem_that_is_not_dpp_is_refused():
    x, p, q = cp.Variable(2), cp.Parameter(2, name="p"), cp.Parameter(2, name="q")
    with pytest.raises(ValueError, match="not DPP"):
        QuadraticProgram(cp.Problem(cp.Minimize(cp.sum_squares(x)), [cp.multiply(p, q) <= x]), x, (p, q), ())


def test_quadratic_form_that_depends_on_a_parameter_is_refused():
    x, p = cp.Variable(2), cp.Parameter(nonneg=True, name="p")
    with pytest.raises(ValueError, match="quadratic form depends on a parameter"):
        QuadraticProgram(cp.Problem(cp.Minimize(p * cp.sum_squares(x))), x, (p,), ())


def test_both_sides_of_a_bound_are_one_row_and_parameters_may_scale_the_matrix():
    """A projection onto a box through a parameter matrix, in closed form."""
    x, c = cp.Variable(3), cp.Parameter(3, name="c")
    scale, low, high = (cp.Parameter(3, name=name) for name in ("scale", "low", "high"))
    rows = [cp.multiply(scale, x) >= low, cp.multiply(scale, x) <= high]
    program = QuadraticProgram(
        cp.Problem(cp.Minimize(cp.sum_squares(x) - 2 * c @ x), rows), x, (c, scale, low, high), (low, high)
    )
    rng = np.random.default_rng(0)
    for i in range(3):
        centre, by = 3 * rng.normal(size=3), rng.uniform(0.5, 2.0, 3)
        found = program.solve((centre, by, np.full(3, -1.0), np.full(3, 2.0)), warm=i > 0)
        assert found.unknown is not None
        np.testing.assert_allclose(found.unknown, np.clip(centre, -1.0 / by, 2.0 / by), atol=1e-4)
    assert len(program._rows.above) == 3
    refused = program.solve((np.zeros(3), np.ones(3), np.array([-1.0, 3.0, -1.0]), np.full(3, 2.0)), warm=True)
    assert refused.unknown is None
    assert set(refused.conflict) == {"low", "high"}


def test_corridor_that_cannot_be_kept_is_named():
    """The path turns at once more sharply than the wheels can follow, within a hair."""
    limits, distance, path, bound = Limits(max_curvature_rate_pmps=0.02), np.ones(STEPS), np.full(STEPS, 0.01), 0.04
    found = Lateral(SmoothingConfig(corridor_m=1e-3), limits, STEPS).solve(
        path, distance, path + bound, 0.0, warm=False
    )
    assert found.unknown is None
    assert {"corridor", "curvature rate"} <= set(found.conflict)
    wider = Lateral(SmoothingConfig(corridor_m=0.3), limits, STEPS).solve(path, distance, path + bound, 0.0, warm=False)
    assert wider.unknown is not None


def test_path_that_is_sharper_than_the_car_may_turn_is_named():
    program = Lateral(SmoothingConfig(), Limits(), STEPS)
    found = program.solve(np.full(STEPS, 0.1), np.full(STEPS, 1.0), np.full(STEPS, 0.02), 0.0, warm=False)
    assert found.unknown is None
    assert "curvature or lateral acceleration" in found.conflict
