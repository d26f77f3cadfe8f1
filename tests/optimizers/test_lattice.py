"""The lattice: known answers on a straight route, agreement of controls and path, flags, density, low speed."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planning_cases import arc_start, straight_start

from optimizers import Limits, make
from optimizers.axes import ABSOLUTE, Axes, design
from optimizers.fan import Fan, FanConfig, Path, _turn, along, fan
from optimizers.frenet import quintic, seen_from_route
from optimizers.lattice import Lattice, LatticeConfig, _to_the_end
from optimizers.motion import motion_of
from wmplan.contracts import Infeasible
from wmplan.plans import Plans

CONFIG = FanConfig()


def axes(ends, speeds, offsets) -> Axes:
    """Every end time with every end speed (m/s), at every end offset (m)."""
    end, speed = (grid.ravel().astype(np.float32) for grid in np.meshgrid(ends, speeds, indexing="ij"))
    kind = np.full(len(end), ABSOLUTE, np.int32)
    return Axes(end, speed, kind, np.array(offsets, np.float32), np.zeros(len(offsets), bool))


def one(end: float, speed: float, offset: float) -> Axes:
    return axes([end], [speed], [offset])


def controls_of(found: Fan) -> np.ndarray:
    return np.stack([found.accel, found.curvature], axis=-1).transpose(1, 0, 2)


@pytest.mark.parametrize(("end", "offset"), [(2.0, 1.5), (3.0, -3.0), (2.5, 0.0)])
def test_straight_route_reaches_the_end_state_at_its_time(end, offset):
    found = fan(CONFIG, motion_of(straight_start(speed=12.0)), one(end, 14.0, offset))
    last = round(end / 0.1) - 1  # the path begins after the first step
    path = np.array(found.path)[:, :, 0]
    assert int(found.infeasible[0]) == 0
    np.testing.assert_allclose(path[1:, last], [offset, 1.0, 0.0, 14.0], atol=1e-4)
    # A quartic's mean speed over its time is the mean of both ends.
    assert path[0, last] == pytest.approx(13.0 * end, abs=1e-3)
    np.testing.assert_allclose(path[1, last:], offset, atol=1e-4)
    np.testing.assert_allclose(np.asarray(found.accel)[last + 1 :], 0.0, atol=2e-4)


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
    found = fan(LatticeConfig(), motion_of(start), design(30, 3.5, 300).axes)
    drivable = np.asarray(found.infeasible) == 0
    assert drivable.sum() > 40
    rolled = Plans.from_controls(controls_of(found), start.speed).states[drivable]
    path = np.stack([found.path.x, found.path.y]).transpose(2, 1, 0)[drivable]
    gap = np.hypot(*(rolled[:, 1:, :2] - path).transpose(2, 0, 1))
    assert gap.max() < 0.3
    ahead = np.array([0.1 * start.speed, 0.0])
    assert path[:, 0] == pytest.approx(np.broadcast_to(ahead, path[:, 0].shape), abs=0.06)


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
    found = fan(CONFIG, motion_of(start), one(3.0, 8.0, 0.0))
    np.testing.assert_allclose(np.asarray(found.curvature)[8:, 0], 1 / 30, atol=1e-3)


@pytest.mark.parametrize(
    ("field", "reason", "ends"),
    [
        ("max_speed_mps", Infeasible.SPEED, (3.0, 15.0, 0.0)),
        ("max_curvature_rate_pmps", Infeasible.CURVATURE_RATE, (2.0, 9.0, 3.0)),
    ],
)
def test_flag_at_the_threshold(field, reason, ends):
    """Two reasons that need neighbouring steps; `reasons` is tested with all of them."""
    motion = motion_of(straight_start(speed=10.0))
    wide = Limits(100.0, -50.0, 50.0, 10.0, 100.0, 1000.0)
    found = fan(FanConfig(limits=wide), motion, one(*ends))
    assert found.infeasible[0] == 0
    curvature = np.asarray(found.curvature)[:, 0]
    peak = {
        "max_speed_mps": np.asarray(found.path.speed).max(),
        "max_curvature_rate_pmps": np.abs(np.diff(curvature)).max() / 0.1,
    }[field]
    for hair, expected in ((1.001, 0), (0.998, int(reason))):
        limits = dataclasses.replace(wide, **{field: float(peak) * hair})
        assert int(fan(FanConfig(limits=limits), motion, one(*ends)).infeasible[0]) == expected


def test_ego_across_the_route_cannot_be_projected():
    start = straight_start()
    sideways = dataclasses.replace(start, route=np.ascontiguousarray(start.route[:, ::-1]))
    optimizer = Lattice()
    proposal = optimizer.ask(0, optimizer.init(0, sideways))
    assert (proposal.infeasible & Infeasible.PROJECTION).all()
    assert np.isfinite(proposal.controls).all()


def test_offset_beyond_the_centre_of_the_turn_cannot_be_projected():
    start = arc_start(5.0, speed=3.0, spacing_m=0.5)
    inside, outside = np.asarray(fan(CONFIG, motion_of(start), axes([3.0], [4.2], [6.0, -1.2])).infeasible)
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
    coarse = int((optimizer.config.design().level == 0).sum())
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


def test_levels_nest_and_every_candidate_is_asked_once():
    coarse, fine = design(30, 3.5, 35), design(30, 3.5, 256)

    def ends(made):
        offset, profile = np.divmod(made.rows, len(made.axes.end))
        columns = [made.axes.end[profile], made.axes.kind[profile], made.axes.speed[profile], made.axes.offset[offset]]
        return np.stack([*columns, made.axes.own[offset]], axis=1)

    assert len(np.unique(ends(fine), axis=0)) == len(fine.rows) == 770
    np.testing.assert_array_equal(ends(fine)[: len(coarse.rows)], ends(coarse))
    assert (np.diff(fine.level) >= 0).all()


def test_rows_that_cannot_be_driven_go_to_the_end_in_order():
    last = np.random.default_rng(0).random(300) < 0.4
    np.testing.assert_array_equal(_to_the_end(jnp.asarray(last)), np.argsort(last, stable=True))


def test_tally_counts_every_reason_over_the_whole_lattice():
    optimizer = Lattice()
    state = optimizer.init(0, straight_start(speed=14.0))
    found = dict(optimizer.tally(state))
    bits = np.asarray(fan(optimizer.config, state.motion, optimizer.config.design().axes).infeasible)
    bits = bits[optimizer.config.design().rows]
    assert found[Infeasible.LATERAL_ACCEL] == sum(bool(b & Infeasible.LATERAL_ACCEL) for b in bits) > 0
    assert found[Infeasible.PROJECTION] == 0


def test_candidate_that_is_not_finite_is_never_drivable():
    """Beyond float32's range the path is not a number; no bound may take that for kept."""
    with np.errstate(over="ignore"):
        found = fan(CONFIG, motion_of(straight_start(speed=12.0)), one(3.0, 3e38, 3e38))
    assert not np.isfinite(np.asarray(found.accel)).all()
    assert int(found.infeasible[0]) & Infeasible.SPEED
    assert int(found.infeasible[0]) & Infeasible.LATERAL_ACCEL


