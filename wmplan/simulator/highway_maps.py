"""Lane networks of highway-env as our road maps, mirrored: its y points down the screen, so y and yaw change sign."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.scene import Feature, RoadMap
from wmplan.simulator.outcome import Course
from wmplan.simulator.road_geometry import RoadGeometry

SPACING_M = 1.0
"""Distance between points of a curved lane: on the tightest ring (20 m) a chord is off by 6 mm."""
STRAIGHT_SPACING_M = 5.0
REACH_M = 400.0
"""Of a lane longer than a kilometre (the highway has ten) only what is this near to the ego is kept."""
JOIN_M = 2.5
"""A lane is followed by one that begins this close to its end."""


def road_map(network: Any, ego: Float[ndarray, "2"]) -> RoadMap:
    """Centrelines (`LANE`) and areas (`LANE_AREA`) of all lanes, linked where the network leads from one to the next.

    `network` is highway-env's, `ego` the ego's position in its frame; the map is in the mirrored frame. highway-env
    knows neither road edges nor kerbs: drivable is what its lanes cover.
    """
    features: list[tuple[Feature, str, ndarray]] = []
    ends: dict[str, tuple[str, str, ndarray, ndarray]] = {}
    for (begin, end, number), lane in network.lanes_dict().items():
        name = f"{begin}-{end}-{number}"
        arcs = _arcs(lane, ego)
        line = mirrored(np.array([lane.position(s, 0.0) for s in arcs]))
        half = [0.5 * lane.width_at(s) for s in arcs]
        # highway-env measures lateral offsets to the right of the lane: its own y points down.
        left = mirrored(np.array([lane.position(s, -h) for s, h in zip(arcs, half)]))
        right = mirrored(np.array([lane.position(s, h) for s, h in zip(arcs, half)]))
        features.append((Feature.LANE, name, line))
        features.append((Feature.LANE_AREA, f"{name}-area", np.concatenate([left, right[::-1]])))
        ends[name] = (begin, end, line[0], line[-1])
    links = [
        (a, b)
        for a, (_, node, _, last) in ends.items()
        for b, (start, _, first, _) in ends.items()
        if node == start and np.hypot(*(first - last)) <= JOIN_M
    ]
    return RoadMap.build(features, links)


def course_of(network: Any, lanes: RoadMap) -> Course:
    """What judging needs: every lane is a route of its own, numbered as the network lists them. `lanes` is the whole
    map of `road_map`, in the frame of what is judged. Conflict areas are the lanes inside an intersection."""
    index = list(network.lanes_dict().items())
    inside = [begin.startswith("ir") and end.startswith("il") for (begin, end, _), _ in index]
    return Course(
        RoadGeometry(lanes),
        arc=np.zeros((len(index), 1)),
        limit=np.array([[float(lane.speed_limit)] for _, lane in index]),
        stop=np.where(inside, -1.0, 0.0),
        clear=np.where(inside, 1e4, 0.0),
    )


def mirrored(points: Float[ndarray, "... 2"]) -> Float[ndarray, "... 2"]:
    """Points of highway-env's frame in ours, and back: y points up instead of down."""
    return points * np.array([1.0, -1.0])


def _arcs(lane: Any, ego: Float[ndarray, "2"]) -> Float[ndarray, "N"]:
    """Arc lengths of the points of a lane, both ends included."""
    low, high = 0.0, float(lane.length)
    if high > 1000.0:
        middle = lane.local_coordinates(ego)[0]
        low, high = max(low, middle - REACH_M), min(high, middle + REACH_M)
    straight = lane.heading_at(low) == lane.heading_at(high) == lane.heading_at(0.5 * (low + high) + 0.1)
    spacing = STRAIGHT_SPACING_M if straight else SPACING_M
    return np.linspace(low, high, max(2, int(np.ceil((high - low) / spacing)) + 1))
