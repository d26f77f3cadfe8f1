"""A T-junction without lights: the side road gives way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from wmplan.randomness import fold_in
from wmplan.scene import Feature, Kind, RoadMap
from wmplan.simulator.layout import Points, Route, Signal, SimMap, Spawn, Zone, resample, strip, turner
from wmplan.simulator.paths import (
    FINE_BEND,
    SIDEWALK_M,
    arc,
    area,
    join,
    kerbs,
    place,
    riding_speed,
    rounded,
    turn_speed,
    walks,
)

MAIN_M, SIDE_M = 250.0, 200.0
"""From the junction's middle to the ends of the roads."""
LINE_M = 1.0
"""From the line where one gives way to the edge of the road with right of way."""
CAR_M = 7.0
"""Room for a car between the line and the crosswalk."""
CROSSWALK_M = 3.0
"""Width of the crosswalk (3 m, NACTO Urban Street Design Guide; at least 1.8 m, MUTCD 2009, section 3B.18)."""


@dataclass(frozen=True)
class _Shape:
    """The main road lies along x, the side road comes from -y. Lanes of the main road in each direction;
    lane width, width of the strip for bicycles (0: none), radius of the kerbs and of left turns (m);
    speed limits (m/s)."""

    lanes: int
    width: float
    strip: float
    kerb: float
    left: float
    limit: float
    side_limit: float

    @property
    def edge(self) -> float:
        """From the main road's middle to its kerb."""
        return self.lanes * self.width + self.strip

    @property
    def reach(self) -> float:
        """From the middle to where lanes begin to part."""
        return max(self.radius("right_on") + self.width, self.left) + 2.0

    @property
    def depth(self) -> float:
        """From the middle to where the lanes of the side road begin to part."""
        return max(self.edge + max(self.kerb, CAR_M), self.left) + 1.0

    @property
    def outer(self) -> float:
        """Distance of the rightmost lane of the main road from its middle."""
        return (self.lanes - 0.5) * self.width

    def radius(self, name: str) -> float:
        """Radius of a turn. Who comes from the side road begins to turn left at the line, to leave room for those who
        turn left into it."""
        if name.startswith("right"):
            return self.kerb + 0.5 * self.width
        return min(self.left, 0.5 * self.width + self.edge + LINE_M + 1.0) if name == "left_on" else self.left


def t_junction(seed: int) -> SimMap:
    """A two-way main road with 1 or 2 lanes a direction, limit 8 to 16 m/s, and a side road that gives way.

    Lanes are 3.0 to 3.6 m wide (2.75 to 3.5 m, RASt 06; 10 to 12 feet, AASHTO Green Book 2018), kerbs have a radius of
    5 to 9 m (15 to 30 feet, Green Book, chapter 9), left turns one of 5.5 to 9.5 m. On some roads cyclists ride on a
    strip 1.5 to 1.9 m wide (1.25 to 1.85 m, RASt 06). Who comes from the side road waits for everyone whose path he
    crosses or joins; who turns left off the main road waits for those who come towards him; who turns right waits for
    cyclists who go on. People who cross the side road, one car behind the line, wait for gaps.
    """
    draw = np.random.default_rng(fold_in(seed, "t_junction"))
    shape = _Shape(
        lanes=int(draw.integers(1, 3)),
        width=draw.uniform(3.0, 3.6),
        strip=draw.uniform(1.5, 1.9) * int(draw.uniform() < 0.6),
        kerb=draw.uniform(5.0, 9.0),
        left=draw.uniform(7.5, 9.5),
        limit=draw.uniform(8.0, 16.0),
        side_limit=draw.uniform(8.0, 14.0),
    )
    turn = turner(draw.uniform(-np.pi, np.pi))
    connectors = _connectors(shape)
    n, width = shape.lanes, shape.width
    routes = [_main(shape, direction, lane, direction * n) for direction in (0, 1) for lane in range(n)]
    east, west = tuple(range(n)), tuple(range(n, 2 * n))
    cyclists: tuple[int, ...] = ()
    right_off, left_off, right_on, left_on = range(2 * n, 2 * n + 4)
    routes += [_turning(shape, name, connectors[name]) for name in ("right_off", "left_off", "right_on", "left_on")]
    if shape.strip:
        cyclists = (len(routes), len(routes) + 1)
        routes += [_cyclist(shape, direction, draw) for direction in (0, 1)]
    people = (len(routes), len(routes) + 1)
    routes += _people(shape, draw)
    riding = cyclists[:1]
    zones = [
        Zone((*east, *west[:1], left_off, *riding), (left_on,)),
        Zone((east[-1], *riding), (right_on,)),
        Zone((*east, right_off, *riding), (left_off,)),
        Zone((right_off, left_off, right_on, left_on), people),
    ]
    if riding:
        zones.append(Zone(riding, (right_off,)))
    spawns = _spawns(shape, routes, cyclists, people)
    features = _features(shape, connectors)
    return SimMap(
        "t_junction",
        RoadMap.build([(k, name, turn(points)) for k, name, points in features], _links(shape)),
        tuple(replace(r, points=turn(r.points)) for r in routes),
        tuple(spawns),
        Signal.none(),
        (),
        width,
        tuple(zones),
    )


