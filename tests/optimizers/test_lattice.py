"""The lattice: known answers on a straight route, agreement of controls and path, flags, density, low speed."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from planning_cases import arc_start, straight_start

from optimizers import Limits, make
from optimizers.frenet import seen_from_route
from optimizers.lattice import NORMAL, Grid, Lattice, LatticeConfig, candidates, grid_of
from optimizers.motion import motion_of
from wmplan.contracts import Infeasible
from wmplan.plans import Plans

CONFIG = LatticeConfig(max_offset_m=3.0)


def one(end: float, speed: float, offset: float) -> Grid:
    numbers = (jnp.asarray([value], jnp.float32) for value in (end, speed, offset))
    return Grid(*numbers, jnp.asarray([NORMAL]), jnp.asarray([0]))


@pytest.mark.parametrize(("end", "offset"), [(2.0, 0.5), (3.0, -1.0), (2.5, 0.0)])
def test_straight_route_reaches_the_end_state_at_its_time(end, offset):
    start = straight_start(speed=12.0)
    # Fractions of end speed run from 12 - 4 x 3 = 0 to 12 + 2.5 x 3 = 19.5 m/s.
    controls, states, bits = candidates(CONFIG, motion_of(start), one(end, 14.0 / 19.5, offset))
    path, step = np.asarray(states)[:, :, 0], round(end / 0.1)
    assert int(bits[0]) == 0
    np.testing.assert_allclose(path[step], [path[step, 0], 3.0 * offset, 0.0, 14.0], atol=1e-4)
    # A quartic's mean speed over its time is the mean of both ends.
    assert path[step, 0] == pytest.approx(13.0 * end, abs=1e-3)
    np.testing.assert_allclose(path[step:, 1], 3.0 * offset, atol=1e-4)
    np.testing.assert_allclose(np.asarray(controls)[step:, :, 0], 0.0, atol=2e-4)


@pytest.mark.parametrize(
    "start",
    [
        straight_start(speed=12.0),
        straight_start(speed=0.0),
        straight_start(speed=2.0),
        arc_start(25.0, 7.0, offset_m=-0.8),
        arc_start(-40.0, 10.0, offset_m=1.0),
        dataclasses.replace(straight_start(speed=6.0), curvature=0.03, accel=-1.5),
    ],
)
def test_rolled_controls_follow_the_path(start):
    ends, speeds, offsets, kinds, levels = np.array(grid_of(30, 300), np.float32).T
    grid = Grid(
        *(jnp.asarray(v) for v in (ends, speeds, offsets)), *(jnp.asarray(v, jnp.int32) for v in (kinds, levels))
    )
    controls, states, bits = candidates(LatticeConfig(), motion_of(start), grid)
    drivable = np.asarray(bits) == 0
    assert drivable.sum() > 40
    rolled = Plans.from_controls(np.asarray(controls).transpose(2, 0, 1), start.speed).states[drivable]
    path = np.asarray(states).transpose(2, 0, 1)[drivable]
    gap = np.hypot(rolled[..., 0] - path[..., 0], rolled[..., 1] - path[..., 1])
    assert gap.max() < 0.3
    assert path[:, 0, :2] == pytest.approx(0.0, abs=0.02)


def test_heading_and_offset_of_the_ego_are_met():
    angle, offset = 0.15, 0.7
    s = np.arange(64) - 3.0
    route = np.stack([s * np.cos(angle) + offset * np.sin(angle), s * np.sin(angle) - offset * np.cos(angle)], axis=1)
    start = dataclasses.replace(straight_start(), curvature=0.01, route=route.astype(np.float32))
    seen = seen_from_route(motion_of(start))
    np.testing.assert_allclose([seen.s, seen.offset], [3.0, offset], atol=1e-3)
    np.testing.assert_allclose([seen.slope, seen.speed], [np.tan(-angle), 8.0 * np.cos(angle)], atol=1e-3)
    np.testing.assert_allclose(seen.bend, 0.01 / np.cos(angle) ** 3, atol=1e-3)
    assert bool(seen.valid)


def test_circle_is_its_own_route():
    """On the route's circle at its curvature, offset, slope and bend vanish, and keeping them is constant steering."""
    start = dataclasses.replace(arc_start(30.0, speed=8.0, spacing_m=1.0), curvature=1 / 30)
    seen = seen_from_route(motion_of(start))
    np.testing.assert_allclose([seen.offset, seen.slope], 0.0, atol=2e-3)
    controls, _, _ = candidates(CONFIG, motion_of(start), one(3.0, 8.0 / 15.5, 0.0))
    np.testing.assert_allclose(np.asarray(controls)[8:, 1, 0], 1 / 30, atol=1e-3)


