"""Smoothing: the closed form without active bounds, the certificate, and refusals with their reasons."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from planning_cases import arc_start, straight_start

from optimizers import Lattice, Limits
from optimizers.profiles import SmoothingConfig
from optimizers.smoothing import smooth_all
from wmplan import bicycle
from wmplan.contracts import Infeasible
from wmplan.plans import Plans

WIDE = Limits(1e3, -1e3, 1e3, 10.0, 1e3, 1e5)


def test_linear_quadratic_optimum_in_closed_form():
    """Without active bounds the profile solves a linear system; both programs, to the solver's accuracy."""
    rng = np.random.default_rng(0)
    controls = np.stack([rng.normal(0, 1, 30), rng.normal(0, 0.005, 30)], axis=1)[None]
    plans = Plans.from_controls(controls, 10.0)
    config = SmoothingConfig(max_jerk_mps3=1e3, corridor_m=10.0)
    found = smooth_all(config, WIDE, plans, 0.3, 0.0)[0]
    assert found.certificate.feasible
    assert found.certificate.stationarity < 1e-3
    assert found.certificate.gap < 1e-6

    integrate = np.vstack([np.zeros(30), np.tril(np.ones((30, 30)))]) * 0.1
    way = np.vstack([np.zeros(31), np.cumsum(0.05 * (np.eye(31)[1:] + np.eye(31)[:-1]), axis=0)])
    speed = plans.states[0, :, 3].astype(float)
    jerk = (np.eye(30) - np.eye(30, k=-1)) / 0.1
    first = np.zeros(30)
    first[0] = 0.3 / 0.1
    position = way @ integrate
    hessian = position.T @ position + integrate.T @ integrate + config.jerk_weight * jerk.T @ jerk
    right = position.T @ (way @ speed - way @ np.full(31, 10.0)) + integrate.T @ (speed - 10.0)
    exact = np.linalg.solve(hessian, right + config.jerk_weight * jerk.T @ first)
    np.testing.assert_allclose(found.controls[:, 0], exact, atol=2e-3)
    before, after = (np.abs(np.diff(c)).mean() for c in (plans.controls[0, :, 1], found.controls[:, 1]))
    assert after < 0.5 * before


@pytest.mark.parametrize("start", [straight_start(speed=12.0), arc_start(30.0, 6.0), straight_start(speed=0.0)])
def test_certified_plans_keep_every_bound_when_rolled(start):
    optimizer = Lattice(LatticeConfigWith6)
    state = optimizer.init(0, start)
    proposal = optimizer.ask(0, state)
    costs = np.where(proposal.infeasible == 0, np.arange(128.0), np.inf)
    state = optimizer.tell(state, proposal.controls, costs)
    final = optimizer.finalists(state)
    smooth = final.controls[1:][final.infeasible[1:] == 0].astype(float)
    assert len(smooth) >= 3
    limits, config = optimizer.config.limits, optimizer.config.smoothing
    rolled = bicycle.forward(np.tile([0.0, 0.0, 0.0, start.speed], (len(smooth), 1)), smooth, 0.1)
    jerk = np.diff(smooth[..., 0], prepend=start.accel, axis=1) / 0.1
    assert np.abs(jerk).max() <= config.max_jerk_mps3 + 0.05
    assert smooth[..., 0].min() >= limits.min_accel_mps2 - 0.01
    assert (np.maximum(rolled[:, 1:, 3], rolled[:, :-1, 3]) ** 2 * np.abs(smooth[..., 1])).max() <= 4.01
    assert np.abs(np.diff(smooth[..., 1], axis=1)).max() / 0.1 <= limits.max_curvature_rate_pmps + 0.01


LatticeConfigWith6 = dataclasses.replace(Lattice().config, finalists=6)


def test_path_is_kept_within_the_corridor():
    start = arc_start(25.0, 7.0)
    optimizer = Lattice()
    proposal = optimizer.ask(0, optimizer.init(0, start))
    rows = np.flatnonzero(proposal.infeasible == 0)[:8]
    plans = Plans.from_controls(proposal.controls[rows], start.speed)
    for result in smooth_all(SmoothingConfig(), Limits(), plans, 0.0, 0.0):
        if result.certificate.feasible:
            # The program's path is linearised; 5 cm are left for what that leaves out.
            assert result.certificate.lateral_m <= SmoothingConfig().corridor_m + 0.05


def test_no_profile_is_refused_with_the_reason():
    """The car brakes at 9 m/s2 now, the limit is 6: no jerk-bounded profile is inside the limits at once."""
    plans = Plans.from_controls(np.full((1, 30, 2), [-1.0, 0.0]), 20.0)
    found = smooth_all(SmoothingConfig(), Limits(), plans, -9.0, 0.0)[0]
    assert not found.certificate.feasible
    assert found.certificate.reason in [
        f"no speed profile from here: {a} and {b} cannot be kept together"
        for a, b in (("jerk", "braking"), ("braking", "jerk"))
    ]
    np.testing.assert_array_equal(found.controls, plans.controls[0])


def test_no_steering_is_refused_with_the_reason():
    """Full lock in the next step is faster than the wheels turn, and the corridor is a hair."""
    plans = Plans.from_controls(np.full((1, 30, 2), [0.0, 0.03]), 10.0)
    found = smooth_all(SmoothingConfig(corridor_m=1e-3), Limits(max_curvature_rate_pmps=0.02), plans, 0.0, 0.0)[0]
    assert not found.certificate.feasible
    assert found.certificate.reason.startswith("no steering near the path: ")
    assert "corridor" in found.certificate.reason
    assert "curvature rate" in found.certificate.reason


def test_lattice_flags_finalists_that_cannot_be_smoothed():
    start = dataclasses.replace(straight_start(speed=20.0), accel=-9.0)
    optimizer = Lattice()
    state = optimizer.init(0, start)
    proposal = optimizer.ask(0, state)
    final = optimizer.finalists(optimizer.tell(state, proposal.controls, np.arange(128.0)))
    assert final.labels == ("best", "smoothed", "smoothed", "smoothed")
    assert final.infeasible.tolist() == [0, *[int(Infeasible.SMOOTHING)] * 3]


def test_answer_does_not_depend_on_what_was_solved_before():
    a = Plans.from_controls(np.random.default_rng(0).normal(0, 1, (2, 30, 2)) * [1.0, 0.005], 10.0)
    b = Plans.from_controls(np.random.default_rng(1).normal(0, 1, (3, 30, 2)) * [1.0, 0.01], 5.0)
    alone = smooth_all(SmoothingConfig(), Limits(), a, 0.0, 0.0)
    smooth_all(SmoothingConfig(), Limits(), b, 1.0, 0.01)
    after = smooth_all(SmoothingConfig(), Limits(), a, 0.0, 0.0)
    assert [r.controls.tobytes() for r in alone] == [r.controls.tobytes() for r in after]


def test_nothing_to_smooth():
    assert smooth_all(SmoothingConfig(), Limits(), Plans.from_controls(np.zeros((0, 30, 2)), 1.0), 0.0, 0.0) == []
