"""What a road of the simulator is made of: routes, right of way, spawns, lights, beside the map as a recording would
hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8
from numpy import ndarray

from wmplan.scene import STEP_S, Kind, Light, RoadMap

Points = Float[ndarray, "_N 2"]
LANE_SPACING_M = 2.0


@dataclass(frozen=True)
class Route:
    """A path to follow. `speeds[i]` (m/s) limits the piece that begins at point i.

    Arc lengths in metres along the path: `stop` is the line where one halts for a light or for those with right of
    way, `clear` where the conflict area ends. `group` is the light group, -1 where no light rules. `left` and `right`
    are the routes of the lanes beside it in the same direction, -1 where there is none; lanes are changed only while
    between the arc lengths `change`. A `dead_end` has to be left by changing lanes; its traffic halts at `stop`.
    """

    points: Points
    speeds: Float[ndarray, "_N"]
    stop: float = 0.0
    clear: float = 0.0
    group: int = -1
    kind: Kind = Kind.VEHICLE
    left: int = -1
    right: int = -1
    change: tuple[float, float] = (0.0, 1e4)
    dead_end: bool = False


@dataclass(frozen=True)
class Zone:
    """A conflict area: who is on a route of `waits` halts at its stop line until those on a route of `first`, who are
    about to pass through the area, have passed. Where each of them enters and leaves it follows from the geometry."""

    first: tuple[int, ...]
    waits: tuple[int, ...]


@dataclass(frozen=True)
class Spawn:
    """A stretch of lane on which road users start: all `routes` share it, at the same arc lengths `low` to `high`.

    Vehicles, cyclists or people, by the kind of the routes (all of one kind). `ego`: the ego may start here.
    """

    routes: tuple[int, ...]
    low: float
    high: float
    ego: bool


@dataclass(frozen=True)
class Signal:
    """The state (`Light`) of each light group every `STEP_S`; from the last column on it begins again if `periodic`,
    else it stays."""

    states: Int8[ndarray, "G L"]
    periodic: bool = True

    @staticmethod
    def none() -> Signal:
        """No lights."""
        return Signal(np.zeros((0, 1), np.int8))

    @staticmethod
    def fixed_time(
        cycle: float, starts: tuple[float, ...], greens: tuple[float, ...], yellows: tuple[float, ...]
    ) -> Signal:
        """Group g is green from `starts[g]` for `greens[g]` seconds of each `cycle`, then yellow, then red."""
        steps = round(cycle / STEP_S)
        since = np.mod(np.arange(steps)[None] * STEP_S - np.array(starts)[:, None] + 1e-6, cycle)
        green, yellow = np.array(greens)[:, None], np.array(yellows)[:, None]
        states = np.where(since < green, Light.GREEN, np.where(since < green + yellow, Light.YELLOW, Light.RED))
        return Signal(states.astype(np.int8))


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
    zones: tuple[Zone, ...] = ()


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
