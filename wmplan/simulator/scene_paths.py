"""The path that somebody drove in a log, as a route can hold it: smooth, without jitter, at most 32 vertices, and on
along the lanes beyond where it was last seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.signal import savgol_filter
from shapely.ops import substring

from wmplan.frames import Pose
from wmplan.route import route_of
from wmplan.scene import HISTORY_STEPS, STEP_S, Feature, Kind, RoadMap

SMOOTH_STEPS = 11
"""Positions are smoothed by a quadratic over 1.1 s (Savitzky and Golay, 1964): boxes jitter by centimetres."""
STILL_M = {Kind.VEHICLE: 1.0, Kind.CYCLIST: 1.0, Kind.PEDESTRIAN: 1.5, Kind.OTHER: 1.0}
"""Who stays within a circle of this diameter all the time stands for good: parked, or waiting for all that was seen.
Boxes of parked cars wander by some decimetres, people shift from foot to foot."""
STEP_M = 0.5
"""A path has a point each time its driver has come so far; less is jitter."""
SHORT_M = 2.0
"""A path shorter than this says nothing of direction: it is straight along the box's heading."""
TURNED_BACK = np.cos(np.deg2rad(100.0))
"""Who goes on at a sharper angle than this has changed gear; what follows is another path and is left out."""
MOST_VERTICES = 32
PATH_TOLERANCE_M = 0.1
SPEED_TOLERANCE_MPS = 0.5
EXTENSION_VERTICES, EXTENSION_TOLERANCE_M = 8, 0.3
JOIN_OFFSET_M = 2.0
"""Who is farther beside a lane does not follow it; who is nearer reaches its middle within `JOIN_SLOPE` offsets."""
JOIN_SLOPE, JOIN_LEAST_M = 6.0, 4.0


@dataclass(frozen=True)
class Driven:
    """What a log shows of one road user's way from t0 on; metres, seconds, scene frame.

    `points` begins at the place at t0; `arc` is its length so far. `s` is how far along it the box's centre was at each
    step from t0 on, `speed` how fast (m/s), both only where `seen`. `fastest` is its highest speed before or after t0.
    `stands`: it never moves. `backwards`: it drove in reverse, so its box looks against the path. `turned`: it turned
    back, and the path ends there.
    """

    points: Float[ndarray, "N 2"]
    arc: Float[ndarray, "N"]
    s: Float[ndarray, "S"]
    speed: Float[ndarray, "S"]
    seen: Bool[ndarray, "S"]
    fastest: float
    stands: bool
    backwards: bool
    turned: bool


def driven(states: Float[ndarray, "T 5"], valid: Bool[ndarray, "T"], kind: Kind) -> Driven:
    """The way of one track, history and future joined, step `HISTORY_STEPS` being t0, where it is valid.

    Gaps are bridged by straight lines, and count as not seen.
    """
    steps = np.flatnonzero(valid)
    where = np.arange(steps[0], steps[-1] + 1)
    raw = np.stack([np.interp(where, steps, states[steps, i].astype(np.float64)) for i in (0, 1)], axis=-1)
    smooth = _smoothed(raw)
    now = HISTORY_STEPS - steps[0]
    seen = valid[HISTORY_STEPS:]
    yaw = float(states[HISTORY_STEPS, 2])
    heading = np.array([np.cos(yaw), np.sin(yaw)])
    velocity = (
        np.gradient(smooth, STEP_S, axis=0) if len(smooth) > 1 else states[HISTORY_STEPS, None, 3:5].astype(float)
    )
    pace = np.hypot(*velocity.T)
    if _spread(smooth) < STILL_M[kind] and pace.max() < 2.0 * STILL_M[kind]:
        line = np.stack([smooth[now], smooth[now] + heading])
        none = np.zeros(len(seen))
        return Driven(line, np.array([0.0, 1.0]), none, none, seen, 0.0, True, False, False)
    after, times = smooth[now:], np.arange(len(smooth) - now)
    kept, turned = _forward(after)
    path = after[kept]
    length = float(np.hypot(*np.diff(path, axis=0).T).sum())
    ahead = (path[-1] - path[0]) @ heading
    backwards = bool(kind in (Kind.VEHICLE, Kind.CYCLIST) and _mostly_backwards(velocity, states, valid, where))
    if length < SHORT_M and kind in (Kind.VEHICLE, Kind.CYCLIST):
        direction = -heading if backwards else heading
        path = np.stack([after[0], after[0] + max(abs(ahead), STEP_M) * direction])
        kept = np.array([0, len(after)])
    elif len(path) < 2:
        going = velocity[now] if pace[now] > 0.3 else heading
        path = np.stack([after[0], after[0] + STEP_M * going / np.hypot(*going)])
        kept = np.array([0, len(after)])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    s = _progress(path, arc, kept, after, times)
    full = np.concatenate([s, np.full(len(seen) - len(s), s[-1])])
    speed = np.gradient(s, STEP_S) if len(s) > 1 else np.array([pace[now]])
    speed[0] = max(pace[now] * np.sign(velocity[now] @ (path[1] - path[0])), 0.0)
    speed = np.concatenate([np.maximum(speed, 0.0), np.zeros(len(seen) - len(s))])
    return Driven(path, arc, full, speed, seen, float(np.percentile(pace, 95)), False, backwards, turned)