@pytest.mark.parametrize(
    ("field", "reason", "grid"),
    [
        ("max_speed_mps", Infeasible.SPEED, (3.0, 0.9, 0.0)),
        ("max_accel_mps2", Infeasible.ACCEL, (2.0, 0.9, 0.0)),
        ("max_curvature_pm", Infeasible.CURVATURE, (2.0, 0.5, 1.0)),
        ("max_curvature_rate_pmps", Infeasible.CURVATURE_RATE, (2.0, 0.5, 1.0)),
        ("max_lateral_accel_mps2", Infeasible.LATERAL_ACCEL, (2.0, 0.5, 1.0)),
    ],
)
def test_flag_at_the_threshold(field, reason, grid):
    motion = motion_of(straight_start(speed=10.0))
    wide = Limits(100.0, -50.0, 50.0, 10.0, 100.0, 1000.0)
    config = dataclasses.replace(CONFIG, limits=wide)
    controls, states, bits = (np.asarray(v) for v in candidates(config, motion, one(*grid)))
    assert bits[0] == 0
    speed = states[:, 3, 0]
    faster = np.maximum(speed[1:], speed[:-1])
    peak = {
        "max_speed_mps": speed.max(),
        "max_accel_mps2": controls[:, 0].max(),
        "max_curvature_pm": np.abs(controls[:, 1]).max(),
        "max_curvature_rate_pmps": np.abs(np.diff(controls[:, 1, 0])).max() / 0.1,
        "max_lateral_accel_mps2": (faster**2 * np.abs(controls[:, 1, 0])).max(),
    }[field]
    for hair, expected in ((1.001, 0), (0.998, int(reason))):
        limits = dataclasses.replace(wide, **{field: float(peak) * hair})
        # The range of end speeds ends at the speed limit, so the same end speed is another fraction of it.
        top = min(10.0 + 7.5, limits.max_speed_mps)
        row = (grid[0], grid[1] * 17.5 / top, grid[2])
        bits = candidates(dataclasses.replace(config, limits=limits), motion, one(*row))[2]
        assert int(bits[0]) == expected


def test_ego_across_the_route_cannot_be_projected():
    start = straight_start()
    sideways = dataclasses.replace(start, route=np.ascontiguousarray(start.route[:, ::-1]))
    optimizer = Lattice()
    proposal = optimizer.ask(0, optimizer.init(0, sideways))
    assert (proposal.infeasible & Infeasible.PROJECTION).all()
    assert np.isfinite(proposal.controls).all()


def test_offset_beyond_the_centre_of_the_turn_cannot_be_projected():
    start = arc_start(5.0, speed=3.0, spacing_m=0.5)
    config = dataclasses.replace(CONFIG, max_offset_m=6.0)
    inside, outside = (int(candidates(config, motion_of(start), one(3.0, 0.4, d))[2][0]) for d in (1.0, -0.2))
    assert inside & Infeasible.PROJECTION
    assert not outside & Infeasible.PROJECTION


