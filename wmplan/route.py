"""The route of a scene: the way ahead along the lanes, from the map and the present pose alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy import ndarray

from wmplan.frames import wrap_angle
from wmplan.scene import Feature, RoadMap

ROUTE_LENGTH_M = 100.0
"""How far a route reaches."""
MAX_OFFSET_M = 4.0
"""A lane further away than this is not the ego's."""
MAX_ANGLE_RAD = np.pi / 3
"""A lane whose direction differs more than this from the ego's heading is not the ego's."""
METRES_PER_RAD = 3.0
"""What a misaligned lane loses against a displaced one."""
TIE_M = 0.5
"""Lanes this close in merit share their place (a fork); the straightest of them wins."""
JOIN_M = 2.5
"""Without links, a lane that begins this close to the end of another continues it."""
JOIN_ANGLE_RAD = np.pi / 4
"""Without links, a lane that leaves at a wider angle does not continue another."""
LOOK_AHEAD_M = 20.0
"""How far into a lane its turning is measured."""
TINY_M = 0.05
"""Points closer than this are one point."""


def route_of(road_map: RoadMap, length_m: float = ROUTE_LENGTH_M) -> tuple[Float32[ndarray, "R 2"], bool]:
    """The way ahead of the ego, `length_m` long, and whether it lies on lanes of the map.

    `road_map` is in the scene frame: the ego stands at the origin and looks along x. The route starts beside the ego on
    the nearest lane that runs its way, follows links where the lane has any and otherwise the lane that begins where
    this one ends, takes the straightest branch, and goes straight on where the map ends. Without a lane it is the x
    axis.
    """
    lanes = _Lanes.of(road_map)
    place = _beside(lanes)
    if place is None:
        return np.array([[0.0, 0.0], [length_m, 0.0]], dtype=np.float32), False
    lane, segment, foot = place
    parts = [foot[None], lanes.points[lane][segment + 1 :]]
    visited = {lane}
    while True:
        line = _distinct(np.concatenate(parts))
        if _length(line) >= length_m:
            break
        following = _next(lanes, lane, line, visited)
        if following is None:
            break
        lane = following
        visited.add(lane)
        parts.append(lanes.points[lane])
    return _fit(line, length_m).astype(np.float32), True


@dataclass(frozen=True)
class _Lanes:
    """Centrelines of two or more distinct points, and the links between them (indices into `points`)."""

    points: list[Float[ndarray, "_ 2"]]
    links: dict[int, list[int]]
    starts: Float[ndarray, "L 2"]

    @staticmethod
    def of(road_map: RoadMap) -> _Lanes:
        rows: dict[int, int] = {}
        points: list[ndarray] = []
        for feature in np.flatnonzero(road_map.kinds == Feature.LANE):
            line = _distinct(road_map.feature(int(feature)).astype(np.float64))
            if len(line) >= 2:
                rows[int(feature)] = len(points)
                points.append(line)
        links: dict[int, list[int]] = {}
        for a, b in road_map.successors.tolist():
            if a in rows and b in rows:
                links.setdefault(rows[a], []).append(rows[b])
        starts = np.array([line[0] for line in points]).reshape(-1, 2)
        return _Lanes(points, links, starts)