def extended(path: Float[ndarray, "N 2"], metres: float, lanes: RoadMap | None) -> Float[ndarray, "M 2"]:
    """Points that carry a path on by about `metres`: along the lane that it ends on (the straightest way where there is
    a choice), else straight. The path's own points are not repeated."""
    step = path[-1] - path[-2]
    end = Pose(float(path[-1, 0]), float(path[-1, 1]), float(np.arctan2(step[1], step[0])))
    straight = end.to_outer(np.array([[metres, 0.0]]))
    if lanes is None or metres <= JOIN_LEAST_M:
        return straight
    way, on_map = route_of(lanes.seen_from(end), metres)
    offset = float(np.hypot(*way[0]))
    skip = max(JOIN_LEAST_M, JOIN_SLOPE * offset)
    if not on_map or offset > JOIN_OFFSET_M or skip >= metres:
        return straight
    line = shapely.LineString(way.astype(np.float64))
    rest = shapely.get_coordinates(substring(line, skip, line.length))
    kept = simplified(rest, np.zeros(len(rest)), EXTENSION_VERTICES, EXTENSION_TOLERANCE_M)
    return end.to_outer(rest[kept])


def lane_map(road_map: RoadMap) -> RoadMap | None:
    """The lanes of a map and their links alone, without points that hardly matter; None where it has no lanes."""
    features = []
    for row in np.flatnonzero(road_map.kinds == Feature.LANE):
        points = road_map.feature(int(row)).astype(np.float64)
        if len(points) >= 2:
            line = shapely.simplify(shapely.LineString(points), 0.5 * PATH_TOLERANCE_M)
            features.append((Feature.LANE, str(row), shapely.get_coordinates(line)))
    links = [(str(a), str(b)) for a, b in road_map.successors.tolist()]
    return RoadMap.build(features, links) if features else None


def simplified(
    points: Float[ndarray, "N 2"],
    speeds: Float[ndarray, "N"],
    most: int = MOST_VERTICES,
    tolerance: float = PATH_TOLERANCE_M,
) -> Int[ndarray, "M"]:
    """Which points to keep so that none of them is farther than `tolerance` from the line through those, nor any speed
    farther than `SPEED_TOLERANCE_MPS` from the middle of its piece; the worst piece is divided first, until `most`.

    References:
        Douglas, Peucker (1973), with a second criterion and a budget.
    """
    pieces = [_error(points, speeds, tolerance, 0, len(points) - 1)]
    while len(pieces) + 1 < most:
        worst = max(range(len(pieces)), key=lambda i: pieces[i][0])
        error, begin, middle, end = pieces[worst]
        if error <= 1.0:
            break
        pieces[worst : worst + 1] = [
            _error(points, speeds, tolerance, begin, middle),
            _error(points, speeds, tolerance, middle, end),
        ]
    return np.array([piece[1] for piece in pieces] + [len(points) - 1])


def _error(points: ndarray, speeds: ndarray, tolerance: float, begin: int, end: int) -> tuple[float, int, int, int]:
    """How bad the piece from one point to another is, and where it should be divided."""
    if end - begin < 2:
        return 0.0, begin, begin, end
    chord = points[end] - points[begin]
    inner = points[begin + 1 : end] - points[begin]
    share = np.clip(inner @ chord / max(chord @ chord, 1e-12), 0.0, 1.0)
    away = np.hypot(*(inner - share[:, None] * chord).T) / tolerance
    own = speeds[begin:end]
    middle = 0.5 * (own.max() + own.min())
    spread = float(np.abs(own - middle).max()) / SPEED_TOLERANCE_MPS
    if away.max() >= spread:
        return float(away.max()), begin, begin + 1 + int(np.argmax(away)), end
    # Divided where the speed crosses the middle of its range.
    crossing = np.flatnonzero(np.diff(own > middle)) + 1
    nearest = crossing[np.argmin(np.abs(crossing - len(own) / 2))]
    return spread, begin, begin + int(nearest), end


def _smoothed(points: Float[ndarray, "N 2"]) -> Float[ndarray, "N 2"]:
    window = min(SMOOTH_STEPS, len(points) - 1 + len(points) % 2)
    return savgol_filter(points, window, 2, axis=0) if window > 2 else points


def _spread(points: Float[ndarray, "N 2"]) -> float:
    """The diagonal of the box around all points."""
    return float(np.hypot(*(points.max(axis=0) - points.min(axis=0))))


def _forward(points: Float[ndarray, "N 2"]) -> tuple[Int[ndarray, "M"], bool]:
    """Which points make the path, each `STEP_M` or more from the one before, up to where it turns back, if it does."""
    kept, direction = [0], None
    for i in range(1, len(points)):
        step = points[i] - points[kept[-1]]
        size = np.hypot(*step)
        if size < STEP_M:
            continue
        if direction is not None and step @ direction < TURNED_BACK * size:
            return np.array(kept), True
        direction = step / size
        kept.append(i)
    return np.array(kept), False


def _mostly_backwards(velocity: ndarray, states: ndarray, valid: ndarray, where: ndarray) -> bool:
    """Whether the box moved against its heading for most of the way from t0 on."""
    yaw = states[where, 2]
    along = velocity[:, 0] * np.cos(yaw) + velocity[:, 1] * np.sin(yaw)
    counted = along[valid[where] & (where >= HISTORY_STEPS)]
    return bool(counted.sum() < -0.5 * np.abs(counted).sum() and counted.sum() * STEP_S < -STEP_M)


def _progress(
    path: Float[ndarray, "N 2"],
    arc: Float[ndarray, "N"],
    kept: Int[ndarray, "N"],
    after: Float[ndarray, "S 2"],
    times: Int[ndarray, "S"],
) -> Float[ndarray, "S"]:
    """How far along the path each position is; it never goes back."""
    piece = np.clip(np.searchsorted(kept, times, side="right") - 1, 0, len(path) - 2)
    step = np.diff(path, axis=0)
    size = np.hypot(*step.T)
    along = ((after - path[piece]) * step[piece]).sum(axis=1) / size[piece]
    return np.maximum.accumulate(arc[piece] + np.clip(along, 0.0, size[piece]))
