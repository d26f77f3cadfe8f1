"""A four-way crossing with protected lights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator

from wmplan.randomness import fold_in
from wmplan.scene import Feature, Kind, RoadMap
from wmplan.simulator.layout import Points, Route, Signal, SimMap, Spawn, StopPoint, Zone, resample, strip, turner
from wmplan.simulator.paths import SIDEWALK_M, length, riding_speed, turn_speed, walks

ARM_LENGTH_M = 200.0
"""From the crossing's stop lines outward."""
NO_CHANGE_M = 30.0
"""Before the stop lines lanes are not changed."""
YELLOW_S = 3.0
ALL_RED_S = 2.0
CYCLIST_M = 0.7
"""From the kerb to who rides at the right edge of a lane."""
SLOWEST_WALK_MPS, WALK_S = 1.0, 3.0
"""How slowly people walk at most, and the green that they have at least."""
ARMS = 4
EXIT_ARM = {0: 2, 1: 3, -1: 1}
"""How many arms further (counter-clockwise) each way leads: 0 ahead, 1 left, -1 right."""


@dataclass(frozen=True)
class _Shape:
    """Lanes an approach, their width, half the size of the inner square, the stop lines' distance from the centre and
    the arms' ends (m); the speed limit (m/s); the angle of the first arm (rad)."""

    lanes: int
    width: float
    half: float
    stop_line: float
    far: float
    limit: float
    angle: float

    @property
    def edge(self) -> float:
        return self.lanes * self.width

    def turn(self, arm: int) -> Callable[[Points], Points]:
        """From the frame of an arm to the map's. Seen from the arm, traffic comes from +x towards -x where y > 0; lane
        0 is the leftmost."""
        return turner(self.angle + arm * np.pi / 2.0)

    def group(self, arm: int, way: int) -> int:
        """The light group of a movement."""
        return arm if self.lanes == 1 else 2 * (arm % 2) + (1 if way == 1 else 0)


