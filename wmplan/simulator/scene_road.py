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

from wmplan.boxes import overlaps
from wmplan.errors import InputError
from wmplan.real_road import LANE_WIDTH_M, RealRoad
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, STEP_S, Future, Kind, RoadMap, Scene
from wmplan.simulator.layout import Points, Route, SimMap
from wmplan.simulator.scene_lights import Rule, Seen, beside, closed, ruling, seen_lights, settled, signal_of
from wmplan.simulator.scene_paths import (
    EXTENSION_VERTICES,
    MOST_VERTICES,
    SHORT_M,
    Driven,
    driven,
    extended,
    lane_map,
    simplified,
)
from wmplan.simulator.scene_wishes import Boxes, held_up, turning, usual_speed, wishes
from wmplan.start import start_of

ROW_CLASSES = (32, 64, 128)
"""A road has one of these numbers of rows, so that few sizes are compiled."""
LEAST_FUTURE_S = 3.0
"""The ego must be seen so long after t0 without a gap: there must be a truth to compare with."""
HORIZON_S = 8.0
LONGEST_M = 500.0
BRAKING_MPS2 = 3.0
MARGIN_M = 10.0
SIZE_M = (0.1, 30.0)
"""Boxes shorter, narrower or longer are no road users."""
FASTEST_MPS = 70.0
NEAR_M = 60.0
"""Who cannot come so near to wherever the ego can be within 8 s takes no part."""
EGO_ACCEL_MPS2 = 3.0
"""What the ego is assumed to be able to add to its speed all the time, when its reach is worked out."""
TOUCH_M = 0.5
"""Boxes that overlap deeper than this at t0, one of which moves, are no recording of a moment; labels do touch by some
decimetres."""
HELD_M = 0.05
"""Who stands for good stands at the end of its route, this far ahead of its front: nothing can move it on."""
FARTHEST_M = 1.0
"""No route is farther from what the log shows than this, save those that are too short to have a direction."""


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
class LeftOut:
    """Who is in the recording but not on the road: seen only after t0; seen before and after, but not at t0; of a size
    that no road user has; too far to matter."""

    later: int
    hidden: int
    size: int
    far: int

    @property
    def total(self) -> int:
        return self.later + self.hidden + self.size + self.far


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
    _check(scene, future)
    lanes = lane_map(scene.road_map)
    rows, left_out = _taking_part(scene, future)
    tracks = [_joined(scene, future, row) for row in rows.tolist()]
    kinds = [Kind(int(scene.agents.kinds[row])) for row in rows]
    ways = [driven(states, valid, kind) for (states, valid), kind in zip(tracks, kinds)]
    _check_overlaps(scene, rows, np.array([False, *(way.stands for way in ways)]))
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
    _check_deviation(scene, rows, ways, deviation)
    signal, stops, groups = signal_of(seen, rules)
    routes = [_ruled(route, rule, group) for route, rule, group in zip(routes, rules, groups)]
    road = SimMap(scene.scene_id, scene.road_map, tuple(routes), (), signal, stops, LANE_WIDTH_M)
    start = _start(scene, rows, ways, kinds, routes)
    size = next(size for size in ROW_CLASSES if size >= len(routes))
    turned = sum(way.turned for way in ways)
    return SceneRoad(road, start, size, left_out, rows, np.array(deviation), turned, int(unruled))


def _check(scene: Scene, future: Future) -> None:
    where = f"scene {scene.scene_id}"
    if future.scene_id != scene.scene_id:
        raise InputError(f"{where}: the future is of scene {future.scene_id}, expected its own")
    if not scene.ego.valid[0, -1]:
        raise InputError(f"{where}: ego {scene.ego_id} is not valid at t0, expected it to be")
    gaps = np.flatnonzero(~future.ego.valid[0])
    shown = (int(gaps[0]) if len(gaps) else FUTURE_STEPS) * STEP_S
    if shown < LEAST_FUTURE_S - 1e-6:
        raise InputError(f"{where}: future shows the ego for {shown:.1f} s, expected at least {LEAST_FUTURE_S} s")
    for name, tracks in (("ego", scene.ego), ("agents", scene.agents), ("ego", future.ego), ("agents", future.agents)):
        bad = np.argwhere(tracks.valid & ~np.isfinite(tracks.states).all(axis=-1))
        if len(bad):
            raise InputError(f"{where}: {name}.states of {tracks.ids[bad[0, 0]]} are not finite, expected numbers")
    if not RealRoad(scene.road_map).known:
        raise InputError(f"{where}: road_map has no lanes, edges or drivable areas, expected some")
    if not SIZE_M[0] <= float(scene.ego.sizes[0].min()) <= float(scene.ego.sizes[0].max()) <= SIZE_M[1]:
        size = " x ".join(f"{metres:g}" for metres in scene.ego.sizes[0])
        raise InputError(f"{where}: ego is {size} m, expected {SIZE_M[0]} to {SIZE_M[1]} m")


