"""Lights of a recording as signals of the simulator: which routes each rules, where one halts, what it showed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int8
from numpy import ndarray

from wmplan.scene import FUTURE_STEPS, Feature, Future, Light, RoadMap, Scene
from wmplan.simulator.layout import Signal, StopPoint
from wmplan.simulator.scene_paths import Driven

OFF_M = 1.5
"""A path follows a lane if it is on average closer than this to the lane's piece beside the stop point."""
BESIDE_M = 20.0
"""How long that piece is, on either side of the point, where the lane reaches so far."""
ALONG = np.cos(np.deg2rad(45.0))
NOSE_M, NOSE_SPEED_MPS, NOSE_GAP_M = 4.0, 0.5, 0.3
"""Who halts at a closed light with its front up to this far beyond the point halts at its line: the line is put
`NOSE_GAP_M` ahead of that front."""
RUN_STEPS = 5
"""A light that has been red so long is red for whoever crosses its line."""


@dataclass(frozen=True)
class Seen:
    """L lights of a recording: where traffic stops, the lane, the state (`Light`) at t0 and after every `STEP_S`."""

    points: Float[ndarray, "L 2"]
    lanes: tuple[str, ...]
    states: Int8[ndarray, "L S"]


@dataclass(frozen=True)
class Rule:
    """The light (row of `Seen`) that rules a route, and the arc length at which one halts for it."""

    light: int
    stop: float


def seen_lights(scene: Scene, future: Future) -> Seen:
    """Every light whose lane the map knows and whose state the recording knows at some moment.

    A state holds until the next known one; until the first one known, a light rules nobody.
    """
    later = future.lights
    states = np.zeros((len(later.lanes), FUTURE_STEPS + 1), np.int8)
    states[:, 1:] = later.states
    for lane, point, now in zip(scene.lights.lanes, scene.lights.points, scene.lights.states[:, 0]):
        same = [name == lane for name in later.lanes] & (np.hypot(*(later.points - point).T) < 0.1)
        states[same, 0] = now
    known = np.where(states != Light.UNKNOWN, np.arange(states.shape[1])[None], 0)
    states = np.take_along_axis(states, np.maximum.accumulate(known, axis=1), axis=1)
    lanes = {scene.road_map.ids[i] for i in np.flatnonzero(scene.road_map.kinds == Feature.LANE)}
    rows = [i for i, lane in enumerate(later.lanes) if lane in lanes and (states[i] != Light.UNKNOWN).any()]
    return Seen(later.points[rows].astype(np.float64), tuple(later.lanes[i] for i in rows), states[rows])


def ruling(line: Float[ndarray, "N 2"], length: float, seen: Seen, pieces: list[Float[ndarray, "_M 2"]]) -> Rule | None:
    """The first light ahead of a box of this length at the beginning of a path, among those whose lane it follows over
    the stop point; `pieces` are those lanes beside their points. None where no light rules the path."""
    path = shapely.LineString(line)
    best: dict[int, tuple[float, float]] = {}
    for row, (point, piece) in enumerate(zip(seen.points, pieces)):
        at = shapely.Point(*point)
        if len(piece) < 2 or path.distance(at) > 2.0 * OFF_M:
            continue
        stop = float(path.line_locate_point(at))
        places = shapely.points(piece)
        reached = shapely.line_locate_point(path, places)
        # What lies behind the path's beginning, or beyond its end, says nothing.
        away = shapely.distance(path, places)[(reached > 0.0) & (reached < path.length)]
        if (
            len(away) < 2
            or not 0.0 < stop < path.length
            or away.mean() > OFF_M
            or _direction(path, stop) @ _chord(piece) < ALONG
        ):
            continue
        best[row] = (stop, float(away.mean()))
    # Lanes that part at one point: the one that the path follows best.
    ahead = {row: value for row, value in best.items() if value[0] > 0.5 * length - NOSE_M}
    if not ahead:
        return None
    first = min(stop for stop, _ in ahead.values())
    row = min((row for row, (stop, _) in ahead.items() if stop < first + 3.0), key=lambda row: ahead[row][1])
    return Rule(row, ahead[row][0])


def beside(road_map: RoadMap, seen: Seen) -> list[Float[ndarray, "_M 2"]]:
    """For each light the points, a metre or two apart, of its lane near its stop point, in the lane's direction."""
    lanes = {road_map.ids[i]: i for i in np.flatnonzero(road_map.kinds == Feature.LANE)}
    pieces = []
    for lane, point in zip(seen.lanes, seen.points):
        line = shapely.LineString(road_map.feature(int(lanes[lane])).astype(np.float64))
        at = line.line_locate_point(shapely.Point(*point))
        low, high = max(at - BESIDE_M, 0.0), min(at + BESIDE_M, line.length)
        places = np.arange(low, high + 1e-6, 1.5) if high - low >= 1.5 else np.zeros(0)
        pieces.append(shapely.get_coordinates(shapely.line_interpolate_point(line, places)))
    return pieces


def settled(rule: Rule, way: Driven, length: float, states: Int8[ndarray, "S"]) -> Rule | None:
    """The rule as the log shows that it binds this driver, None if it does not.

    The line is moved to where its front stands if it halts up to `NOSE_M` beyond the point at a closed light. Who
    passes it well into red (turns right on red, or is ruled by something else) is not held by this light.
    """
    front = way.s + 0.5 * length
    closed = (states == Light.RED) | (states == Light.YELLOW)
    halts = way.seen & closed & (way.speed < NOSE_SPEED_MPS) & (np.abs(front - rule.stop - 0.5 * NOSE_M) < 0.5 * NOSE_M)
    stop = max(rule.stop, float(front[halts].min()) + NOSE_GAP_M) if halts.any() else rule.stop
    if stop <= front[0]:
        return None
    crossed = np.flatnonzero((front > stop + 0.5) & way.seen)
    if len(crossed) and (states[max(int(crossed[0]) - RUN_STEPS, 0) : int(crossed[0]) + 1] == Light.RED).all():
        return None
    return Rule(rule.light, stop)


def signal_of(seen: Seen, rules: list[Rule | None]) -> tuple[Signal, tuple[StopPoint, ...], list[int]]:
    """The signals of the lights that rule somebody, a group each, their stop points, and each route's group (-1)."""
    used = sorted({rule.light for rule in rules if rule is not None})
    groups = {light: group for group, light in enumerate(used)}
    stops = tuple(StopPoint(seen.points[light][None], seen.lanes[light], groups[light]) for light in used)
    signal = Signal(seen.states[used], periodic=False) if used else Signal.none()
    return signal, stops, [-1 if rule is None else groups[rule.light] for rule in rules]


def closed(seen: Seen, rule: Rule | None) -> Bool[ndarray, "S"]:
    """When the light of a rule does not let anybody pass."""
    if rule is None:
        return np.zeros(seen.states.shape[1], dtype=bool)
    return (seen.states[rule.light] == Light.RED) | (seen.states[rule.light] == Light.YELLOW)


def _direction(path: shapely.LineString, place: float) -> Float[ndarray, "2"]:
    ends = path.line_interpolate_point([max(place - 2.0, 0.0), min(place + 2.0, path.length)])
    return _chord(shapely.get_coordinates(ends))


def _chord(points: Float[ndarray, "N 2"]) -> Float[ndarray, "2"]:
    step = points[-1] - points[0]
    return step / max(np.hypot(*step), 1e-9)
