"""A moment of a recording as a road of the simulator: everybody follows the way it really took, at a speed of its own.

This is the truth's side: it reads the sealed future, and no planner or critic may see what it makes. The ego's route
alone comes from the map and the present, as planners know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.real_road import LANE_WIDTH_M
from wmplan.scene import Future, Kind, RoadMap, Scene
from wmplan.simulator.layout import Points, Route, SimMap
from wmplan.simulator.scene_checks import (
    EGO_ACCEL_MPS2,
    HORIZON_S,
    ROW_CLASSES,
    LeftOut,
    boxes_now,
    check_deviation,
    check_overlaps,
    check_scene,
    joined,
    taking_part,
)
from wmplan.simulator.scene_lights import Rule, Seen, beside, closed, ruling, seen_lights, settled, signal_of
from wmplan.simulator.scene_paths import (
    EXTENSION_VERTICES,
    MOST_VERTICES,
    Driven,
    driven,
    extended,
    lane_map,
    simplified,
)
from wmplan.simulator.scene_wishes import Boxes, held_up, turning, usual_speed, wishes
from wmplan.start import start_of

LONGEST_M = 500.0
BRAKING_MPS2 = 3.0
MARGIN_M = 10.0
HELD_M = 0.05
"""Who stands for good stands at the end of its route, this far ahead of its front: nothing can move it on."""


@dataclass(frozen=True)
class StartRows:
    """Who is where at t0, a row each, the ego first, then the scene's agents in their order; metres, scene frame.

    Row i follows route i from `s` = 0. `x`, `y`, `yaw` place the box; `yaw` is where it goes, half a turn from where a
    car that drives `backwards` looks. `stands`: it never moves and has to be kept where it is.
    """

    ids: tuple[str, ...]
    s: Float[ndarray, "A"]
    lateral: Float[ndarray, "A"]
    x: Float[ndarray, "A"]
    y: Float[ndarray, "A"]
    yaw: Float[ndarray, "A"]
    speed: Float[ndarray, "A"]
    length: Float[ndarray, "A"]
    width: Float[ndarray, "A"]
    kind: Int[ndarray, "A"]
    stands: Bool[ndarray, "A"]
    backwards: Bool[ndarray, "A"]


@dataclass(frozen=True)
class SceneRoad:
    """A scene as a road.

    `rows` is the class of sizes it belongs to. `agents[i]` is the row of the scene's agents, and of the future's, that
    row i + 1 is.
    `deviation` is the largest distance (m) of a row's logged places after t0 from its route, 0 for the ego, whose route
    is not what it drove. `turned` of them turned back, which their routes do not; `unruled` passed a red light that
    therefore does not rule them.
    """

    road: SimMap
    start: StartRows
    rows: int
    left_out: LeftOut
    agents: Int[ndarray, "N"]
    deviation: Float[ndarray, "A"]
    turned: int
    unruled: int


def scene_road(scene: Scene, future: Future) -> SceneRoad:
    """The road of a scene.

    Everybody valid at t0 takes part. An agent's route is the path of its box's centre from t0 on, smoothed, within
    `PATH_TOLERANCE_M`, and on along the lanes (`wmplan.simulator.scene_paths`), long enough for `HORIZON_S` and for
    braking, at most `LONGEST_M`. The speeds along it are the ones it wanted (`wmplan.simulator.scene_wishes`). A light
    rules the routes that follow its lane, as logged (`wmplan.simulator.scene_lights`); nothing is known of who gives
    way to whom, so there are no zones, and nobody changes lanes.

    Raises:
        InputError: a scene that cannot become a road: the future of another, or too short; an invalid ego; states that
            are not finite or faster than anything drives; a map without lanes and drivable area; boxes that overlap at
            t0; more than 128 that matter; a path that 32 vertices cannot hold.
    """
    check_scene(scene, future)
    lanes = lane_map(scene.road_map)
    rows, left_out = taking_part(scene, future)
    tracks = [joined(scene, future, row) for row in rows.tolist()]
    kinds = [Kind(int(scene.agents.kinds[row])) for row in rows]
    ways = [driven(states, valid, kind) for (states, valid), kind in zip(tracks, kinds)]
    check_overlaps(scene, rows, np.array([False, *(way.stands for way in ways)]))
    seen = seen_lights(scene, future)
    pieces = beside(scene.road_map, seen)
    truth = _truth(scene, future)
    routes, rules, deviation, unruled = [_ego_route(scene, lanes)], [], [0.0], 0
    own = ruling(routes[0].points, float(scene.ego.sizes[0, 0]), seen, pieces)
    rules.append(own if own is not None and own.stop > 0.5 * float(scene.ego.sizes[0, 0]) else None)
    for row, way, kind, track in zip(rows.tolist(), ways, kinds, tracks):
        length = float(scene.agents.sizes[row, 0])
        usual = usual_speed(ways, kinds, kind)
        line, count = _line(way, kind, length, usual, lanes)
        found = ruling(line, length, seen, pieces) if kind in (Kind.VEHICLE, Kind.CYCLIST) and not way.stands else None
        rule = settled(found, way, length, seen.states[found.light]) if found is not None else None
        unruled += found is not None and rule is None and found.stop > 0.5 * length
        rules.append(rule)
        routes.append(_route(scene, row, way, kind, line, count, usual, truth, seen, rule))
        deviation.append(_deviation(way, track, routes[-1].points))
    check_deviation(scene, rows, ways, deviation)
    signal, stops, groups = signal_of(seen, rules)
    routes = [_ruled(route, rule, group) for route, rule, group in zip(routes, rules, groups)]
    road = SimMap(scene.scene_id, scene.road_map, tuple(routes), (), signal, stops, LANE_WIDTH_M)
    start = _start(scene, rows, ways, kinds, routes)
    size = next(size for size in ROW_CLASSES if size >= len(routes))
    turned = sum(way.turned for way in ways)
    return SceneRoad(road, start, size, left_out, rows, np.array(deviation), turned, int(unruled))


def _truth(scene: Scene, future: Future) -> Boxes:
    """Everybody from t0 on: the scene's agents, those who came later, the ego last."""
    count, later = len(scene.agents), len(future.agents) - len(scene.agents)
    states = np.concatenate([future.agents.states, future.ego.states]).astype(np.float64)
    valid = np.concatenate([future.agents.valid, future.ego.valid])
    now = np.concatenate([scene.agents.states[:, -1], np.zeros((later, 5)), scene.ego.states[:, -1]])
    there = np.concatenate([scene.agents.valid[:, -1], np.zeros(later, bool), scene.ego.valid[:, -1]])
    sizes = np.concatenate([scene.agents.sizes, future.agents.sizes[count:], scene.ego.sizes]).astype(np.float64)
    states = np.concatenate([now[:, None], states], axis=1)
    seen = np.concatenate([there[:, None], valid], axis=1)
    return Boxes(states[..., 0], states[..., 1], states[..., 2], sizes[:, 0], sizes[:, 1], seen)


