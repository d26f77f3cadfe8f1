"""Routes and starts on roads that a human can draw."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from wmplan.plans import ROUTE_POINTS
from wmplan.route import ROUTE_LENGTH_M, route_of
from wmplan.scene import Feature, Kind, RoadMap, Tracks
from wmplan.start import LOWEST_TARGET_MPS, ROUTE_SPACING_M, equally_spaced, median_slope, start_of
from wmplan.testing.scenes import Body, straight_road


def line(*points: tuple[float, float], step: float = 2.0) -> np.ndarray:
    """A polyline through these points, a vertex about every two metres."""
    pieces = [np.array(points[:1], dtype=float)]
    for a, b in itertools.pairwise(points):
        n = max(1, round(np.hypot(b[0] - a[0], b[1] - a[1]) / step))
        pieces.append(np.linspace(a, b, n + 1)[1:])
    return np.concatenate(pieces)


def arc(x: float, y: float, radius: float, turn: float) -> np.ndarray:
    """A bend that leaves (x, y) along x; positive turns go left."""
    angle = np.linspace(0, abs(turn), 30)
    return np.stack([x + radius * np.sin(angle), y + np.sign(turn) * radius * (1 - np.cos(angle))], axis=1)


def road(*lanes: np.ndarray, links: tuple[tuple[int, int], ...] = ()) -> RoadMap:
    names = [(str(a), str(b)) for a, b in links]
    return RoadMap.build([(Feature.LANE, str(i), lane) for i, lane in enumerate(lanes)], names)


def test_the_lane_that_goes_the_egos_way_is_taken_not_the_nearest() -> None:
    towards = line((80, 0.5), (-20, 0.5))
    along = line((-20, -2.0), (200, -2.0))
    route, on_map = route_of(road(towards, along))
    assert on_map
    assert route[0] == pytest.approx([0, -2])
    assert route[-1] == pytest.approx([ROUTE_LENGTH_M, -2])
    assert not route_of(road(towards))[1]
    assert not route_of(road(line((-20, 9), (80, 9))))[1]


def test_a_route_follows_links_round_a_bend_and_takes_the_straightest_branch() -> None:
    entry, left, right, bend = line((-20, 0), (30, 0)), arc(30, 0, 15, 1.5), arc(30, 0, 10, -1.5), arc(30, 0, 80, 0.5)
    route, _ = route_of(road(entry, left, right, bend, links=((0, 1), (0, 2), (0, 3))))
    assert route[-1, 1] == pytest.approx(80 * (1 - np.cos(0.5)) + 30 * np.sin(0.5), abs=0.5)
    only_left, _ = route_of(road(entry, left, right, bend, links=((0, 1),)))
    assert only_left[-1, 1] > 30
    assert only_left[:, 0].max() < 50


def test_without_links_the_lane_that_begins_at_the_end_continues() -> None:
    entry, bend = line((-20, 0), (30, 0)), arc(30.5, 0.3, 40, 1.5)
    crossing = line((30, -20), (30, 40))
    backwards = line((30, 0.5), (-20, 0.5))
    route, _ = route_of(road(entry, bend, crossing, backwards))
    assert route[-1, 1] > 30
    straight, _ = route_of(road(entry, crossing, backwards))
    assert straight[-1] == pytest.approx([ROUTE_LENGTH_M, 0], abs=1e-4)


def test_at_a_fork_under_the_car_the_straighter_lane_wins_whatever_the_order() -> None:
    bend, on = np.concatenate([line((-20, 0), (2, 0)), arc(2.5, 0, 12, 1.5)]), line((-20, 0), (120, 0))
    for lanes in ((bend, on), (on, bend)):
        assert route_of(road(*lanes))[0][-1] == pytest.approx([ROUTE_LENGTH_M, 0], abs=1e-4)


def test_a_ring_of_lanes_ends() -> None:
    halves = [arc(0, 0, 6, 3.14), line((0, 12), (-0.1, 12)), np.flip(arc(0, 0, 6, -3.14), 0) * [1, -1]]
    route, on_map = route_of(road(*halves, links=((0, 1), (1, 2), (2, 0))))
    assert on_map
    assert np.isfinite(route).all()
    assert np.hypot(*np.diff(route, axis=0).T).sum() == pytest.approx(ROUTE_LENGTH_M, abs=0.1)


def test_lanes_without_extent_are_no_lanes() -> None:
    assert not route_of(road(np.zeros((3, 2))))[1]
    assert not route_of(RoadMap.build([]))[1]


def test_points_are_equally_spaced_and_go_straight_on() -> None:
    points = equally_spaced(np.array([[0, 0], [3, 0], [3, 0], [3, 4]], dtype=float), 8, 1.5)
    assert points.tolist() == [[0, 0], [1.5, 0], [3, 0], [3, 1.5], [3, 3], [3, 4.5], [3, 6], [3, 7.5]]


def moved(accel: float, curvature: float, speed: float) -> Tracks:
    """The ego's history on a circle at constant acceleration, ending at the origin with this speed."""
    scene, _ = straight_road([], speed=speed)
    times = 0.1 * np.arange(-20, 1)
    along = speed * times + accel * times**2 / 2
    v, yaw = speed + accel * times, curvature * along
    states = scene.ego.states.copy()
    states[0, :, 0], states[0, :, 1] = along, 0.0
    states[0, :, 2], states[0, :, 3], states[0, :, 4] = yaw, v * np.cos(yaw), v * np.sin(yaw)
    return replace(scene.ego, states=states)


