"""A roundabout with a single lane."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator

from wmplan.randomness import fold_in
from wmplan.scene import Feature, Kind, RoadMap
from wmplan.simulator.layout import Points, Route, Signal, SimMap, Spawn, Zone, resample, turner
from wmplan.simulator.paths import (
    BEND,
    FINE_BEND,
    SIDEWALK_M,
    arc,
    area,
    join,
    kerbs,
    length,
    parallel,
    place,
    riding_speed,
    turn_speed,
    walks,
)

ARM_M = 165.0
"""From the circle to the ends of the arms."""
LINE_M = 1.0
"""From the line where one gives way to the circle's edge."""
ISLAND_M = (12.0, 40.0)
"""From the end of the curve, where lanes have moved apart for the splitter island and where they begin to."""
CAR_M, CROSSWALK_M = 6.0, 3.0
"""Room for a car between the circle and the crosswalk, and the crosswalk's width."""
MIRROR = np.array([1.0, -1.0])
CYCLIST_M = 0.9
"""Right of the lane's middle: in the lane, so that nobody passes in the circle."""


@dataclass(frozen=True)
class _Shape:
    """Angles of the arms seen from the middle (rad, counter-clockwise); radius of the circle's outer edge, widths of
    the circle and of a lane, half the width of the splitter islands, radius of entries and exits (m); speed limit
    (m/s)."""

    angles: tuple[float, ...]
    outer: float
    circle: float
    width: float
    island: float
    curve: float
    limit: float

    @property
    def arms(self) -> int:
        return len(self.angles)

    @property
    def radius(self) -> float:
        """Of the circle's middle line."""
        return self.outer - 0.5 * self.circle

    @property
    def beside(self) -> float:
        """Distance of a lane from the middle of its arm, at the splitter island."""
        return self.island + 0.5 * self.width

    @property
    def bend(self) -> float:
        """Angle between an arm and the place where its entry joins the circle (its exit leaves it)."""
        return float(np.arcsin((self.beside + self.curve) / (self.radius + self.curve)))

    @property
    def begin(self) -> float:
        """Distance from the middle where entries begin to curve."""
        return (self.radius + self.curve) * float(np.cos(self.bend))

    def entry(self, bend: float = BEND) -> Points:
        """From the end of an arm along x to the circle, where y > 0. Mirrored it is an exit."""
        y, far = 0.5 * self.width, self.begin + ISLAND_M[1]
        lead = [[self.begin + ARM_M, y], [far, y], [self.begin + ISLAND_M[0], self.beside]]
        centre = (self.begin, self.beside + self.curve)
        return join(np.array(lead), arc(centre, self.curve, -0.5 * np.pi, -np.pi + self.bend, bend))