def _connectors(shape: _Shape) -> dict[str, Points]:
    """The paths of those who turn, from where lanes part to where they are one again. `off`: off the main road."""
    half, outer, reach, depth = 0.5 * shape.width, shape.outer, shape.reach, shape.depth
    out, coming = (-half, -depth), (half, -depth)
    corners = {
        "right_off": ((-reach, -outer), (-half, -outer), out),
        "left_off": ((reach, half), (-half, half), out),
        "right_on": (coming, (half, -outer), (reach, -outer)),
        "left_on": (coming, (half, half), (-reach, half)),
    }
    return {
        name: join(np.array([begin]), rounded(begin, corner, end, shape.radius(name)), np.array([end]))
        for name, (begin, corner, end) in corners.items()
    }


def _main(shape: _Shape, direction: int, lane: int, first: int) -> Route:
    """A lane of the main road, eastward (0) or westward (1); `first` is the route of the leftmost."""
    sign, y = 1.0 - 2.0 * direction, (lane + 0.5) * shape.width
    points = sign * np.array([[-MAIN_M, -y], [MAIN_M, -y]])
    left, right = first + lane - 1 if lane else -1, first + lane + 1 if lane + 1 < shape.lanes else -1
    change = (0.0, MAIN_M - shape.reach - 10.0)
    return Route(points, np.full(2, shape.limit), left=left, right=right, change=change)


def _turning(shape: _Shape, name: str, connector: Points) -> Route:
    """The whole path of one who turns; he halts where he would otherwise be in another's way."""
    off, radius = name.endswith("off"), shape.radius(name)
    before, behind = (MAIN_M - shape.reach, SIDE_M) if off else (SIDE_M, MAIN_M - shape.reach)
    came, goes = connector[1] - connector[0], connector[-1] - connector[-2]
    begin = connector[0] - before * came / np.linalg.norm(came)
    points = join(begin[None], connector, (connector[-1] + behind * goes / np.linalg.norm(goes))[None])
    entry, leave = (shape.limit, shape.side_limit) if off else (shape.side_limit, shape.limit)
    speeds = np.full(len(points), leave)
    speeds[:2], speeds[2:-3] = entry, turn_speed(radius, min(entry, leave))
    line = connector[1] if off else np.array([connector[0, 0], -shape.edge - LINE_M])
    return Route(points, speeds, place(points, line), place(points, connector[-2]) + 6.0)


def _cyclist(shape: _Shape, direction: int, draw: Generator) -> Route:
    sign, y = 1.0 - 2.0 * direction, shape.lanes * shape.width + 0.5 * shape.strip
    return Route(sign * np.array([[-MAIN_M, -y], [MAIN_M, -y]]), np.full(2, riding_speed(draw)), kind=Kind.CYCLIST)


def _people(shape: _Shape, draw: Generator) -> list[Route]:
    y = -(shape.depth + 0.5 * CROSSWALK_M)
    return walks(draw, (-shape.width, y), (shape.width, y), 0.4 * CROSSWALK_M)


