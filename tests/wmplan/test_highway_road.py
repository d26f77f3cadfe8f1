"""highway-env as a road: repeatable, causal, and driven along the plan as documented."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from wmplan import bicycle
from wmplan.boxes import corners, overlaps
from wmplan.contracts import Road
from wmplan.errors import InputError
from wmplan.frames import wrap_angle
from wmplan.plans import Plans
from wmplan.scene import Feature, Kind

pytest.importorskip("highway_env", reason="the highway extra is not installed")

import shapely

from wmplan.real_road import RealRoad
from wmplan.simulator.highway import KINDS, HighwayRoad
from wmplan.start import start_of


@pytest.fixture(scope="module")
def quiet():
    """A highway with few others."""
    road = HighwayRoad("highway", vehicles=3)
    return road, road.reset(5)


def plans(state, *controls):
    speed = float(state.env.vehicle.speed)
    return Plans.from_controls(np.stack([np.asarray(c, dtype=float) for c in controls]), speed)


def steady(accel, curvature, steps):
    return np.tile([accel, curvature], (steps, 1))


def states(driven):
    """x, y, yaw, speed: K S A 4."""
    ex = driven.executed
    return np.stack([ex.x, ex.y, np.arctan2(ex.sin, ex.cos), ex.speed], axis=-1).swapaxes(0, 1)


def boxes(driven, k, step, row):
    ex = driven.executed
    x, y, cos, sin = (field[step, k, row] for field in (ex.x, ex.y, ex.cos, ex.sin))
    return np.array([x, y, np.arctan2(sin, cos), ex.length[row], ex.width[row]])


def test_is_a_road(quiet):
    assert isinstance(quiet[0], Road)


@pytest.mark.parametrize("kind", KINDS)
def test_same_key_same_everything(kind):
    road = HighwayRoad(kind, vehicles=5)
    first = road.reset(11)
    driven = road.execute(first, plans(first, steady(0.5, 0.0, 20)))
    # The intersection writes parameters into its drivers' class; nobody else may notice.
    other = HighwayRoad("intersection")
    other.reset(2)
    again = road.reset(11)
    for a, b in zip(first.past, again.past):
        assert a.labels == b.labels
        np.testing.assert_array_equal(a.states, b.states)
    same = road.execute(again, plans(again, steady(0.5, 0.0, 20)))
    np.testing.assert_array_equal(states(driven), states(same))
    assert not np.array_equal(road.reset(12).past[-1].states[0], first.past[-1].states[0])


def test_a_candidate_does_not_depend_on_its_companions(quiet):
    road, state = quiet
    both = plans(state, steady(1.0, 0.0, 15), steady(-4.0, 0.01, 15))
    together, alone = road.execute(state, both), road.execute(state, both.select([1]))
    np.testing.assert_array_equal(states(together)[1], states(alone)[0])


def test_outcomes_are_steps_and_leave_the_state_alone(quiet):
    road, state = quiet
    before = state.env.vehicle.position.copy()
    many = plans(state, steady(-1.0, 0.004, 6))
    driven = road.execute(state, many)
    now = state
    for action in many.controls[0]:
        now = road.step(now, action)
    np.testing.assert_array_equal(state.env.vehicle.position, before)
    anchor = road.scene(state).anchor
    last = now.past[-1].states
    assert now.past[-1].labels == driven.labels
    np.testing.assert_allclose(anchor.to_local(last[:, :2]), states(driven)[0, -1, :, :2], atol=1e-9)
    np.testing.assert_allclose(last[:, 3], states(driven)[0, -1, :, 3], atol=1e-9)


@pytest.mark.parametrize("ticks", [1, 2, 8])
def test_braking_distance(ticks):
    """v^2 / 2a, and half a tick's worth of speed more, as documented."""
    road = HighwayRoad("highway", vehicles=1, ticks=ticks)
    state = road.reset(5)
    speed = float(state.env.vehicle.speed)
    driven = road.execute(state, plans(state, steady(-5.0, 0.0, 60)))
    ego = states(driven)[0, :, 0]
    assert ego[-1, 3] == pytest.approx(0.0, abs=1e-6)
    tick = 0.1 / ticks
    assert ego[-1, 0] == pytest.approx(speed**2 / 10.0 + 0.5 * tick * speed, abs=5.0 * tick**2)
    assert (np.diff(ego[:, 0]) >= -1e-9).all()  # it stops, it doesn't reverse


def test_the_centre_follows_the_plan_and_the_box_slips(quiet):
    road, state = quiet
    change = np.concatenate([steady(0.0, 0.012, 15), steady(0.0, -0.012, 15), steady(0.0, 0.0, 10)])
    wanted = plans(state, change)
    driven = road.execute(state, wanted)
    ego, planned = states(driven)[0, :, 0], wanted.states[0].astype(float)
    assert np.hypot(*(ego[:, :2] - planned[:, :2]).T).max() < 0.02
    assert planned[:, 1].max() > 3.0
    slip = np.arcsin(0.012 * 5.0 / 2.0)
    turned = wrap_angle(ego[:, 2] - planned[:, 2])
    assert abs(turned[10] + slip) < 0.25 * slip  # the box looks outwards of a left curve
    assert np.abs(turned).max() < 2.0 * slip