def test_standing_car_has_candidates_that_stand_and_that_go():
    optimizer = Lattice()
    proposal = optimizer.ask(0, optimizer.init(0, straight_start(speed=0.0)))
    plans = Plans.from_controls(proposal.controls, 0.0)
    drivable = proposal.infeasible == 0
    moved = plans.states[:, -1, 0]
    stand = np.array([label in ("standstill", "emergency") for label in proposal.labels])
    assert drivable[stand].all()
    assert np.abs(moved[stand]).max() == 0.0
    assert (moved[drivable] > 5.0).sum() > 10


def test_emergency_brakes_at_the_limit_and_is_drivable():
    for start in (straight_start(speed=15.0), arc_start(40.0, 9.0)):
        optimizer = Lattice()
        proposal = optimizer.ask(0, optimizer.init(0, start))
        rows = [i for i, label in enumerate(proposal.labels) if label == "emergency"]
        assert len(rows) == 2
        assert (proposal.infeasible[rows] == 0).any()
        plans = Plans.from_controls(proposal.controls, start.speed)
        assert plans.states[rows, -1, 3] == pytest.approx(0.0, abs=0.15)


def test_denser_candidates_replace_what_cannot_be_driven():
    """Coarse rows keep their place with their reasons; the budget left goes to drivable rows first."""
    optimizer = Lattice()
    proposal = optimizer.ask(0, optimizer.init(0, straight_start(speed=14.0)))
    coarse = sum(row[4] == 0 for row in grid_of(30, 256))
    assert 0 < (proposal.infeasible[:coarse] != 0).sum() < coarse
    assert (proposal.infeasible[coarse:] == 0).all()


def test_rounds_go_on_through_the_grid_even_when_nothing_is_finite():
    config = LatticeConfig(rounds=4)
    optimizer = Lattice(config)
    state = optimizer.init(0, straight_start())
    rows = []
    for _ in range(4):
        proposal = optimizer.ask(0, state)
        rows.append(proposal.controls)
        state = optimizer.tell(state, proposal.controls, np.full(32, np.inf))
    whole = Lattice().ask(0, Lattice().init(0, straight_start()))
    np.testing.assert_array_equal(np.concatenate(rows), whole.controls)


def test_pool_is_the_same_manoeuvres_everywhere():
    pool = make("pool")
    one_, two = (pool.ask(k, pool.init(k, s)) for k, s in ((0, straight_start()), (9, arc_start(30.0, speed=4.0))))
    assert one_.labels == two.labels
    accel = one_.controls[list(one_.labels).index("emergency"), :, 0]
    assert (accel == -6.0).all()
    constant = one_.controls[np.array(one_.labels) == "constant"]
    assert len(np.unique(constant.reshape(len(constant), -1), axis=0)) == len(constant)


def test_bend_on_a_curved_route_is_the_second_derivative_of_the_offset():
    """The ego goes its own arc, at an angle to a circular route; offset over way, differentiated numerically."""
    radius, angle, curvature, left = 30.0, 0.3, 0.02, 0.8
    along = (np.arange(64) - 20.0) / radius
    # The route's circle turns left; the ego stands `left` of it, and looks `angle` to the left of its tangent.
    centre = (radius - left) * np.array([np.sin(angle), np.cos(angle)])
    phase = along - angle
    route = centre + radius * np.stack([np.sin(phase), -np.cos(phase)], axis=1)
    start = dataclasses.replace(straight_start(), curvature=curvature, route=route.astype(np.float32))
    seen = seen_from_route(motion_of(start))

    way = np.array([-0.05, 0.0, 0.05])
    ego = np.stack([np.sin(curvature * way), 1 - np.cos(curvature * way)], axis=1) / curvature
    offset = radius - np.hypot(*(ego - centre).T)
    s = radius * np.arctan2(*((ego - centre) * [1.0, -1.0]).T)
    first = np.diff(offset) / np.diff(s)
    second = np.diff(first)[0] / (0.5 * (s[2] - s[0]))
    np.testing.assert_allclose(seen.offset, left, atol=2e-3)
    np.testing.assert_allclose(seen.slope, first.mean(), atol=3e-3)
    np.testing.assert_allclose(seen.bend, second, atol=1e-3)
