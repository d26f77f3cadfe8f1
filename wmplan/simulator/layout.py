"""What a road of the simulator is made of: routes, spawns, lights, beside the map as a recording would hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.scene import RoadMap

Points = Float[ndarray, "_N 2"]
LANE_SPACING_M = 2.0


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


def turner(angle: float) -> Callable[[Points], Points]:
    """The rotation about the origin by `angle`."""
    c, s = np.cos(angle), np.sin(angle)
    return lambda points: points @ np.array([[c, s], [-s, c]])
