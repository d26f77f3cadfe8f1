"""Laws of the simulator's maps: roads lie under the paths, paths can be driven, right of way fits the geometry."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import shapely
import shapely.ops
from hypothesis import given, settings
from hypothesis import strategies as st

from wmplan.scene import Feature, Kind, Light
from wmplan.simulator.layout import Route, SimMap
from wmplan.simulator.maps import MAPS
from wmplan.simulator.packing import PLACES, SPACING_M, SPAWN_ROUTES, Sizes

HALF_WIDTH_M = {Kind.VEHICLE: 0.9, Kind.CYCLIST: 0.3, Kind.PEDESTRIAN: 0.3}
CHORD_M = 5.0
"""Curvature is measured over pieces of this length, a car and a bit."""
KINK_RAD = np.deg2rad(15.01)
names = pytest.mark.parametrize("name", MAPS)
seeds = given(st.integers(0, 299))
several = settings(max_examples=8, deadline=None, database=None, derandomize=True)


@cache
def build(name: str, seed: int) -> SimMap:
    return MAPS[name](seed)


def line(route: Route) -> shapely.LineString:
    return shapely.LineString(route.points)


def piece(route: Route, low: float, high: float) -> shapely.LineString:
    return shapely.ops.substring(line(route), low, high)


def at(route: Route, s: float | np.ndarray) -> np.ndarray:
    return shapely.get_coordinates(shapely.line_interpolate_point(line(route), s)).reshape(*np.shape(s), 2)


def heading(route: Route, s: float | np.ndarray, half: float = 0.1) -> np.ndarray:
    step = at(route, s + half) - at(route, s - half)
    return step / np.linalg.norm(step, axis=-1, keepdims=True)


def feet(route: Route, points: np.ndarray) -> np.ndarray:
    return shapely.line_locate_point(line(route), shapely.points(points))


def left_of(ahead: np.ndarray, away: np.ndarray) -> np.ndarray:
    return ahead[..., 0] * away[..., 1] - ahead[..., 1] * away[..., 0]


def band(path: shapely.LineString, half: float) -> shapely.Polygon:
    return path.buffer(half, cap_style="flat")


def paved(road: SimMap) -> shapely.Geometry:
    polygons = [shapely.Polygon(p).buffer(0) for p in road.road_map.of_kind(Feature.LANE_AREA, Feature.DRIVABLE)]
    return shapely.union_all(polygons, grid_size=1e-3).buffer(0.02)


def waits(road: SimMap, index: int) -> bool:
    return any(index in zone.waits for zone in road.zones)


def halts(road: SimMap, index: int) -> bool:
    return waits(road, index) or road.routes[index].group >= 0 or road.routes[index].dead_end


@names
def test_what_is_padded_fits(name):
    sizes = Sizes()
    for seed in range(300):
        road = build(name, seed)
        assert len(road.routes) <= sizes.routes
        assert max(len(route.points) for route in road.routes) <= sizes.points
        assert max(line(route).length for route in road.routes) <= (PLACES - 1) * SPACING_M - 2.0
        assert all(len(route.speeds) == len(route.points) for route in road.routes)
        assert len(road.spawns) <= sizes.spawns
        assert max(len(spawn.routes) for spawn in road.spawns) <= SPAWN_ROUTES
        assert len(road.zones) <= sizes.zones
        groups, moments = road.signal.states.shape
        assert groups <= sizes.groups
        assert moments <= sizes.moments
        assert max(route.group for route in road.routes) < max(groups, 1)


@names
def test_a_seed_is_a_map(name):
    one, same, other = MAPS[name](3), MAPS[name](3), MAPS[name](4)
    assert np.array_equal(one.road_map.points, same.road_map.points)
    assert all(np.array_equal(a.points, b.points) for a, b in zip(one.routes, same.routes))
    assert one.spawns == same.spawns
    assert one.zones == same.zones
    assert one.lane_width != other.lane_width
    angles = [np.arctan2(*heading(build(name, seed).routes[0], 1.0)) for seed in range(40)]
    assert np.unique(np.floor(np.array(angles) / (np.pi / 2.0))).size == 4, "maps are turned every way"


@names
@seeds
@several
def test_the_road_lies_under_every_path_and_kerbs_beside_it(name, seed):
    road = build(name, seed)
    ground = paved(road)
    kerbs = shapely.union_all([shapely.LineString(p) for p in road.road_map.of_kind(Feature.ROAD_EDGE)])
    for route in road.routes:
        if route.kind != Kind.PEDESTRIAN:
            outside = band(line(route), HALF_WIDTH_M[route.kind]).difference(ground)
            assert outside.area < 0.02, f"{outside.area} m2 beside the road near {outside.centroid}"
            assert kerbs.distance(line(route)) >= HALF_WIDTH_M[route.kind] - 0.02


@names
@seeds
@several
def test_every_lane_is_followed_where_it_ends_and_carries_the_paths(name, seed):
    road = build(name, seed)
    lanes = {i: road.road_map.feature(int(i)) for i in np.flatnonzero(road.road_map.kinds == Feature.LANE)}
    for before, after in road.road_map.successors.tolist():
        assert np.linalg.norm(lanes[before][-1] - lanes[after][0]) < 0.05
        came, goes = lanes[before][-1] - lanes[before][-2], lanes[after][1] - lanes[after][0]
        assert came @ goes > np.cos(KINK_RAD) * np.linalg.norm(came) * np.linalg.norm(goes)
    drawn = shapely.union_all([shapely.LineString(p) for p in lanes.values()]).buffer(0.25)
    for route in road.routes:
        if route.kind == Kind.VEHICLE:
            assert line(route).difference(drawn).length < 0.01


@names
@seeds
@several
def test_paths_can_be_driven(name, seed):
    for route in build(name, seed).routes:
        step = np.diff(route.points, axis=0)
        size, angle = np.linalg.norm(step, axis=1), np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
        kink = np.abs(np.diff(angle))
        assert size.min() > 0.05
        assert kink.max(initial=0.0) < KINK_RAD
        s = np.arange(CHORD_M, line(route).length - CHORD_M, 1.0)
        before, behind = heading(route, s - 0.5 * CHORD_M, 1.4), heading(route, s + 0.5 * CHORD_M, 1.4)
        curvature = np.abs(np.arcsin(left_of(before, behind))) / CHORD_M
        assert route.kind != Kind.VEHICLE or curvature.max(initial=0.0) <= 1.0 / 5.0
        arc = np.append(0.0, np.cumsum(size))
        away = np.maximum(arc[:-1, None] - s, 0.0) + np.maximum(s - arc[1:, None], 0.0)
        # Who slows and speeds up at 1.5 m/s2 is this fast.
        square = (route.speeds[:-1, None] ** 2 + 2.0 * 1.5 * away).min(axis=0)
        assert (square * curvature).max(initial=0.0) <= 3.0
        low, high = {Kind.VEHICLE: (3.0, 30.0), Kind.CYCLIST: (3.5, 6.0), Kind.PEDESTRIAN: (1.0, 1.6)}[route.kind]
        assert route.speeds.min() >= low
        assert route.speeds.max() <= high


@names
@seeds
@several
def test_who_waits_halts_before_those_who_go_first_and_meets_them_behind_the_line(name, seed):
    road = build(name, seed)
    for zone in road.zones:
        assert zone.first
        assert zone.waits
        assert not set(zone.first) & set(zone.waits)
        for w in zone.waits:
            own = road.routes[w]
            half = HALF_WIDTH_M[own.kind]
            assert 0.0 < own.stop < own.clear <= line(own).length
            for f in zone.first:
                other = road.routes[f]
                assert piece(own, own.stop, own.clear).distance(line(other)) < 1.0
                waiting = piece(own, own.stop - 5.0, own.stop)
                # A cyclist at the right edge of one's own lane is beside the line, too.
                if shapely.Point(at(own, own.stop - 5.0)).distance(line(other)) > 1.5:
                    assert not band(waiting, half).intersects(band(line(other), HALF_WIDTH_M[other.kind] + 0.1))


@names
@seeds
@several
def test_nobody_crosses_another_without_a_rule(name, seed):
    """Two paths that meet in the middle of a map are ruled by lights or a zone, unless they begin or end as one."""
    road = build(name, seed)
    pairs = {frozenset((w, f)) for zone in road.zones for w in zone.waits for f in zone.first}
    for i, one in enumerate(road.routes):
        for j, other in enumerate(road.routes[:i]):
            lit = one.group >= 0 and other.group >= 0
            shared = {Kind.VEHICLE, Kind.CYCLIST} >= {one.kind, other.kind}
            begin = shared and np.linalg.norm(one.points[0] - other.points[0]) < 1.5
            if lit or begin or frozenset((i, j)) in pairs:
                continue
            assert not (shared and np.linalg.norm(one.points[-1] - other.points[-1]) < 1.5), f"{i} and {j} join"
            assert not _cross(one, other), f"{i} and {j} cross"


def _cross(one: Route, other: Route) -> bool:
    """Whether two paths meet at an angle, or join."""
    meeting = line(one).intersection(line(other))
    for point in [part for part in shapely.get_parts(meeting) if not part.is_empty]:
        place = shapely.Point(shapely.get_coordinates(point)[0])
        a, b = (heading(r, min(max(line(r).project(place), 0.2), line(r).length - 0.2)) for r in (one, other))
        inside = all(2.0 < line(r).project(place) < line(r).length - 2.0 for r in (one, other))
        if inside and abs(a[0] * b[1] - a[1] * b[0]) > np.sin(KINK_RAD):
            return True
    return False


@names
@seeds
@several
def test_lanes_beside_each_other(name, seed):
    road = build(name, seed)
    for i, route in enumerate(road.routes):
        for side, beside in ((1.0, route.left), (-1.0, route.right)):
            if beside < 0:
                continue
            other = road.routes[beside]
            assert other.kind == route.kind == Kind.VEHICLE
            assert route.dead_end or i in (other.left if side < 0 else other.right, -2)
            low, high = route.change[0], min(route.change[1], line(route).length)
            s = np.linspace(low + 0.2, high - 0.2, 9)
            foot, ahead = feet(other, at(route, s)), heading(route, s)
            assert left_of(ahead, at(other, foot) - at(route, s)) == pytest.approx(side * road.lane_width, abs=0.03)
            assert ((ahead * heading(other, foot)).sum(axis=1) > 0.999).all()


@names
@seeds
@several
def test_where_people_start(name, seed):
    road = build(name, seed)
    used: list[shapely.Geometry] = []
    for spawn in road.spawns:
        kinds = {road.routes[i].kind for i in spawn.routes}
        assert len(kinds) == 1
        assert not spawn.ego or kinds == {Kind.VEHICLE}
        for i in spawn.routes:
            route = road.routes[i]
            assert 0.0 <= spawn.low < spawn.high < line(route).length
            if halts(road, i) and spawn.low < route.stop:
                gap = 3.0 if route.kind == Kind.VEHICLE else 0.0
                assert spawn.high <= route.stop - gap
        if kinds == {Kind.VEHICLE}:
            first, *rest = (piece(road.routes[i], spawn.low, spawn.high) for i in spawn.routes)
            assert all(other.hausdorff_distance(first) < 0.01 for other in rest)
            # Half the least distance to the first place, and room for half a lorry on each side.
            assert all(first.distance(other) > 2.4 for other in used)
            used.append(first)
    assert sum(spawn.ego for spawn in road.spawns) >= 2


@names
@seeds
@several
def test_traffic_keeps_to_the_right(name, seed):
    road = build(name, seed)
    cars = [route for route in road.routes if route.kind == Kind.VEHICLE]
    for route in cars:
        s = np.linspace(5.0, line(route).length - 5.0, 12)
        ahead = heading(route, s)
        for other in cars:
            foot = feet(other, at(route, s))
            towards = (foot > 0.2) & (foot < line(other).length - 0.2)
            towards &= (ahead * heading(other, foot)).sum(axis=1) < -0.99
            assert (left_of(ahead, at(other, foot) - at(route, s))[towards] > 0.0).all()


@names
@seeds
@several
def test_people_walk_on_the_crosswalk_and_begin_and_end_beside_the_road(name, seed):
    road = build(name, seed)
    ground = paved(road)
    crosswalks = shapely.union_all([shapely.Polygon(p) for p in road.road_map.of_kind(Feature.CROSSWALK)])
    walks = [route for route in road.routes if route.kind == Kind.PEDESTRIAN]
    assert bool(walks) == (not crosswalks.is_empty)
    for route in walks:
        assert line(route).intersection(ground).difference(crosswalks.buffer(0.6)).length < 0.01
        assert piece(route, route.stop + 0.5, route.clear).difference(crosswalks.buffer(0.6)).length < 0.01
        for s in (0.0, route.stop, route.clear + 0.5, line(route).length):
            assert not ground.contains(shapely.Point(at(route, s)))


@seeds
@several
def test_lights_keep_people_and_traffic_apart(seed):
    """Nobody who set out at green and walks at 1 m/s is still on the road when traffic across it gets green."""
    road = build("crossing", seed)
    green = np.tile(road.signal.states == Light.GREEN, (1, 2))
    pairs = {(w, f) for zone in road.zones for w in zone.waits for f in zone.first}
    crossed = 0
    for i, walk in enumerate(road.routes):
        if walk.kind != Kind.PEDESTRIAN:
            continue
        steps = int((walk.clear - walk.stop - 0.5) / 0.1)
        taken = np.convolve(green[walk.group], np.ones(steps))[: green.shape[1]] > 0.5
        assert green[walk.group].any()
        for j, car in enumerate(road.routes):
            if car.kind == Kind.VEHICLE and (j, i) not in pairs and line(car).crosses(line(walk)):
                crossed += 1
                begins = np.flatnonzero(green[car.group][1:] & ~green[car.group][:-1]) + 1
                assert not taken[begins].any()
                assert not (green[car.group] & green[walk.group]).any()
    assert crossed


@seeds
@several
def test_the_acceleration_lane_ends_beside_the_right_lane(seed):
    road = build("merge", seed)
    ramp = road.routes[-1]
    assert [route.dead_end for route in road.routes] == [False] * (len(road.routes) - 1) + [True]
    assert ramp.left == len(road.routes) - 2
    assert road.routes[ramp.left].right == -1
    assert ramp.change[0] < ramp.stop < ramp.change[1] <= line(ramp).length + 1e-6
    assert 125.0 <= ramp.stop - ramp.change[0] <= 230.0
    before = piece(ramp, 0.0, ramp.change[0] - 50.0)
    assert before.distance(line(road.routes[ramp.left])) > road.lane_width + 1.0


@seeds
@several
def test_a_roundabout_turns_counter_clockwise(seed):
    road = build("roundabout", seed)
    islands = [shapely.Polygon(p) for p in road.road_map.of_kind(Feature.ROAD_EDGE) if np.allclose(p[0], p[-1])]
    island = max(islands, key=lambda p: p.area if p.contains(shapely.Point(0.0, 0.0)) else 0.0)
    radius = np.sqrt(island.area / np.pi)
    for route in road.routes:
        s = np.arange(1.0, line(route).length, 1.0)
        near = np.hypot(*at(route, s).T) < radius + 4.0
        assert near.any() or route.kind == Kind.PEDESTRIAN
        assert (left_of(at(route, s), heading(route, s))[near] > 0.0).all()