def roundabout(seed: int) -> SimMap:
    """A roundabout with 3 or 4 arms and one lane, limit 8 to 14 m/s on the arms.

    The circle is 30 to 44 m across and its lane 4.8 to 5.8 m wide (inscribed diameters of single-lane roundabouts: 27
    to 55 m, circulatory roadway 4.8 to 6 m: NCHRP Report 672, exhibit 6-9 and section 6.4.3); entries and exits curve
    with a radius of up to 25 m (15 to 30 m, section 6.4.5), less where arms are close. Splitter islands are 1.6 to 3 m
    wide (at least 1.8 m where people cross, section 6.4.1), crosswalks lie one car behind the line (6 m, section
    6.8.1.2). Who enters waits for those in the circle; people wait for gaps; cyclists ride in the lane.
    """
    draw = np.random.default_rng(fold_in(seed, "roundabout"))
    arms = int(draw.integers(3, 5))
    angles = 2.0 * np.pi * np.arange(arms) / arms + draw.uniform(-1.0, 1.0, arms) * (0.09 if arms == 4 else 0.3)
    outer, circle, width = draw.uniform(15.0, 22.0), draw.uniform(4.8, 5.8), draw.uniform(3.2, 3.6)
    island, radius = draw.uniform(0.8, 1.5), outer - 0.5 * circle
    # An exit has to leave the circle behind the entry before it.
    most = 0.5 * float(np.diff([*angles, angles[0] + 2.0 * np.pi]).min()) - 0.02
    fits = (radius * np.sin(most) - island - 0.5 * width) / (1.0 - np.sin(most))
    curve = min(draw.uniform(14.0, 25.0), fits)
    shape = _Shape(tuple(angles), outer, circle, width, island, float(curve), draw.uniform(8.0, 14.0))
    turn = turner(draw.uniform(-np.pi, np.pi))
    ways = [(i, way) for i in range(arms) for way in range(1, arms)]
    routes = [_route(shape, arm, way) for arm, way in ways]
    riders = draw.permutation(arms)[: int(draw.integers(0, 3))]
    for arm in riders:
        ways.append((int(arm), 2))
        routes.append(_cyclist(shape, int(arm), draw))
    on = list(enumerate(ways))
    zones = [
        Zone(
            tuple(i for i, (arm, way) in on if 0 < (at - arm) % arms < way),
            tuple(i for i, (arm, _) in on if arm == at),
        )
        for at in range(arms)
    ]
    crossed = sorted(int(arm) for arm in draw.permutation(arms)[: int(draw.integers(1, arms + 1))])
    people = []
    for at in crossed:
        people += [len(routes), len(routes) + 1]
        routes += _people(shape, at, draw)
        zones.append(Zone(tuple(i for i, (arm, way) in on if at in (arm, (arm + way) % arms)), tuple(people[-2:])))
    spawns = _spawns(shape, routes, ways, people)
    features, links = _features(shape, crossed), _links(shape)
    return SimMap(
        "roundabout",
        RoadMap.build([(k, name, turn(points)) for k, name, points in features], links),
        tuple(replace(r, points=turn(r.points)) for r in routes),
        tuple(spawns),
        Signal.none(),
        (),
        width,
        tuple(zones),
    )


def _angle(shape: _Shape, arm: int) -> float:
    """Of an arm, also beyond the first round."""
    return shape.angles[arm % shape.arms] + 2.0 * np.pi * (arm // shape.arms)


def _route(shape: _Shape, arm: int, way: int) -> Route:
    """From an arm to the `way`-th exit."""
    here, there, entry = _angle(shape, arm), _angle(shape, arm + way), shape.entry()
    circle = arc((0.0, 0.0), shape.radius, here + shape.bend, there - shape.bend)
    points = join(turner(here)(entry), circle, turner(there)(entry[::-1] * MIRROR))
    speeds = np.full(len(points), shape.limit)
    slow = min(turn_speed(shape.curve, shape.limit), turn_speed(shape.radius, shape.limit))
    speeds[3 : len(points) - 4] = slow
    stop = length(entry) - _inside(shape) - LINE_M
    return Route(points, speeds, stop, length(entry) + 6.0)


def _inside(shape: _Shape) -> float:
    """How much of the entry lies within the circle's outer edge, along the path."""
    reach = shape.radius + shape.curve
    cos = (reach**2 + shape.curve**2 - shape.outer**2) / (2.0 * reach * shape.curve)
    return shape.curve * float(np.arccos(cos))


def _cyclist(shape: _Shape, arm: int, draw: Generator) -> Route:
    """One who leaves the circle at the second exit."""
    car = _route(shape, arm, 2)
    path = parallel(car.points, -CYCLIST_M)
    stop, clear = (place(path, _at(car.points, s)) for s in (car.stop, car.clear))
    speed = min(riding_speed(draw), turn_speed(shape.curve, 6.0), turn_speed(shape.radius, 6.0))
    return Route(path, np.full(len(path), speed), stop, clear, kind=Kind.CYCLIST)


def _at(points: Points, s: float) -> Float[ndarray, "2"]:
    steps = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))
    return np.array([np.interp(s, steps, points[:, 0]), np.interp(s, steps, points[:, 1])])


def _crosswalk(shape: _Shape) -> Points:
    """Kerb to kerb across an arm along x, one car away from the circle."""
    x = max(shape.begin, shape.outer + CAR_M) + 0.5 * CROSSWALK_M
    edge = shape.beside + 0.5 * shape.width + 0.2
    return np.array([[x, -edge], [x, edge]])