def crossing(seed: int) -> SimMap:
    """A four-way crossing with 1 to 3 lanes an approach, limit 8 to 16 m/s.

    With one lane each arm has its own green; with more, the leftmost lane turns left in a phase of its own, the others
    go ahead, and the rightmost also turns right. People cross while the traffic beside them has green; whoever turns
    right waits for them and for cyclists who go ahead at the right edge of the lane.

    Lanes are 3.2 to 3.8 m wide (2.75 to 3.5 m, RASt 06; 3.0 to 3.6 m, AASHTO Green Book 2018), kerbs have a radius of 5
    to 8 m (15 to 25 feet, Green Book, chapter 9). Greens last 6 to 16 s, or long enough to walk across at 1 m/s, cycles
    up to 114 s (60 to 120 s, NCHRP Report 812); yellow 3 s and all red 2 s (MUTCD 2009, section 4D.26). People get
    red so early that the slowest are across before others start.
    """
    draw = np.random.default_rng(fold_in(seed, "crossing"))
    lanes, width = int(draw.integers(1, 4)), draw.uniform(3.2, 3.8)
    limit, angle = draw.uniform(8.0, 16.0), draw.uniform(-np.pi, np.pi)
    half = lanes * width + draw.uniform(5.0, 8.0)
    shape = _Shape(lanes, width, half, half + 5.0, half + 5.0 + ARM_LENGTH_M, limit, angle)
    least = 2.0 * shape.edge / SLOWEST_WALK_MPS + WALK_S - YELLOW_S - ALL_RED_S
    phases = [*range(ARMS)] if lanes == 1 else [0, 2]
    greens = draw.uniform(6.0, 16.0, ARMS)
    greens[phases] += max(0.0, least - 6.0)
    signal = _signal(shape, greens, draw.uniform(0.0, 60.0))
    features = [feature for arm in range(ARMS) for feature in _arm_features(shape, arm)]
    corners = [shape.turn(arm)(_corner(shape)) for arm in range(ARMS)]
    features.append((Feature.DRIVABLE, "centre", np.concatenate(corners)))
    links: list[tuple[str, str]] = []
    routes: list[Route] = []
    spawns: list[Spawn] = []
    stops: list[StopPoint] = []
    right: list[list[int]] = [[] for _ in range(ARMS)]
    for arm in range(ARMS):
        turn = shape.turn(arm)
        shared: list[int] = []
        for lane in range(lanes):
            y = (lane + 0.5) * width
            shared_before, shared = shared, []
            for way in _ways(lanes, lane):
                connector, name = _connector(shape, way, y), f"turn{arm}.{lane}.{way}"
                features.append((Feature.LANE, name, turn(resample(connector))))
                features.append((Feature.LANE_AREA, f"area.{name}", turn(strip(connector, width))))
                links += [(f"in{arm}.{lane}", name), (name, f"out{(arm + EXIT_ARM[way]) % ARMS}.{lane}")]
                stops.append(StopPoint(turn(np.array([[shape.stop_line, y]])), name, shape.group(arm, way)))
                shared.append(len(routes))
                if way == -1:
                    right[arm].append(len(routes))
                routes.append(_route(shape, arm, way, y, connector))
                if way == 0 and lane > 0 and 0 in _ways(lanes, lane - 1):
                    beside, here = shared_before[_ways(lanes, lane - 1).index(0)], len(routes) - 1
                    routes[beside] = replace(routes[beside], right=here)
                    routes[here] = replace(routes[here], left=beside)
            spawns.append(Spawn(tuple(shared), ARM_LENGTH_M - 110.0, ARM_LENGTH_M - 5.0, ego=True))
            if 0 in _ways(lanes, lane):
                ahead = shared[_ways(lanes, lane).index(0)]
                clear = routes[ahead].clear
                spawns.append(Spawn((ahead,), clear + 10.0, clear + 80.0, ego=False))
    zones = []
    for arm in range(ARMS):
        zones.append(Zone((len(routes), len(routes) + 1), tuple(right[(arm - EXIT_ARM[-1]) % ARMS])))
        kerbs = shape.turn(arm)(np.array([[half + 2.0, -shape.edge], [half + 2.0, shape.edge]]))
        routes += walks(draw, kerbs[0], kerbs[1], 1.0, ARMS + arm)
    people = [zone.first for zone in zones]
    first, riders = int(draw.integers(ARMS)), int(draw.integers(3))
    for arm in [(first + 2 * i) % ARMS for i in range(riders)]:
        zones.append(Zone((len(routes),), tuple(right[arm])))
        routes.append(_cyclist(shape, arm, draw))
    if riders:
        bicycles = tuple(range(len(routes) - riders, len(routes)))
        spawns.append(Spawn(bicycles, ARM_LENGTH_M - 60.0, ARM_LENGTH_M - 5.0, ego=False))
    spawns += [Spawn(a + b, 0.0, SIDEWALK_M - 0.5, ego=False) for a, b in (people[0::2], people[1::2])]
    road_map = RoadMap.build(features, links)
    return SimMap("crossing", road_map, tuple(routes), tuple(spawns), signal, tuple(stops), width, tuple(zones))


def _ways(lanes: int, lane: int) -> list[int]:
    """Where a lane of an approach leads: 0 ahead, 1 left, -1 right."""
    if lanes == 1:
        return [0, 1, -1]
    if lane == 0:
        return [1]
    return [0, -1] if lane == lanes - 1 else [0]


def _signal(shape: _Shape, greens: Float[ndarray, "4"], offset: float) -> Signal:
    """Four phases one after the other; groups 4 to 7 are the crosswalks of the arms."""
    steps = greens + YELLOW_S + ALL_RED_S
    starts = np.concatenate([[0.0], np.cumsum(steps)[:-1]]) + offset
    beside = [(arm + 3) % ARMS if shape.lanes == 1 else 2 * ((arm + 1) % 2) for arm in range(ARMS)]
    walk = steps[beside] - 2.0 * shape.edge / SLOWEST_WALK_MPS
    return Signal.fixed_time(
        float(steps.sum()),
        tuple(float(s) for s in [*starts, *starts[beside]]),
        tuple(float(g) for g in [*greens, *walk]),
        (YELLOW_S,) * ARMS + (0.0,) * ARMS,
    )


