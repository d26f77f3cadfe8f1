"""A motorway with an on-ramp."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wmplan.randomness import fold_in
from wmplan.scene import Feature, RoadMap
from wmplan.simulator.layout import Points, Route, Signal, SimMap, Spawn, resample, turner
from wmplan.simulator.paths import area, join, kerbs, length, parallel, rounded, turn_speed

MAIN_M = 505.0
"""Length of the main road's routes."""
RUN_OUT_M = 150.0
"""The road goes on for this long behind the routes' end, for who is faster than most."""
TAPER_M = 60.0
"""Where the acceleration lane narrows behind its end."""
HALT_M = 3.0
"""Before the end of the acceleration lane, where those halt who found no gap."""
SHOULDER_M = 1.0
"""Paved edge of the main road and the ramp."""

LINKS = [("ramp", "beside"), ("beside", "join"), ("join", "onward"), ("right", "onward")]


def merge(seed: int) -> SimMap:
    """A motorway with 2 or 3 lanes and an on-ramp whose acceleration lane ends, limit 16 to 30 m/s.

    Lanes are 3.5 to 3.75 m wide (RAA 2008; 3.6 m in the AASHTO Green Book 2018). The acceleration lane is 130 to 230 m
    long: 150 m on country roads (RAL 2012), 250 m on motorways (RAA 2008). The ramp bends with a radius of 125 to 300 m
    and is driven at 11 to 17 m/s (design speeds of 40 to 60 km/h, RAA 2008); from the acceleration lane on the main
    road's limit holds. Those on the main road do not change onto the acceleration lane.
    """
    draw = np.random.default_rng(fold_in(seed, "merge"))
    lanes, width, limit = int(draw.integers(2, 4)), draw.uniform(3.5, 3.75), draw.uniform(16.0, 30.0)
    nose, lane_m = draw.uniform(150.0, 200.0), draw.uniform(130.0, 230.0)
    radius, bend = draw.uniform(125.0, 300.0), draw.uniform(0.12, 0.3)
    ramp_speed = min(draw.uniform(11.0, 17.0), 0.9 * limit, turn_speed(radius, limit))
    turn = turner(draw.uniform(-np.pi, np.pi))
    middles = [np.array([[0.0, -(i + 0.5) * width], [MAIN_M, -(i + 0.5) * width]]) for i in range(lanes)]
    drawn = [np.array([[0.0, m[0, 1]], [MAIN_M + RUN_OUT_M, m[0, 1]]]) for m in middles]
    ramp = _ramp(draw.uniform(120.0, 160.0), -(lanes + 0.5) * width, nose, radius, bend)
    begins = length(ramp)
    beside = np.array([[nose, ramp[-1, 1]], [nose + lane_m, ramp[-1, 1]]])
    features = _features(drawn, ramp, beside, width)
    on_ramp = join(ramp, beside)
    routes = [
        Route(points, np.full(2, limit), left=i - 1, right=i + 1 if i + 1 < lanes else -1)
        for i, points in enumerate(middles)
    ]
    routes.append(
        Route(
            on_ramp,
            np.where(np.arange(len(on_ramp)) < len(ramp) - 1, ramp_speed, limit),
            stop=begins + lane_m - HALT_M,
            clear=begins + lane_m,
            left=lanes - 1,
            change=(begins, begins + lane_m),
            dead_end=True,
        )
    )
    spawns = [Spawn((i,), 20.0, nose - 5.0, ego=i >= lanes - 2) for i in range(lanes)]
    spawns += [Spawn((i,), nose + 5.0, nose + 120.0, ego=False) for i in range(lanes)]
    spawns.append(Spawn((lanes,), 10.0, begins - 5.0, ego=True))
    road_map = RoadMap.build([(k, name, turn(points)) for k, name, points in features], LINKS)
    return SimMap(
        "merge",
        road_map,
        tuple(replace(r, points=turn(r.points)) for r in routes),
        tuple(spawns),
        Signal.none(),
        (),
        width,
    )


def _ramp(before: float, y: float, nose: float, radius: float, bend: float) -> Points:
    """The path from the ramp's beginning, `before` metres ahead of its bend's corner, to the nose, where the
    acceleration lane begins."""
    reach = radius * np.tan(0.5 * bend)
    corner = np.array([nose - reach, y])
    begin = corner - before * np.array([np.cos(bend), np.sin(bend)])
    return join(begin[None], rounded(begin, corner, (nose, y), radius))


def _features(drawn: list[Points], ramp: Points, beside: Points, width: float) -> list[tuple[Feature, str, Points]]:
    """Lanes, their areas, lines and kerbs."""
    half, far, lanes = 0.5 * width, float(drawn[0][-1, 0]), len(drawn)
    features: list[tuple[Feature, str, Points]] = []
    end, right = beside[-1], drawn[-1]
    joined = np.array([end[0] + TAPER_M, right[0, 1]])
    paths = {f"lane{i}": path for i, path in enumerate(drawn[:-1])}
    paths |= {"right": np.stack([right[0], joined]), "onward": np.stack([joined, right[-1]])}
    for name, path in (paths | {"ramp": ramp, "beside": beside}).items():
        features += [(Feature.LANE, name, resample(path)), (Feature.LANE_AREA, f"area.{name}", area(path, half, half))]
    # How most leave the ramp; the taper lies under it.
    features.append((Feature.LANE, "join", resample(np.stack([end, joined]))))
    edge = -lanes * width
    taper = np.array([[end[0], edge], [end[0] + TAPER_M, edge], [end[0], edge - width]])
    features.append((Feature.DRIVABLE, "taper", taper))
    features.append((Feature.DRIVABLE, "margin", area(np.array([[0.0, 0.0], [far, 0.0]]), SHOULDER_M, 0.0)))
    outer = np.array([beside[0], end, end + [TAPER_M, width], [far, edge + half]]) - [0.0, half]
    features.append((Feature.DRIVABLE, "shoulder", area(outer, 0.0, SHOULDER_M)))
    features.append((Feature.DRIVABLE, "ramp margin", area(ramp, half + 0.5 * SHOULDER_M, half + SHOULDER_M)))
    before = np.array([[0.0, edge], [beside[0, 0], edge]])
    features.append((Feature.DRIVABLE, "main shoulder", area(before, 0.0, SHOULDER_M)))
    for i in range(lanes + 1):
        begin = beside[0, 0] if i == lanes else 0.0
        lines = [(0.0, far)] if i < lanes else [(0.0, begin), (begin, end[0]), (end[0] + TAPER_M, far)]
        for j, (low, high) in enumerate(lines):
            line = np.array([[low, -i * width], [high, -i * width]])
            features.append((Feature.ROAD_LINE, f"line{i}.{j}", resample(line)))
    for name, side in (("left", half), ("right", -half)):
        features.append((Feature.ROAD_LINE, f"ramp {name}", resample(parallel(ramp, side))))
    middle = -0.5 * lanes * width
    wide = 0.5 * lanes * width + 2.0 * SHOULDER_M
    ends = [(np.array([[0.0, middle]]), wide), (np.array([[far, middle]]), wide), (ramp[:1], half + 2.0 * SHOULDER_M)]
    return features + kerbs(features, ends)
