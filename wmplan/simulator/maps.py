"""Roads of the simulator: a straight multi-lane road and a signalised crossing, drawn from a seed.

Built once a world in float64 NumPy, in the same form as a recorded map, and turned into padded arrays by `network`.
Traffic keeps to the right. Every map is turned by a random angle, so that nothing is aligned with the axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.randomness import fold_in
from wmplan.scene import Feature, RoadMap

Points = Float[ndarray, "_N 2"]
LANE_SPACING_M = 2.0
STRAIGHT_LENGTH_M = 900.0
ARM_LENGTH_M = 200.0
"""From the crossing's stop lines outward."""
SIDEWALK_M = 6.0
YELLOW_S = 3.0
ALL_RED_S = 2.0
TURN_ACCEL_MPS2 = 2.5
"""Lateral acceleration that sets the speed of a turn."""
ARMS = 4


@dataclass(frozen=True)
class Route:
    """A path to follow. `speeds[i]` (m/s) limits the piece that begins at point i.

    Arc lengths in metres along the path: `stop` is the stop line, `clear` where the conflict area ends. `group` is the
    light group, -1 where nothing stops. `left` and `right` are the routes of the lanes beside it in the same direction,
    -1 where there is none.
    """

    points: Points
    speeds: Float[ndarray, "_N"]
    stop: float = 0.0
    clear: float = 0.0
    group: int = -1
    walk: bool = False
    left: int = -1
    right: int = -1


@dataclass(frozen=True)
class Spawn:
    """A stretch of lane on which vehicles start: all `routes` share it, at the same arc lengths `low` to `high`."""

    routes: tuple[int, ...]
    low: float
    high: float
    ego: bool


@dataclass(frozen=True)
class Signal:
    """Fixed-time lights: group g is green from `starts[g]` for `greens[g]` seconds of each `cycle`, then yellow."""

    cycle: float
    starts: tuple[float, ...]
    greens: tuple[float, ...]
    yellows: tuple[float, ...]


@dataclass(frozen=True)
class StopPoint:
    """Where a light stops traffic, the lane it rules and its group."""

    point: Points
    lane: str
    group: int


@dataclass(frozen=True)
class SimMap:
    """A road with everything that drives on it knows of it. `lane_width` in metres."""

    name: str
    road_map: RoadMap
    routes: tuple[Route, ...]
    spawns: tuple[Spawn, ...]
    signal: Signal
    stop_points: tuple[StopPoint, ...]
    lane_width: float


NO_SIGNAL = Signal(60.0, (), (), ())


def straight(seed: int) -> SimMap:
    """A straight road: 2 to 4 lanes ahead, 0 to 2 lanes the other way, limit 9 to 25 m/s."""
    draw = np.random.default_rng(fold_in(seed, "straight"))
    ahead, back = int(draw.integers(2, 5)), int(draw.integers(0, 3))
    width, limit, angle = draw.uniform(3.2, 3.8), draw.uniform(9.0, 25.0), draw.uniform(-np.pi, np.pi)
    x = np.array([0.0, STRAIGHT_LENGTH_M])
    lanes = [np.stack([x, np.full(2, -(i + 0.5) * width)], -1) for i in range(ahead)]
    lanes += [np.stack([x[::-1], np.full(2, (i + 0.5) * width)], -1) for i in range(back)]
    features: list[tuple[Feature, str, Points]] = []
    for i, lane in enumerate(lanes):
        features += [(Feature.LANE, f"lane{i}", resample(lane)), (Feature.LANE_AREA, f"area{i}", strip(lane, width))]
    for i in range(-ahead, back + 1):
        kind = Feature.ROAD_EDGE if i in (-ahead, back) else Feature.ROAD_LINE
        features.append((kind, f"line{i}", resample(np.stack([x, np.full(2, i * width)], -1))))
    routes = [
        Route(lanes[i], np.full(2, limit), left=i - 1, right=i + 1 if i + 1 < ahead else -1) for i in range(ahead)
    ]
    routes += [Route(lane, np.full(2, limit)) for lane in lanes[ahead:]]
    spawns = [Spawn((i,), 150.0, 380.0, ego=True) for i in range(ahead)]
    spawns += [Spawn((ahead + i,), 350.0, 700.0, ego=False) for i in range(back)]
    turn = _turner(angle)
    return SimMap(
        "straight",
        _turn_map(features, [], turn),
        tuple(replace(r, points=turn(r.points)) for r in routes),
        tuple(spawns),
        NO_SIGNAL,
        (),
        width,
    )