def _people(shape: _Shape, arm: int, draw: Generator) -> list[Route]:
    begin, end = turner(_angle(shape, arm))(_crosswalk(shape))
    return walks(draw, begin, end, 0.4 * CROSSWALK_M)


def _spawns(shape: _Shape, routes: list[Route], ways: list[tuple[int, int]], people: list[int]) -> list[Spawn]:
    spawns = []
    for arm in range(shape.arms):
        coming = [i for i, (at, _) in enumerate(ways) if at == arm]
        cars = tuple(i for i in coming if routes[i].kind == Kind.VEHICLE)
        spawns.append(Spawn(cars, routes[cars[0]].stop - 120.0, routes[cars[0]].stop - 5.0, ego=True))
        straight = routes[cars[min(1, len(cars) - 1)]]
        gone = length(straight.points) - ARM_M + 15.0
        spawns.append(Spawn((cars[min(1, len(cars) - 1)],), gone, gone + 70.0, ego=False))
        bikes = tuple(i for i in coming if routes[i].kind == Kind.CYCLIST)
        spawns += [Spawn((i,), routes[i].stop - 50.0, routes[i].stop - 5.0, ego=False) for i in bikes]
    spawns += [Spawn(tuple(people[i : i + 4]), 0.0, SIDEWALK_M - 0.5, ego=False) for i in range(0, len(people), 4)]
    return spawns


def _links(shape: _Shape) -> list[tuple[str, str]]:
    links = []
    for i in range(shape.arms):
        after = (i + 1) % shape.arms
        links += [(f"in{i}", f"enter{i}"), (f"enter{i}", f"to{after}"), (f"past{i}", f"to{after}")]
        links += [(f"to{i}", f"past{i}"), (f"to{i}", f"leave{i}"), (f"leave{i}", f"out{i}")]
    return links


def _features(shape: _Shape, crossed: list[int]) -> list[tuple[Feature, str, Points]]:
    """Lanes, their areas, lines, crosswalks and kerbs."""
    features: list[tuple[Feature, str, Points]] = []
    half, wide = 0.5 * shape.width, 0.5 * shape.circle
    entry = shape.entry(FINE_BEND)
    straight, curve = entry[:3], entry[2:]
    # The kerb lies along the circle where the entry joins it; the lane is wider there than on the arm.
    share = np.clip(np.linspace(0.0, 2.0, len(curve)), 0.0, 1.0)
    grown = half + share * (wide - half)
    ends = []
    for i in range(shape.arms):
        turn, before, here = turner(_angle(shape, i)), _angle(shape, i - 1), _angle(shape, i)
        to = arc((0.0, 0.0), shape.radius, before + shape.bend, here - shape.bend, FINE_BEND)
        past = arc((0.0, 0.0), shape.radius, here - shape.bend, here + shape.bend, FINE_BEND)
        areas = {
            f"in{i}": (turn(straight), turn(area(straight, half, half))),
            f"enter{i}": (turn(curve), turn(area(curve, grown, grown))),
            f"leave{i}": (turn(curve[::-1] * MIRROR), turn(area(curve, grown, grown) * MIRROR)),
            f"out{i}": (turn(straight[::-1] * MIRROR), turn(area(straight, half, half) * MIRROR)),
            f"to{i}": (to, area(to, wide, wide)),
            f"past{i}": (past, area(past, wide, wide)),
        }
        for name, (path, covered) in areas.items():
            features += [(Feature.LANE, name, resample(path)), (Feature.LANE_AREA, f"area.{name}", covered)]
        middle = np.array([[shape.begin + ISLAND_M[1], 0.0], [shape.begin + ARM_M, 0.0]])
        features.append((Feature.ROAD_LINE, f"line{i}", turn(resample(middle))))
        if i in crossed:
            walk = area(_crosswalk(shape), 0.5 * CROSSWALK_M, 0.5 * CROSSWALK_M)
            features.append((Feature.CROSSWALK, f"walk{i}", turn(walk)))
        ends.append((turn(np.array([[shape.begin + ARM_M, 0.0]])), shape.width + 0.5))
    return features + kerbs(features, ends)