def _spawns(shape: _Shape, routes: list[Route], cyclists: tuple[int, ...], people: tuple[int, int]) -> list[Spawn]:
    n, parts = shape.lanes, MAIN_M - shape.reach
    right_off, left_off, right_on, left_on = range(2 * n, 2 * n + 4)
    turns = {n - 1: (right_off,), n: (left_off,)}
    spawns = [Spawn((i, *turns.get(i, ())), parts - 170.0, parts - 5.0, ego=True) for i in range(2 * n)]
    spawns += [Spawn((i,), MAIN_M + shape.reach + 5.0, MAIN_M + shape.reach + 75.0, ego=False) for i in range(2 * n)]
    spawns.append(Spawn((left_on, right_on), SIDE_M - 110.0, SIDE_M - 2.0, ego=True))
    spawns.append(Spawn((right_off,), routes[right_off].clear + 10.0, routes[right_off].clear + 80.0, ego=False))
    spawns += [Spawn((i,), MAIN_M - 100.0, MAIN_M + 10.0, ego=False) for i in cyclists]
    return [*spawns, Spawn(people, 0.0, SIDEWALK_M - 0.5, ego=False)]


def _links(shape: _Shape) -> list[tuple[str, str]]:
    last = shape.lanes - 1
    straight = [(f"{way} {d}{i}", f"{after} {d}{i}") for way, after in (("in", "on"), ("on", "out"))
                for d in "ew" for i in range(shape.lanes)]  # fmt: skip
    return [
        *straight,
        *((f"in e{last}", "right_off"), ("right_off", "out s"), ("in w0", "left_off"), ("left_off", "out s")),
        *(("in s", "left_on"), ("left_on", "out w0"), ("in s", "right_on"), ("right_on", f"out e{last}")),
    ]


def _features(shape: _Shape, connectors: dict[str, Points]) -> list[tuple[Feature, str, Points]]:
    """Lanes, their areas, the strips for bicycles, the mouth of the side road, lines, crosswalk and kerbs."""
    width, reach, depth, edge = shape.width, shape.reach, shape.depth, shape.edge
    lanes: dict[str, Points] = dict(connectors)
    for d, sign in (("e", 1.0), ("w", -1.0)):
        for i in range(shape.lanes):
            y = -(i + 0.5) * width
            for name, low, high in (("in", -MAIN_M, -reach), ("on", -reach, reach), ("out", reach, MAIN_M)):
                lanes[f"{name} {d}{i}"] = sign * np.array([[low, y], [high, y]])
    lanes["in s"] = np.array([[0.5 * width, -depth - SIDE_M], [0.5 * width, -depth]])
    lanes["out s"] = np.array([[-0.5 * width, -depth], [-0.5 * width, -depth - SIDE_M]])
    features: list[tuple[Feature, str, Points]] = []
    for name, path in lanes.items():
        features += [(Feature.LANE, name, resample(path)), (Feature.LANE_AREA, f"area.{name}", strip(path, width))]
    r = shape.kerb
    mouth = join(
        arc((-width - r, -edge - r), r, 0.5 * np.pi, 0.0, FINE_BEND),
        arc((width + r, -edge - r), r, np.pi, 0.5 * np.pi, FINE_BEND),
    )
    features.append((Feature.DRIVABLE, "mouth", mouth))
    lines = [(0.0, "middle", reach)] + [
        (s * i * width, f"{s}{i}", reach) for i in range(1, shape.lanes) for s in (1, -1)
    ]
    if shape.strip:
        for sign in (1, -1):
            y = sign * shape.lanes * width
            band = np.array([[-MAIN_M, y], [MAIN_M, y]])
            features.append(
                (Feature.DRIVABLE, f"strip{sign}", area(band, max(sign, 0) * shape.strip, max(-sign, 0) * shape.strip))
            )
            lines.append((y, f"strip{sign}", reach if sign < 0 else 0.0))
    for y, name, gap in lines:
        for sign in (1.0, -1.0):
            line = np.array([[sign * gap, y], [sign * MAIN_M, y]])
            features.append((Feature.ROAD_LINE, f"line {name} {sign:g}", resample(line)))
    side = np.array([[0.0, -depth - CROSSWALK_M], [0.0, -depth - SIDE_M]])
    features.append((Feature.ROAD_LINE, "line side", resample(side)))
    walk = np.array([[-width, -depth], [width, -depth]])
    features.append((Feature.CROSSWALK, "walk", area(walk, 0.0, CROSSWALK_M)))
    ends = [
        (np.array([[-MAIN_M, 0.0]]), edge + 0.5),
        (np.array([[MAIN_M, 0.0]]), edge + 0.5),
        (np.array([[0.0, -depth - SIDE_M]]), width + 0.5),
    ]
    return features + kerbs(features, ends)