@pytest.mark.parametrize(("accel", "curvature"), [(0.0, 0.0), (1.5, 0.02), (-3.0, -0.05), (9.0, 0.0)])
def test_acceleration_and_curvature_are_read_back(accel: float, curvature: float) -> None:
    scene, _ = straight_road([])
    start = start_of(replace(scene, ego=moved(accel, curvature, 12.0)))
    assert start.speed == pytest.approx(12.0)
    assert start.accel == pytest.approx(np.clip(accel, -6, 6), abs=1e-4)
    assert start.curvature == pytest.approx(curvature, rel=0.06, abs=1e-5)


def test_one_wild_state_moves_neither() -> None:
    scene, _ = straight_road([])
    ego = moved(1.0, 0.02, 12.0)
    wild = ego.states.copy()
    wild[0, -3, 2:] = [2.0, -40.0, 55.0]
    start = start_of(replace(scene, ego=replace(ego, states=wild)))
    assert start.accel == pytest.approx(1.0, abs=0.2)
    assert start.curvature == pytest.approx(0.02, abs=0.005)


def test_a_standing_or_reversing_car_has_no_curvature_and_no_negative_speed() -> None:
    scene, _ = straight_road([])
    assert start_of(replace(scene, ego=moved(0.0, 0.3, 0.2))).curvature == 0.0
    assert start_of(replace(scene, ego=moved(0.0, 0.0, -1.0))).speed == 0.0


def test_the_desired_speed_is_the_traffics_within_bounds() -> None:
    target = lambda bodies, speed: start_of(straight_road(bodies, speed=speed)[0]).target_speed  # noqa: E731
    assert target([], 0.0) == LOWEST_TARGET_MPS
    assert target([], 14.0) == pytest.approx(14.0)
    assert target([], 60.0) == 33.0
    fast = [Body(20.0, 0.0, speed=15.0), Body(30.0, 3.5, speed=16.0), Body(-30.0, 3.5, speed=17.0)]
    assert target(fast, 3.0) == pytest.approx(16.0)
    others = [
        Body(20.0, 0.0, np.pi, 30.0),
        Body(200.0, 0.0, 0.0, 30.0),
        Body(5.0, 5.0, 0.0, 30.0, Kind.CYCLIST),
        Body(9.0, 0.0),
    ]
    assert target(others, 3.0) == LOWEST_TARGET_MPS


def test_a_start_has_the_fixed_route() -> None:
    start = start_of(straight_road()[0])
    assert start.route.shape == (ROUTE_POINTS, 2)
    assert np.hypot(*np.diff(start.route, axis=0).T) == pytest.approx(ROUTE_SPACING_M, abs=1e-4)


def test_the_median_slope_of_a_line_is_its_slope() -> None:
    t = np.array([0.0, 0.1, 0.3, 0.7])
    assert median_slope(t, 3 * t - 1) == pytest.approx(3)
    assert median_slope(t[:1], t[:1]) == 0.0