def _reach(speed: float, length: float) -> float:
    """How long a route has to be at this speed."""
    return min(speed * HORIZON_S + speed**2 / (2.0 * BRAKING_MPS2) + length + MARGIN_M, LONGEST_M)


def _line(way: Driven, kind: Kind, length: float, usual: float, lanes: RoadMap | None) -> tuple[Points, int]:
    """The path and what carries it on, and how many of the points are the path's own."""
    if way.stands:
        return np.stack([way.points[0], way.points[0] + (length + MARGIN_M) * (way.points[1] - way.points[0])]), 1
    fastest = max(float(way.speed.max()), way.fastest, usual)
    missing = _reach(fastest, length) - way.arc[-1]
    follows = lanes if kind in (Kind.VEHICLE, Kind.CYCLIST) and not way.backwards else None
    room = LONGEST_M - way.arc[-1]
    if missing <= 1.0 or room <= 1.0:
        return way.points, len(way.points)
    more = extended(way.points, min(missing, room), follows)
    return np.concatenate([way.points, more]), len(way.points)


def _route(
    scene: Scene,
    row: int,
    way: Driven,
    kind: Kind,
    line: Points,
    count: int,
    usual: float,
    truth: Boxes,
    seen: Seen,
    rule: Rule | None,
) -> Route:
    """The route of one agent: its path where it was seen and what carries it on, with the speeds it wants."""
    if way.stands:
        return Route(line, np.ones(2), 0.5 * float(scene.agents.sizes[row, 0]) + HELD_M, kind=kind, dead_end=True)
    kept = simplified(way.points, np.zeros(len(way.points)), MOST_VERTICES - EXTENSION_VERTICES)
    rough = np.concatenate([way.points[kept], line[count:]])
    stop = np.inf if rule is None else rule.stop
    held = held_up(row, way, rough, truth, stop, closed(seen, rule))
    wanted = wishes(way, held, usual, kind)
    kept = simplified(way.points, wanted, MOST_VERTICES - (len(line) - count))
    points = np.concatenate([way.points[kept], line[count:]])
    speeds = [float(wanted[a : max(b, a + 1)].mean()) for a, b in pairwise(kept)]
    beyond = np.minimum(wanted[-1], turning(points[len(kept) - 1 :])) if len(line) > count else np.array([wanted[-1]])
    return Route(points, np.concatenate([speeds, np.maximum(beyond, 0.5)]), kind=kind)