def crossing(seed: int) -> SimMap:
    """A four-way crossing with 1 to 3 lanes an approach and protected lights.

    With one lane each arm has its own green; with more, the leftmost lane turns left in a phase of its own, the others
    go ahead, and the rightmost also turns right. People cross while the traffic beside them has green; whoever turns
    right waits for them.
    """
    draw = np.random.default_rng(fold_in(seed, "crossing"))
    lanes, width = int(draw.integers(1, 4)), draw.uniform(3.2, 3.8)
    limit, angle = draw.uniform(8.0, 16.0), draw.uniform(-np.pi, np.pi)
    half = lanes * width + draw.uniform(5.0, 8.0)
    stop_line = half + 5.0
    greens = draw.uniform(6.0, 16.0, ARMS)
    steps = greens + YELLOW_S + ALL_RED_S
    starts = np.concatenate([[0.0], np.cumsum(steps)[:-1]]) + draw.uniform(0.0, steps.sum())
    far = stop_line + ARM_LENGTH_M

    features: list[tuple[Feature, str, Points]] = []
    links: list[tuple[str, str]] = []
    routes: list[Route] = []
    spawns: list[Spawn] = []
    stops: list[StopPoint] = []
    offset = [(i + 0.5) * width for i in range(lanes)]
    for arm in range(ARMS):
        turn = _turner(angle + arm * np.pi / 2.0)
        # Seen from this arm: traffic comes from +x, drives towards -x, on the side y > 0; lane 0 is the leftmost.
        for i, y in enumerate(offset):
            coming, going = np.array([[far, y], [stop_line, y]]), np.array([[stop_line, -y], [far, -y]])
            for name, lane in ((f"in{arm}.{i}", coming), (f"out{arm}.{i}", going)):
                features.append((Feature.LANE, name, turn(resample(lane))))
                features.append((Feature.LANE_AREA, f"area.{name}", turn(strip(lane, width))))
        by_lane: dict[int, list[int]] = {}
        for i, way in _movements(lanes):
            y = offset[i]
            connector = _connector(way, y, half, stop_line)
            turning = way != 0
            exit_arm = (arm + {0: 2, 1: 3, -1: 1}[way]) % ARMS
            name = f"turn{arm}.{i}.{way}"
            features.append((Feature.LANE, name, turn(resample(connector))))
            features.append((Feature.LANE_AREA, f"area.{name}", turn(strip(connector, width))))
            links += [(f"in{arm}.{i}", name), (name, f"out{exit_arm}.{i}")]
            group = arm if lanes == 1 else 2 * (arm % 2) + (1 if way == 1 else 0)
            stops.append(StopPoint(turn(np.array([[stop_line, y]])), name, group))
            direction = connector[-1] - connector[-2]
            end = connector[-1] + ARM_LENGTH_M * direction / np.linalg.norm(direction)
            points = np.concatenate([[[far, y]], connector, [end]])
            radius = half + y if way == 1 else half - y
            slow = min(limit, float(np.sqrt(TURN_ACCEL_MPS2 * radius))) if turning else limit
            speeds = np.full(len(points), limit)
            speeds[2:-2] = slow
            length = np.linalg.norm(np.diff(connector, axis=0), axis=1).sum()
            by_lane.setdefault(i, []).append(len(routes))
            routes.append(Route(turn(points), speeds, ARM_LENGTH_M, ARM_LENGTH_M + length, group))
        for shared in by_lane.values():
            spawns.append(Spawn(tuple(shared), ARM_LENGTH_M - 110.0, ARM_LENGTH_M - 5.0, ego=True))
            ahead = [r for r in shared if len(routes[r].points) == 4]
            if ahead:
                clear = routes[ahead[0]].clear
                spawns.append(Spawn((ahead[0],), clear + 10.0, clear + 80.0, ego=False))
        edge = lanes * width
        walk = np.array([[half + 0.5, -edge], [half + 3.5, -edge], [half + 3.5, edge], [half + 0.5, edge]])
        features.append((Feature.CROSSWALK, f"walk{arm}", turn(walk)))
        for i in range(-lanes, lanes + 1):
            kind = Feature.ROAD_EDGE if abs(i) == lanes else Feature.ROAD_LINE
            line = np.array([[half, i * width], [far, i * width]])
            features.append((kind, f"line{arm}.{i}", turn(resample(line))))
        features.append((Feature.ROAD_EDGE, f"corner{arm}", turn(_corner(half, edge))))
    kerbs = [_turner(angle + arm * np.pi / 2.0)(_corner(half, lanes * width)) for arm in range(ARMS)]
    features.append((Feature.DRIVABLE, "centre", np.concatenate(kerbs)))
    for arm in range(ARMS):
        turn = _turner(angle + arm * np.pi / 2.0)
        edge = lanes * width
        for side in (1.0, -1.0):
            y = np.array([-1.0, 1.0]) * side * (edge + SIDEWALK_M)
            points = turn(np.stack([np.full(2, half + 2.0 + 0.5 * side), y], -1))
            walk_stop, walk_clear = SIDEWALK_M - 0.5, SIDEWALK_M + 2.0 * edge
            routes.append(Route(points, np.full(2, 1.4), walk_stop, walk_clear, ARMS + arm, walk=True))
    # People cross arm a while the arm beside it has green; whoever walks must have time to reach the other side.
    beside = [(arm + 3) % ARMS if lanes == 1 else 2 * ((arm + 1) % 2) for arm in range(ARMS)]
    signal = Signal(
        float(steps.sum()),
        tuple(float(s) for s in [*starts, *(starts[g] for g in beside)]),
        tuple(float(g) for g in [*greens, *(0.5 * greens[g] for g in beside)]),
        (YELLOW_S,) * ARMS + (0.0,) * ARMS,
    )
    return SimMap(
        "crossing",
        RoadMap.build(features, links),
        tuple(routes),
        tuple(spawns),
        signal,
        tuple(stops),
        width,
    )