def _taking_part(scene: Scene, future: Future) -> tuple[Int[ndarray, "N"], LeftOut]:
    """Rows of the agents that are on the road."""
    agents, count = scene.agents, len(scene.agents)
    if future.agents.ids[:count] != agents.ids:
        raise InputError(f"scene {scene.scene_id}: the future's agents are others, expected the scene's to come first")
    now = agents.valid[:, -1]
    sizes = agents.sizes
    sane = (sizes >= SIZE_M[0]).all(axis=1) & (sizes <= SIZE_M[1]).all(axis=1)
    speed = max(float(np.hypot(*scene.ego.states[0, -1, 3:5])), 0.0)
    reach = speed * HORIZON_S + 0.5 * EGO_ACCEL_MPS2 * HORIZON_S**2
    theirs = np.hypot(agents.states[:, -1, 3], agents.states[:, -1, 4]) * HORIZON_S
    theirs = theirs + 0.5 * EGO_ACCEL_MPS2 * HORIZON_S**2
    far = now & sane & (np.hypot(agents.states[:, -1, 0], agents.states[:, -1, 1]) > reach + theirs + NEAR_M)
    rows = np.flatnonzero(now & sane & ~far)
    if len(rows) + 1 > ROW_CLASSES[-1]:
        raise InputError(
            f"scene {scene.scene_id}: {len(rows) + 1} road users with the ego, expected at most {ROW_CLASSES[-1]}"
        )
    hidden = ~now & future.agents.valid[:count].any(axis=1)
    later = len(future.agents) - count
    return rows, LeftOut(later, int(hidden.sum()), int((now & ~sane).sum()), int(far.sum()))


def _joined(scene: Scene, future: Future, row: int) -> tuple[Float[ndarray, "T 5"], Bool[ndarray, "T"]]:
    """History and future of one agent."""
    states = np.concatenate([scene.agents.states[row], future.agents.states[row]]).astype(np.float64)
    valid = np.concatenate([scene.agents.valid[row], future.agents.valid[row]])
    shown = np.flatnonzero(valid)
    moved = np.hypot(*np.diff(states[shown, :2], axis=0).T)
    jumps = np.flatnonzero(moved > FASTEST_MPS * STEP_S * np.diff(shown))
    if len(jumps):
        at, metres = (shown[jumps[0] + 1] - HISTORY_STEPS) * STEP_S, moved[jumps[0]]
        raise InputError(
            f"scene {scene.scene_id}: {scene.agents.ids[row]} moves by {metres:.1f} m until t0 {at:+.1f} s, expected "
            f"at most {FASTEST_MPS:g} m/s"
        )
    return states, valid


def _check_overlaps(scene: Scene, rows: Int[ndarray, "N"], stands: Bool[ndarray, "N+1"]) -> None:
    boxes = _boxes_now(scene, rows)
    boxes[:, 3:] = np.maximum(boxes[:, 3:] - TOUCH_M, 0.05)
    near = np.hypot(boxes[:, None, 0] - boxes[None, :, 0], boxes[:, None, 1] - boxes[None, :, 1]) < 30.0
    first, second = np.nonzero(np.triu(near & ~(stands[:, None] & stands[None]), 1))
    deep = np.flatnonzero(overlaps(boxes[first], boxes[second]))
    if len(deep):
        names = [scene.ego_id, *(scene.agents.ids[row] for row in rows)]
        pair = f"{names[first[deep[0]]]} and {names[second[deep[0]]]}"
        raise InputError(f"scene {scene.scene_id}: {pair} overlap at t0, expected at most {TOUCH_M} m of it")


def _boxes_now(scene: Scene, rows: Int[ndarray, "N"]) -> Float[ndarray, "N+1 5"]:
    own = np.concatenate([scene.ego.states[0, -1, :3], scene.ego.sizes[0]])
    others = np.concatenate([scene.agents.states[rows, -1, :3], scene.agents.sizes[rows]], axis=1)
    return np.concatenate([own[None], others]).astype(np.float64)


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


def _check_deviation(scene: Scene, rows: Int[ndarray, "N"], ways: list[Driven], deviation: list[float]) -> None:
    for row, way, away in zip(rows, ways, deviation[1:]):
        if away > FARTHEST_M and way.arc[-1] >= SHORT_M:
            raise InputError(
                f"scene {scene.scene_id}: path of {scene.agents.ids[row]} is {away:.2f} m off its route of "
                f"{MOST_VERTICES} vertices, expected at most {FARTHEST_M} m"
            )


def _start(
    scene: Scene, rows: Int[ndarray, "N"], ways: list[Driven], kinds: list[Kind], routes: list[Route]
) -> StartRows:
    boxes = _boxes_now(scene, rows)
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
