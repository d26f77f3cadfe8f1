"""A straight road with several lanes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wmplan.randomness import fold_in
from wmplan.scene import Feature, RoadMap
from wmplan.simulator.layout import Points, Route, Signal, SimMap, Spawn, resample, strip, turner

STRAIGHT_LENGTH_M = 505.0


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
    spawns = [Spawn((i,), 60.0, 230.0, ego=True) for i in range(ahead)]
    spawns += [Spawn((ahead + i,), 60.0, 320.0, ego=False) for i in range(back)]
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