MAPS: dict[str, Callable[[int], SimMap]] = {"straight": straight, "crossing": crossing}
"""Every road by name; a new one is a function of a seed and a line here."""


def resample(points: Points, spacing: float = LANE_SPACING_M) -> Points:
    """The polyline at (nearly) equal steps of at most `spacing` metres, both ends kept."""
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0.0, arc[-1], max(2, int(np.ceil(arc[-1] / spacing)) + 1))
    return np.stack([np.interp(at, arc, points[:, 0]), np.interp(at, arc, points[:, 1])], axis=-1)


def strip(points: Points, width: float) -> Points:
    """The closed area of a lane: the polyline moved half a width to each side."""
    tangent = np.gradient(points, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], -1) / np.linalg.norm(tangent, axis=1, keepdims=True)
    return np.concatenate([points + 0.5 * width * normal, (points - 0.5 * width * normal)[::-1]])


def _movements(lanes: int) -> list[tuple[int, int]]:
    """(lane, way) of an approach: way 0 goes ahead, 1 turns left, -1 turns right."""
    if lanes == 1:
        return [(0, 0), (0, 1), (0, -1)]
    return [(0, 1), *((i, 0) for i in range(1, lanes)), (lanes - 1, -1)]


def _connector(way: int, y: float, half: float, stop_line: float) -> Points:
    """The path through the crossing, seen from the approach: stop line to the exit's beginning."""
    if way == 0:
        return np.array([[stop_line, y], [-stop_line, y]])
    angle = np.linspace(0.0, np.pi / 2.0, 11)
    if way == 1:  # left, to the arm at -y: centre (half, -half)
        radius = half + y
        arc = np.stack([half - radius * np.sin(angle), -half + radius * np.cos(angle)], -1)
        return np.concatenate([[[stop_line, y]], arc, [[-y, -stop_line]]])
    radius = half - y
    arc = np.stack([half - radius * np.sin(angle), half - radius * np.cos(angle)], -1)
    return np.concatenate([[[stop_line, y]], arc, [[y, stop_line]]])


def _corner(half: float, edge: float) -> Points:
    """The kerb between this arm and the one to its left."""
    angle = np.linspace(0.0, np.pi / 2.0, 9)
    radius = half - edge
    return np.stack([half - radius * np.sin(angle), half - radius * np.cos(angle)], -1)


def _turner(angle: float) -> Callable[[Points], Points]:
    """The rotation about the origin by `angle`."""
    c, s = np.cos(angle), np.sin(angle)
    return lambda points: points @ np.array([[c, s], [-s, c]])


def _turn_map(features: list, links: list, turn: Callable[[Points], Points]) -> RoadMap:
    return RoadMap.build([(kind, name, turn(points)) for kind, name, points in features], links)