def _beside(lanes: _Lanes) -> tuple[int, int, Float[ndarray, "2"]] | None:
    """The ego's lane, the segment of it beside the ego, and the nearest point of that segment."""
    if not lanes.points:
        return None
    starts = np.concatenate([line[:-1] for line in lanes.points])
    steps = np.concatenate([np.diff(line, axis=0) for line in lanes.points])
    owner = np.repeat(np.arange(len(lanes.points)), [len(line) - 1 for line in lanes.points])
    first: Int[ndarray, "L"] = np.concatenate([[0], np.cumsum([len(line) - 1 for line in lanes.points])])[:-1]
    along = np.clip(-(starts * steps).sum(axis=1) / (steps**2).sum(axis=1), 0.0, 1.0)
    feet = starts + along[:, None] * steps
    distance = np.hypot(feet[:, 0], feet[:, 1])
    angle = np.abs(np.arctan2(steps[:, 1], steps[:, 0]))
    merit = np.where((distance <= MAX_OFFSET_M) & (angle <= MAX_ANGLE_RAD), distance + METRES_PER_RAD * angle, np.inf)
    best = merit.min()
    if not np.isfinite(best):
        return None
    chosen: dict[int, int] = {}
    for segment in np.flatnonzero(merit <= best + TIE_M):
        lane = int(owner[segment])
        if lane not in chosen or merit[segment] < merit[chosen[lane]]:
            chosen[lane] = int(segment)
    turns = {}
    for lane, segment in chosen.items():
        ahead = np.concatenate([feet[segment][None], lanes.points[lane][segment - first[lane] + 1 :]])
        turns[lane] = (round(_turn(ahead, 0.0), 3), merit[segment], lane)
    lane = min(turns, key=lambda lane: turns[lane])
    return lane, int(chosen[lane] - first[lane]), feet[chosen[lane]]


def _next(lanes: _Lanes, lane: int, line: Float[ndarray, "N 2"], visited: set[int]) -> int | None:
    """The lane that continues `lane`, the straightest if there are several."""
    heading = _heading(line)
    options = [k for k in lanes.links.get(lane, []) if k not in visited]
    if not options:
        gaps = np.hypot(*(lanes.starts - line[-1]).T)
        options = [int(k) for k in np.flatnonzero(gaps <= JOIN_M) if int(k) not in visited]
        options = [k for k in options if abs(_leaving(lanes.points[k], heading)) <= JOIN_ANGLE_RAD]
    return min(options, key=lambda k: (round(_turn(lanes.points[k], heading), 3), k), default=None)


def _turn(line: Float[ndarray, "N 2"], heading: float) -> float:
    """How far the first `LOOK_AHEAD_M` of a line bend away from `heading`, radians, not negative."""
    line = _fit(_distinct(line), LOOK_AHEAD_M)
    return abs(float(wrap_angle(np.arctan2(*(line[-1] - line[0])[::-1]) - heading))) if len(line) > 1 else 0.0


def _leaving(line: Float[ndarray, "N 2"], heading: float) -> float:
    """The angle between a line's first segment and `heading`."""
    return float(wrap_angle(np.arctan2(*(line[1] - line[0])[::-1]) - heading))


def _heading(line: Float[ndarray, "N 2"]) -> float:
    """The direction of the end of a line; 0, the ego's own, for a single point."""
    return float(np.arctan2(*(line[-1] - line[-2])[::-1])) if len(line) > 1 else 0.0


def _length(line: Float[ndarray, "N 2"]) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def _distinct(line: Float[ndarray, "N 2"]) -> Float[ndarray, "M 2"]:
    """The line without points that hardly move on."""
    kept = [0] if len(line) else []
    for i in range(1, len(line)):
        if np.hypot(*(line[i] - line[kept[-1]])) >= TINY_M:
            kept.append(i)
    return line[kept]


def _fit(line: Float[ndarray, "N 2"], length_m: float) -> Float[ndarray, "M 2"]:
    """The line cut to `length_m`, or prolonged straight to it."""
    if len(line) < 2:
        heading = _heading(line)
        return np.concatenate([line[:1], line[:1] + length_m * np.array([[np.cos(heading), np.sin(heading)]])])
    steps = np.hypot(*np.diff(line, axis=0).T)
    reached = np.concatenate([[0.0], np.cumsum(steps)])
    if reached[-1] <= length_m:
        direction = (line[-1] - line[-2]) / steps[-1]
        end = line[-1] + (length_m - reached[-1]) * direction
        return _distinct(np.concatenate([line, end[None]]))
    whole = reached < length_m
    i = int(np.flatnonzero(whole)[-1])
    end = line[i] + (length_m - reached[i]) / steps[i] * (line[i + 1] - line[i])
    return _distinct(np.concatenate([line[whole], end[None]]))