def _ego_route(scene: Scene, lanes: RoadMap | None) -> Route:
    """The scene's route, carried on so far that hardly any plan passes its end, at the speed that planners aim at."""
    points = scene.route.astype(np.float64)
    points = points[np.concatenate([[True], np.hypot(*np.diff(points, axis=0).T) > 1e-3])]
    if len(points) < 2:
        raise InputError(f"scene {scene.scene_id}: route has no two different points, expected a line")
    start = start_of(scene)
    fastest = max(start.speed, start.target_speed)
    long = float(np.hypot(*np.diff(points, axis=0).T).sum())
    missing = min(_reach(fastest + 0.5 * EGO_ACCEL_MPS2 * HORIZON_S, start.length), LONGEST_M) - long
    kept = simplified(points, np.zeros(len(points)), MOST_VERTICES - EXTENSION_VERTICES)
    if missing > 1.0:
        points = np.concatenate([points[kept], extended(points, missing, lanes if scene.route_on_map else None)])
    else:
        points = points[kept]
    return Route(points, np.minimum(start.target_speed, np.maximum(turning(points), 1.0)))


def _ruled(route: Route, rule: Rule | None, group: int) -> Route:
    """The route with its light; `clear` lies before everything, as nobody waits for those who are still inside."""
    if rule is None:
        return route
    return Route(route.points, route.speeds, rule.stop, -LONGEST_M, group, route.kind)


def _deviation(way: Driven, track: tuple[Float[ndarray, "T 5"], Bool[ndarray, "T"]], points: Points) -> float:
    """How far the logged centres from t0 on are from the route; where the path turns back, only those before."""
    states, valid = track[0][-len(way.seen) :], track[1][-len(way.seen) :]
    counted = valid & ((way.s < way.arc[-1] - 1e-6) if way.turned else True)
    if way.stands or not counted.any():
        return 0.0
    return float(shapely.distance(shapely.LineString(points), shapely.points(states[counted, :2])).max())


def _start(
    scene: Scene, rows: Int[ndarray, "N"], ways: list[Driven], kinds: list[Kind], routes: list[Route]
) -> StartRows:
    boxes = boxes_now(scene, rows)
    first = np.array([way.points[0] for way in ways]).reshape(-1, 2)
    steps = np.array([route.points[1] - route.points[0] for route in routes])
    yaw = np.arctan2(steps[:, 1], steps[:, 0])
    yaw[0] = boxes[0, 2]
    own = shapely.LineString(routes[0].points)
    s = float(own.line_locate_point(shapely.Point(*boxes[0, :2])))
    side = steps[0, 0] * (boxes[0, 1] - routes[0].points[0, 1]) - steps[0, 1] * (boxes[0, 0] - routes[0].points[0, 0])
    lateral = float(np.sign(side)) * float(own.distance(shapely.Point(*boxes[0, :2])))
    zeros = np.zeros(len(ways))
    return StartRows(
        ids=(scene.ego_id, *(scene.agents.ids[row] for row in rows)),
        s=np.concatenate([[s], zeros]),
        lateral=np.concatenate([[lateral], zeros]),
        x=np.concatenate([boxes[:1, 0], first[:, 0]]),
        y=np.concatenate([boxes[:1, 1], first[:, 1]]),
        yaw=yaw,
        speed=np.array([start_of(scene).speed, *(0.0 if way.stands else float(way.speed[0]) for way in ways)]),
        length=boxes[:, 3],
        width=boxes[:, 4],
        kind=np.array([Kind.VEHICLE, *kinds], dtype=np.int64),
        stands=np.array([False, *(way.stands for way in ways)]),
        backwards=np.array([False, *(way.backwards for way in ways)]),
    )
