"""Scenes as roads: the route is the path that was driven, whoever takes part, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import shapely
from road_scenes import TIMES, along, at_arc, length, only_route, scene_with

from wmplan.errors import InputError
from wmplan.scene import (
    FUTURE_STEPS,
    Feature,
    Future,
    Kind,
    RoadMap,
    Scene,
)
from wmplan.simulator.scene_paths import MOST_VERTICES, PATH_TOLERANCE_M
from wmplan.simulator.scene_road import scene_road
from wmplan.testing.scenes import straight_road


def test_rows_are_the_ego_and_the_scenes_agents_in_their_order() -> None:
    made = scene_road(*straight_road())
    assert made.start.ids == ("ego", *(f"agent{i}" for i in range(5)))
    assert made.start.kind.tolist() == [Kind.VEHICLE] * 4 + [Kind.PEDESTRIAN, Kind.OTHER]
    assert made.start.stands.tolist() == [False] * 5 + [True]
    np.testing.assert_allclose(made.start.speed, [10.0, 8.0, 11.0, 12.0, 1.4, 0.0], atol=0.02)
    np.testing.assert_allclose(made.start.x, [0.0, 25.0, 5.0, -10.0, 15.0, 30.0], atol=0.02)
    assert (len(made.road.routes), made.rows, made.agents.tolist()) == (6, 32, [0, 1, 2, 3, 4])
    assert (made.start.s == 0.0).all()
    np.testing.assert_allclose(made.start.yaw[:5], [0.0, 0.0, 0.0, 0.0, np.pi / 2], atol=1e-3)


def test_a_straight_way_is_a_straight_route_along_its_lane_at_its_speed() -> None:
    route = only_route(scene_with(along(20.0, -3.5, 12.0)))
    np.testing.assert_allclose(route.points[0], [20.0, -3.5], atol=0.01)
    assert np.abs(route.points[:, 1] + 3.5).max() < 0.02
    np.testing.assert_allclose(route.speeds, 12.0, atol=0.1)
    # 8 s at 12 m/s, braking at 3 m/s2, the box and 10 m.
    assert length(route) == pytest.approx(96.0 + 24.0 + 4.8 + 10.0, abs=1.0)


def test_a_bend_keeps_within_the_tolerance_and_goes_on_straight() -> None:
    radius, speed = 15.0, 6.0

    def motion(t: np.ndarray) -> np.ndarray:
        angle = np.clip(speed * t / radius, 0.0, np.pi / 2)
        rest = speed * t - angle * radius
        inside = np.stack([radius * np.sin(angle), radius * (1.0 - np.cos(angle))], axis=-1)
        return np.array([10.0, 5.0]) + inside + np.stack([np.minimum(rest, 0.0), np.maximum(rest, 0.0)], axis=-1)

    scene, future = scene_with(motion, jitter=0.02)
    made = scene_road(scene, future)
    route = made.road.routes[1]
    assert made.deviation[1] < PATH_TOLERANCE_M + 0.1
    assert 5 <= len(route.points) <= MOST_VERTICES
    last = route.points[-1] - route.points[-2]
    assert np.arctan2(last[1], last[0]) == pytest.approx(np.pi / 2, abs=0.05)
    turns = np.diff(np.unwrap(np.arctan2(*np.diff(route.points, axis=0).T[::-1])))
    assert np.abs(turns).max() < np.deg2rad(25.0)


def test_jitter_of_who_halts_makes_no_path() -> None:
    """It halts for seven of ten seconds while its box trembles; a route through all places would be long."""
    halts = at_arc(30.0, -3.5, lambda t: np.where(t < 1.0, 6.0 * t - 3.0 * np.maximum(t, 0.0) ** 2, 3.0))
    route = only_route(scene_with(halts, jitter=0.1))
    assert np.abs(np.diff(route.points[:, 1])).max() < 0.5
    assert (np.diff(route.points[:, 0]) > 0.0).all()


@pytest.mark.parametrize(("wander", "stands"), [(0.05, True), (0.9, True), (1.3, False)])
def test_who_never_leaves_a_metre_stands_for_good(wander: float, stands: bool) -> None:
    creeps = at_arc(30.0, -3.5, lambda t: wander * (t - TIMES[0]) / (TIMES[-1] - TIMES[0]))
    made = scene_road(*scene_with(creeps, yaw=0.3))
    assert made.start.stands[1] == stands
    assert made.road.routes[1].dead_end == stands
    if stands:
        assert made.start.speed[1] == 0.0
        assert made.start.yaw[1] == pytest.approx(0.3, abs=1e-6)
        assert 0.0 < made.road.routes[1].stop - 0.5 * made.start.length[1] < 0.1


def test_who_drives_backwards_keeps_its_path_and_says_so() -> None:
    made = scene_road(*scene_with(along(30.0, -3.5, -1.5), yaw=0.0))
    assert made.start.backwards[1]
    assert not made.start.backwards[0]
    assert abs(made.start.yaw[1]) == pytest.approx(np.pi, abs=1e-3)
    np.testing.assert_allclose(made.road.routes[1].points[-1, 0] - 30.0, -length(made.road.routes[1]), atol=0.05)


def test_who_turns_back_has_the_first_way_alone() -> None:
    shunts = at_arc(30.0, -3.5, lambda t: np.where(t < 3.0, 2.0 * t, 12.0 - 2.0 * t))
    made = scene_road(*scene_with(shunts, yaw=0.0))
    assert made.turned == 1
    assert (np.diff(made.road.routes[1].points[:, 0]) > 0.0).all()
    assert not made.start.backwards[1]


def test_gaps_in_a_track_are_bridged() -> None:
    scene, future = scene_with(along(20.0, -3.5, 10.0))
    whole = only_route((scene, future))
    valid = future.agents.valid.copy()
    valid[0, 10:30] = False
    valid[0, 50:] = False
    states = np.where(valid[..., None], future.agents.states, np.float32(1e6))
    holes = replace(future, agents=replace(future.agents, valid=valid, states=states))
    route = only_route((scene, holes))
    assert length(route) == pytest.approx(length(whole), abs=0.1)
    np.testing.assert_allclose(route.points[-1], whole.points[-1], atol=0.1)


def test_one_glimpse_at_t0_is_enough() -> None:
    scene, future = scene_with(along(20.0, 0.2, 10.0))
    past, after = scene.agents.valid.copy(), np.zeros_like(future.agents.valid)
    past[:, :-1] = False
    scene = replace(scene, agents=replace(scene.agents, valid=past))
    made = scene_road(scene, replace(future, agents=replace(future.agents, valid=after)))
    assert made.start.speed[1] == pytest.approx(10.0, abs=0.01)
    # It joins the middle of its lane.
    np.testing.assert_allclose(made.road.routes[1].points[-1, 1], 0.0, atol=0.05)


def test_beyond_the_last_place_the_lane_is_followed() -> None:
    bend = np.deg2rad(np.arange(0.0, 91.0, 3.0))
    curve = np.stack([40.0 + 30.0 * np.sin(bend), -3.5 + 30.0 * (1.0 - np.cos(bend))], axis=-1)
    lane = np.concatenate([np.stack([np.arange(-60.0, 40.0, 2.0), np.full(50, -3.5)], axis=-1), curve])
    scene, future = scene_with(along(0.0, -3.3, 8.0))
    scene = replace(scene, road_map=RoadMap.build([(Feature.LANE, "bent", lane)]))
    valid = future.agents.valid.copy()
    valid[:, 35:] = False  # last seen at x = 28, before the bend
    made = scene_road(scene, replace(future, agents=replace(future.agents, valid=valid)))
    line = shapely.LineString(lane)
    beyond = made.road.routes[1].points
    beyond = beyond[(beyond[:, 0] > 38.0) & (shapely.line_locate_point(line, shapely.points(beyond)) < line.length)]
    assert len(beyond) >= 3
    assert shapely.distance(line, shapely.points(beyond)).max() < 0.35


def test_the_egos_route_owes_nothing_to_the_future() -> None:
    scene, future = straight_road()
    made = scene_road(scene, future)
    states = future.ego.states.copy()
    states[..., 1] += np.arange(FUTURE_STEPS) * 0.1
    other = scene_road(scene, replace(future, ego=replace(future.ego, states=states)))
    np.testing.assert_array_equal(made.road.routes[0].points, other.road.routes[0].points)
    np.testing.assert_array_equal(made.road.routes[0].speeds, other.road.routes[0].speeds)
    assert made.start.speed[0] == 10.0


def test_the_ego_beside_its_lane_starts_beside_its_route() -> None:
    scene, future = straight_road([])
    left = replace(scene, route=scene.route + np.array([0.0, -0.7], np.float32))
    made = scene_road(left, future)
    assert (made.start.x[0], made.start.y[0], made.start.yaw[0]) == (0.0, 0.0, 0.0)
    assert made.start.lateral[0] == pytest.approx(0.7, abs=1e-3)


def test_those_left_out_are_counted() -> None:
    scene, future = scene_with(along(20.0, -3.5, 8.0), along(40.0, -3.5, 8.0), along(60.0, -3.5, 8.0))
    now = scene.agents.valid.copy()
    now[1, -1] = False
    sizes = scene.agents.sizes.copy()
    sizes[2] = (60.0, 3.0)
    later = replace(
        future.agents,
        ids=(*future.agents.ids, "late"),
        kinds=np.append(future.agents.kinds, np.int8(0)),
        sizes=np.concatenate([future.agents.sizes, future.agents.sizes[:1]]),
        states=np.concatenate([future.agents.states, future.agents.states[:1] + np.float32(30.0)]),
        valid=np.concatenate([future.agents.valid, future.agents.valid[:1]]),
    )
    made = scene_road(
        replace(scene, agents=replace(scene.agents, valid=now, sizes=sizes)), replace(future, agents=later)
    )
    assert made.start.ids == ("ego", "agent0")
    out = made.left_out
    assert (out.later, out.hidden, out.size, out.far, out.total) == (1, 1, 1, 0, 3)


def test_rows_come_in_classes() -> None:
    for count, rows in ((31, 32), (32, 64), (127, 128)):
        parked = [along(10.0 * (i % 16) - 80.0, 8.0 + 6.0 * (i // 16), 0.0) for i in range(count)]
        assert scene_road(*scene_with(*parked)).rows == rows
    with pytest.raises(InputError, match="straight: 129 road users with the ego, expected at most 128"):
        scene_road(*scene_with(*(along(10.0 * (i % 16) - 80.0, 8.0 + 6.0 * (i // 16), 0.0) for i in range(128))))


def refusals() -> Iterator[tuple[str, Scene, Future]]:
    scene, future = straight_road()
    yield "future is of scene other", scene, replace(future, scene_id="other")
    valid = future.ego.valid.copy()
    valid[0, 29:] = False
    yield "future shows the ego for 2.9 s", scene, replace(future, ego=replace(future.ego, valid=valid))
    past = scene.ego.valid.copy()
    past[0, -1] = False
    yield "ego ego is not valid", replace(scene, ego=replace(scene.ego, valid=past)), future
    states = future.agents.states.copy()
    states[2, 5, 1] = np.nan
    yield "agents.states of agent2 are not", scene, replace(future, agents=replace(future.agents, states=states))
    yield "road_map has no lanes", replace(scene, road_map=RoadMap.build([])), future
    small = replace(scene.ego, sizes=np.array([[4.8, 0.0]], np.float32))
    yield "ego is 4.8 x 0 m", replace(scene, ego=small), future
    touching = scene_with(along(4.0, 0.0, 10.0))
    yield "ego and agent0 overlap at t0", *touching
    jumps = future.agents.states.copy()
    jumps[1, 40:, 0] += 60.0
    yield "agent1 moves by 61", scene, replace(future, agents=replace(future.agents, states=jumps))


@pytest.mark.parametrize("case", range(8))
def test_what_cannot_become_a_road_is_refused(case: int) -> None:
    match, scene, future = list(refusals())[case]
    with pytest.raises(InputError, match=match) as caught:
        scene_road(scene, future)
    assert "\n" not in str(caught.value)
    assert "scene straight" in str(caught.value)