def test_steady_curvature_is_a_circle_of_that_radius():
    road = HighwayRoad("highway", vehicles=1, ticks=4)
    state = road.reset(5)
    curve = np.concatenate([steady(-5.0, 0.0, 40), steady(0.0, 0.1, 40)])
    ego = states(road.execute(state, plans(state, curve)))[0, 41:, 0, :2]
    a, b, c = ego[0], ego[18], ego[36]
    area = 0.5 * abs((b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0])
    sides = [np.hypot(*(p - q)) for p, q in ((a, b), (b, c), (c, a))]
    assert np.prod(sides) / (4.0 * area) == pytest.approx(10.0, rel=0.01)
    assert (b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0] > 0.0  # to the left


def test_curvature_beyond_the_steering_is_not_reached(quiet):
    road, state = quiet
    hard = np.concatenate([steady(-5.0, 0.0, 25), steady(0.0, bicycle.MAX_CURVATURE_PM, 20)])
    ego = states(road.execute(state, plans(state, hard)))[0, :, 0]
    rate = wrap_angle(np.diff(ego[-5:, 2])) / (ego[-5:-1, 3] * 0.1)
    np.testing.assert_allclose(rate, np.sin(np.arctan(0.5 * np.tan(np.pi / 3))) / 2.5, rtol=1e-3)


def test_no_spooky_effect():
    """Who has the ego neither ahead nor behind as a neighbour moves the same whatever it does; its follower doesn't."""
    road = HighwayRoad("highway", vehicles=12)
    state = road.reset(1)
    driven = road.execute(state, plans(state, steady(-6.0, 0.0, 30), steady(2.0, 0.0, 30)))
    gap = states(driven)[0, 0, :, 0]
    far = np.flatnonzero(gap > 150.0)
    assert len(far) >= 3
    np.testing.assert_array_equal(states(driven)[0][:, far], states(driven)[1][:, far])
    behind = HighwayRoad("merge").reset(4)
    reacting = HighwayRoad("merge").execute(behind, plans(behind, steady(-6.0, 0.0, 30), steady(2.0, 0.0, 30)))
    assert (np.abs(states(reacting)[0, -1, 1:] - states(reacting)[1, -1, 1:]).max(axis=-1) > 0.5).any()


def test_driving_into_another_is_a_crash():
    road = HighwayRoad("merge")
    for key in range(20):
        state = road.reset(key)
        driven = road.execute(state, plans(state, steady(0.0, 0.0, 60), steady(6.0, 0.0, 60)))
        if driven.crashed.any():
            break
    step, k = np.argwhere(driven.crashed)[0]
    assert step > 0
    ego = shapely.Polygon(corners(boxes(driven, k, step, 0)[None])[0])
    others = [shapely.Polygon(corners(boxes(driven, k, step, row)[None])[0]) for row in range(1, len(driven.labels))]
    assert min(ego.distance(other) for other in others) < 0.3
    assert driven.crashed[step:, k].all()
    assert road.outcomes(state, plans(state, steady(0.0, 0.0, 60), steady(6.0, 0.0, 60))).column("contacts")[k] > 0
    # Where nothing overlaps at any step, highway-env reports nothing either.
    for k in np.flatnonzero(~driven.crashed.any(axis=0)):
        for step in range(61):
            rows = np.flatnonzero(driven.executed.active[step, k])[1:]
            mine = np.repeat(boxes(driven, k, step, 0)[None], len(rows), axis=0)
            assert not overlaps(mine, np.stack([boxes(driven, k, step, row) for row in rows])).any()


def test_the_judge_of_our_own_roads():
    """What follows is what highway-env says: a crash is a contact, leaving the lanes is leaving the drivable area."""
    road = HighwayRoad("highway", vehicles=12)
    state = road.reset(1)
    off = np.concatenate([steady(0.0, 0.02, 12), steady(-6.0, 0.0, 38)])
    judged = road.outcomes(state, plans(state, steady(0.0, 0.0, 50), steady(-6.0, 0.0, 50), off))
    scores = {name: judged.column(name) for name in judged.columns}
    assert list(scores["off_road"]) == [0.0, 0.0, 1.0]
    assert list(scores["drivable_pdms"]) == [1.0, 1.0, 0.0]
    assert list(scores["contacts"] > 0) == list(scores["crashed"] > 0)
    assert scores["pdms"][0] > scores["pdms"][1] > scores["pdms"][2] == 0.0
    speed = float(state.env.vehicle.speed)
    assert scores["progress_m"][:2] == pytest.approx([5.0 * speed, speed**2 / 12.0 + 0.025 * speed], abs=0.2)
    assert scores["expert_progress_m"][0] == pytest.approx(5.0 * speed, rel=0.3)