def test_turn_between_headings():
    """Right within a step's reach; a jump by more than 60 degrees, to the very opposite too, is no zero."""
    angle = np.array([0.0, 1e-3, -0.2, 0.4, -0.6, 1.04, 1.06, -2.0, 3.1, np.pi], np.float32)
    at = [
        Path(*(jnp.asarray(v)[None] for v in (0 * a, 0 * a, np.cos(a), np.sin(a), 0 * a))) for a in (0 * angle, angle)
    ]
    found = np.asarray(_turn(*at))[0]
    np.testing.assert_allclose(found[:3], angle[:3], atol=1e-6)
    np.testing.assert_allclose(found[3:6], angle[3:6], atol=0.012)
    assert (np.abs(found[6:]) > 1.0).all()


@pytest.mark.parametrize("radius", [30.0, -45.0])
def test_projection_onto_a_circle_is_exact(radius):
    """Beside a circular route the plane's polar coordinates are the Frenet frame's."""
    start = arc_start(radius, speed=8.0, offset_m=-0.5)
    motion = motion_of(start)
    seen = seen_from_route(motion)
    wanted = axes([2.0, 3.0], [5.0, 9.0], [-2.0, 1.0])
    found = fan(CONFIG, motion, wanted)
    profile = jax.jit(along, static_argnums=0)(CONFIG, motion, seen, wanted)
    end, time = jnp.asarray(wanted.end)[None], jnp.arange(1, 31)[:, None] * jnp.float32(0.1)
    slope, bend = seen.slope * seen.speed, seen.bend * seen.speed**2 + seen.slope * seen.accel
    drift, fade = quintic(slope[None, None], bend[None, None], end, time)
    s = np.asarray(profile.s)[1:]
    for j, offset in enumerate((-2.0, 1.0)):
        mine = slice(4 * j, 4 * j + 4)
        d = np.asarray(offset + drift.offset + (seen.offset - offset) * fade.offset)
        x, y = np.asarray(found.path.x)[:, mine], np.asarray(found.path.y)[:, mine]
        left = radius - np.sign(radius) * np.hypot(x, y - radius + 0.5)
        np.testing.assert_allclose(left, d, atol=3e-3)
        turned = np.arctan2(x, np.sign(radius) * (radius - 0.5 - y))
        np.testing.assert_allclose(abs(radius) * turned, s, atol=2e-2)


def test_special_candidates_do_what_their_labels_say():
    """Target speed (within reach), present speed and offset, standstill at 2 m/s2, braking at the limit."""
    start = arc_start(1e6, speed=8.0, offset_m=-0.6)
    optimizer = Lattice()
    proposal = optimizer.ask(0, optimizer.init(0, dataclasses.replace(start, target_speed=11.0)))
    plans = Plans.from_controls(proposal.controls[:5], start.speed)
    assert proposal.labels[:5] == ("target", "keep", "standstill", "emergency", "emergency")
    target, keep, stop, to_route, straight = plans.states[:, -1]
    np.testing.assert_allclose(target[[1, 3]], [-0.6, 11.0], atol=0.05)
    np.testing.assert_allclose(keep, [24.0, 0.0, 0.0, 8.0], atol=0.05)
    assert stop[3] == pytest.approx(2.0, abs=0.05)
    np.testing.assert_allclose(straight[[1, 2, 3]], 0.0, atol=0.02)
    assert straight[0] == pytest.approx(8.0**2 / (2 * 0.99 * 6.0), abs=0.1)
    assert to_route[1] < -0.1
    faster = optimizer.ask(0, optimizer.init(0, dataclasses.replace(start, target_speed=99.0)))
    assert Plans.from_controls(faster.controls[:1], 8.0).states[0, -1, 3] == pytest.approx(8.0 + 2.5 * 3.0, abs=0.05)
