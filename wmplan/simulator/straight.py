"""A straight road with several lanes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.randomness import fold_in
from wmplan.scene import Feature, Kind, RoadMap
from wmplan.simulator.layout import Points, Route, Signal, SimMap, Spawn, resample, strip, turner
from wmplan.simulator.paths import area, riding_speed

ROUTE_M = 505.0
RUN_OUT_M = 150.0
"""The road goes on for this long at both ends of the routes, for who is faster than most."""
BICYCLES_BELOW_MPS = 18.0


def straight(seed: int) -> SimMap:
    """A straight road: 2 to 4 lanes ahead, 0 to 2 lanes the other way, limit 9 to 25 m/s.

    Lanes are 3.2 to 3.8 m wide (3.25 to 3.75 m, RAL 2012 and RAA 2008; 3.3 to 3.6 m, AASHTO Green Book 2018). Where the
    limit is below 18 m/s, half of the roads have a strip for bicycles at the right edge, 1.5 to 2 m wide (RASt 06: 1.25
    to 1.85 m; NACTO Urban Bikeway Design Guide: 1.5 to 2.1 m).
    """
    draw = np.random.default_rng(fold_in(seed, "straight"))
    ahead, back = int(draw.integers(2, 5)), int(draw.integers(0, 3))
    width, limit, angle = draw.uniform(3.2, 3.8), draw.uniform(9.0, 25.0), draw.uniform(-np.pi, np.pi)
    bicycles = limit < BICYCLES_BELOW_MPS and draw.uniform() < 0.5
    beside = draw.uniform(1.5, 2.0) if bicycles else 0.0
    x, whole = np.array([0.0, ROUTE_M]), np.array([-RUN_OUT_M, ROUTE_M + RUN_OUT_M])

    def lane(i: int, along: Float[ndarray, "2"]) -> Points:
        """Lane i, those ahead first, each direction from its left to its right."""
        y = -(i + 0.5) * width if i < ahead else (i - ahead + 0.5) * width
        return np.stack([along if i < ahead else along[::-1], np.full(2, y)], -1)

    features: list[tuple[Feature, str, Points]] = []
    for i in range(ahead + back):
        drawn = lane(i, whole)
        features += [(Feature.LANE, f"lane{i}", resample(drawn)), (Feature.LANE_AREA, f"area{i}", strip(drawn, width))]
    for i in range(-ahead, back + 1):
        outermost = i == back or (i == -ahead and not bicycles)
        line = np.stack([whole, np.full(2, i * width)], -1)
        features.append((Feature.ROAD_EDGE if outermost else Feature.ROAD_LINE, f"line{i}", resample(line)))
    routes = [
        Route(
            lane(i, x),
            np.full(2, limit),
            left=i - 1 if i not in (0, ahead) else -1,
            right=i + 1 if i + 1 not in (ahead, ahead + back) else -1,
        )
        for i in range(ahead + back)
    ]
    spawns = [Spawn((i,), 30.0, 145.0, ego=True) for i in range(ahead)]
    spawns += [Spawn((i,), 155.0, 270.0, ego=False) for i in range(ahead)]
    spawns += [Spawn((ahead + i,), 60.0, 320.0, ego=False) for i in range(back)]
    if bicycles:
        kerb = np.stack([whole, np.full(2, -ahead * width)], -1)
        features.append((Feature.DRIVABLE, "strip", area(kerb, 0.0, beside)))
        features.append((Feature.ROAD_EDGE, "strip edge", resample(kerb - [0.0, beside])))
        spawns.append(Spawn((len(routes),), 60.0, 300.0, ego=False))
        path = np.stack([x, np.full(2, -ahead * width - 0.5 * beside)], -1)
        routes.append(Route(path, np.full(2, riding_speed(draw)), kind=Kind.CYCLIST))
    turn = turner(angle)
    return SimMap(
        "straight",
        RoadMap.build([(kind, name, turn(points)) for kind, name, points in features]),
        tuple(replace(r, points=turn(r.points)) for r in routes),
        tuple(spawns),
        Signal.none(),
        (),
        width,
    )