def test_newcomers_are_the_same_for_all_candidates():
    road = HighwayRoad("intersection")
    state = road.reset(3)
    driven = road.execute(state, plans(state, steady(-6.0, 0.0, 45), steady(-2.0, 0.0, 45)))
    there = driven.executed.active
    came = [row for row, label in enumerate(driven.labels) if not there[0, 0, row]]
    assert came
    for row in came:
        step = int(np.argmax(there[:, 0, row]))
        assert there[step, 1, row]
        assert not there[step - 1, 1, row]
        np.testing.assert_array_equal(states(driven)[0, step, row], states(driven)[1, step, row])


def test_who_comes_does_not_depend_on_what_was_drawn_before():
    from wmplan.simulator.highway_cars import come_and_go, copied

    state = HighwayRoad("intersection").reset(3)
    one, other = copied(state.env), copied(state.env)
    other.np_random.uniform(size=3)  # as if somebody had been let in here who wasn't there
    for second in range(1, 5):
        for env in (one, other):
            come_and_go(env, state.key, second)
    assert [v.label for v in one.road.vehicles] == [v.label for v in other.road.vehicles]
    assert any(v.label.startswith("spawn") for v in one.road.vehicles if v not in state.env.road.vehicles)
    for a, b in zip(one.road.vehicles, other.road.vehicles):
        np.testing.assert_array_equal(a.position, b.position)


@pytest.mark.parametrize("kind", KINDS)
def test_scene(kind):
    road = HighwayRoad(kind, vehicles=20)
    state = road.reset(8)
    scene = road.scene(state)
    assert scene.ego.valid.all()
    np.testing.assert_allclose(scene.ego.states[0, -1, :3], 0.0, atol=1e-6)
    assert start_of(scene).speed == pytest.approx(state.env.vehicle.speed, abs=1e-4)
    assert scene.route_on_map
    # Positions and velocities belong together: the mirrored frame is consistent.
    ego = scene.ego.states[0].astype(float)
    np.testing.assert_allclose(np.diff(ego[:, :2], axis=0) / 0.1, ego[:-1, 3:], atol=2.0)
    real = RealRoad(scene.road_map)
    cars = scene.agents.kinds == Kind.VEHICLE
    here = np.concatenate([scene.ego.states[:, -1, :3], scene.agents.states[cars & scene.agents.valid[:, -1], -1, :3]])
    small = np.concatenate([here.astype(float), np.full((len(here), 2), 0.5)], axis=1)
    assert not real.off(small, 0.0).any()
    # A lane runs the way that the ego looks.
    assert real.along_lane(np.array([[1.0, 0.0]]), np.zeros((1, 2)))[0] > 0.95


def test_the_ramp_is_on_the_right_and_ends_at_an_obstacle():
    road = HighwayRoad("merge")
    state = road.reset(0)
    road_map = road.log(state).road_map
    lanes = {name: road_map.feature(i) for i, name in enumerate(road_map.ids) if road_map.kinds[i] == Feature.LANE}
    assert lanes["j-k-0"][:, 1].max() < lanes["a-b-1"][:, 1].min() < lanes["a-b-0"][:, 1].min()
    linked = {(road_map.ids[a], road_map.ids[b]) for a, b in road_map.successors}
    assert {("j-k-0", "k-b-0"), ("k-b-0", "b-c-2"), ("a-b-0", "b-c-0"), ("b-c-1", "c-d-1")} <= linked
    assert not any(a == "b-c-2" for a, _ in linked)
    tracks = road.log(state).tracks
    obstacle = tracks.states[list(tracks.kinds).index(Kind.OTHER), -1, :2]
    np.testing.assert_allclose(obstacle, lanes["b-c-2"][-1], atol=1e-9)


@pytest.mark.parametrize(
    ("controls", "speed", "word"),
    [
        (steady(np.nan, 0.0, 5), 0.0, "expected a finite number"),
        (steady(7.0, 0.0, 5), 0.0, "acceleration"),
        (steady(0.0, 0.31, 5), 0.0, "curvature"),
        (steady(0.0, 0.0, 5), 3.0, "m/s"),
    ],
)
def test_plans_that_cannot_be_executed(quiet, controls, speed, word):
    road, state = quiet
    start = np.array([0.0, 0.0, 0.0, state.env.vehicle.speed + speed])
    rolled = bicycle.forward(start[None], controls[None], 0.1)
    with pytest.raises(InputError, match=word):
        road.execute(state, Plans(controls[None].astype(np.float32), rolled.astype(np.float32)))


def test_arguments():
    with pytest.raises(InputError, match="expected one of highway, merge"):
        HighwayRoad("motorway")
    with pytest.raises(InputError, match="ticks"):
        HighwayRoad("merge", ticks=0)


def test_without_the_package():
    code = (
        "import sys; sys.modules['highway_env'] = None\n"
        "from wmplan.errors import InputError\n"
        "from wmplan.simulator.highway import HighwayRoad\n"
        "try:\n    HighwayRoad()\nexcept InputError as error:\n    sys.exit('wmplan[highway]' not in str(error))\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