def _arm_features(shape: _Shape, arm: int) -> list[tuple[Feature, str, Points]]:
    """Lanes to and from the crossing, lines, kerb and crosswalk of one arm."""
    turn, half, far, edge = shape.turn(arm), shape.half, shape.far, shape.edge
    features: list[tuple[Feature, str, Points]] = []
    for i in range(shape.lanes):
        y = (i + 0.5) * shape.width
        coming, going = np.array([[far, y], [shape.stop_line, y]]), np.array([[shape.stop_line, -y], [far, -y]])
        for name, lane in ((f"in{arm}.{i}", coming), (f"out{arm}.{i}", going)):
            features.append((Feature.LANE, name, turn(resample(lane))))
            features.append((Feature.LANE_AREA, f"area.{name}", turn(strip(lane, shape.width))))
    for i in range(-shape.lanes, shape.lanes + 1):
        kind = Feature.ROAD_EDGE if abs(i) == shape.lanes else Feature.ROAD_LINE
        line = np.array([[half, i * shape.width], [far, i * shape.width]])
        features.append((kind, f"line{arm}.{i}", turn(resample(line))))
    features.append((Feature.ROAD_EDGE, f"corner{arm}", turn(_corner(shape))))
    walk = np.array([[half + 0.5, -edge], [half + 3.5, -edge], [half + 3.5, edge], [half + 0.5, edge]])
    return [*features, (Feature.CROSSWALK, f"walk{arm}", turn(walk))]


def _connector(shape: _Shape, way: int, y: float) -> Points:
    """The path through the crossing, seen from the approach: stop line to the exit's beginning."""
    if way == 0:
        return np.array([[shape.stop_line, y], [-shape.stop_line, y]])
    angle = np.linspace(0.0, np.pi / 2.0, 11)
    # A left turn goes round (half, -half) to the arm at -y, a right turn round (half, half) to the arm at +y.
    radius = shape.half + way * y
    arc = np.stack([shape.half - radius * np.sin(angle), way * (radius * np.cos(angle) - shape.half)], -1)
    return np.concatenate([[[shape.stop_line, y]], arc, [[-way * y, -way * shape.stop_line]]])


def _route(shape: _Shape, arm: int, way: int, y: float, connector: Points) -> Route:
    """The whole path of a movement, from the arm's far end to the exit's."""
    direction = connector[-1] - connector[-2]
    end = connector[-1] + ARM_LENGTH_M * direction / np.linalg.norm(direction)
    points = np.concatenate([[[shape.far, y]], connector, [end]])
    speeds = np.full(len(points), shape.limit)
    if way != 0:
        speeds[2:-3] = turn_speed(shape.half + way * y, shape.limit)
    clear = ARM_LENGTH_M + length(connector)
    change = (0.0, ARM_LENGTH_M - NO_CHANGE_M)
    return Route(shape.turn(arm)(points), speeds, ARM_LENGTH_M, clear, shape.group(arm, way), change=change)


def _cyclist(shape: _Shape, arm: int, draw: Generator) -> Route:
    """One who goes ahead at the right edge of the rightmost lane."""
    y = shape.edge - CYCLIST_M
    route = _route(shape, arm, 0, y, _connector(shape, 0, y))
    speeds = np.full(len(route.points), riding_speed(draw))
    return replace(route, speeds=speeds, kind=Kind.CYCLIST)


def _corner(shape: _Shape) -> Points:
    """The kerb between an arm and the next, counter-clockwise."""
    angle = np.linspace(0.0, np.pi / 2.0, 9)
    radius = shape.half - shape.edge
    return np.stack([shape.half - radius * np.sin(angle), shape.half - radius * np.cos(angle)], -1)
