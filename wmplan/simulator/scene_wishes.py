"""How fast somebody wanted to drive at each place of the way that a log shows.

A driver who is alone shows what it wants; one who follows, waits at a light or for somebody who crosses shows only that
it wants at least that much: such an observation is censored. nuPlan's IDM agents want the lane's speed limit, or 10 m/s
where there is none; the formats here name no limit, so the limit is read off the drivers.

References:
    Hoogendoorn (2005), Unified approach to estimating free speed distributions, Transportation Research B 39: what
    those who follow drive is a censored observation of their free speed. Vogel (2002), What characterizes a "free
    vehicle" in an urban area?, Transportation Research F 5: drivers behave freely from a headway of 6 s on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float
from numpy import ndarray

from wmplan.scene import STEP_S, Kind
from wmplan.simulator.paths import TURN_ACCEL_MPS2
from wmplan.simulator.scene_paths import Driven
from wmplan.start import LOWEST_TARGET_MPS

FREE_HEADWAY_S, FREE_GAP_M = 6.0, 10.0
"""Who has nothing on its way for so long, and so far, drives as it likes."""
FORESIGHT_S = 3.0
"""One gives way to whoever will be on one's path within this time."""
LOOKS_S = 0.2
USUAL_MPS = {Kind.VEHICLE: LOWEST_TARGET_MPS, Kind.CYCLIST: 4.5, Kind.PEDESTRIAN: 1.4, Kind.OTHER: 1.0}
"""Wanted at least by those who were never seen free, as nobody knows better: a quiet street's pace; the middle of what
is measured for those who cycle (Parkin and Rotheram 2010) and walk (Fitzpatrick et al. 2006)."""
CREEP_MPS = {Kind.VEHICLE: 2.0, Kind.CYCLIST: 1.5, Kind.PEDESTRIAN: 0.7, Kind.OTHER: 0.5}
"""No wish is below this: who wanted nothing at a place would stay there for ever."""
RISE_MPS = 0.05
"""A driver whose speed rises by more than this from step to step, or stays, is on the way to a wish."""
FASTEST_MPS = 50.0
SLOW_TURN_M = 4.0
"""Curvature is read off chords this long."""


@dataclass(frozen=True)
class Boxes:
    """Everybody in the truth at t0 and after it: centre (m), heading (rad), length and width (m), and whether seen."""

    x: Float[ndarray, "J S"]
    y: Float[ndarray, "J S"]
    yaw: Float[ndarray, "J S"]
    length: Float[ndarray, "J"]
    width: Float[ndarray, "J"]
    seen: Bool[ndarray, "J S"]


def held_up(
    own: int, way: Driven, line: Float[ndarray, "N 2"], boxes: Boxes, stop: float, closed: Bool[ndarray, "S"]
) -> Bool[ndarray, "S"]:
    """At which steps the driver of row `own` of `boxes` had something on its way `line`: a box ahead within
    `FREE_GAP_M` or `FREE_HEADWAY_S`, somebody who was about to cross, or a closed light whose line (arc length `stop`,
    inf for none) was still ahead."""
    half = 0.5 * boxes.length[own]
    held = closed & (way.s + half < stop + 1.0)
    steps = np.arange(0, len(way.s), round(LOOKS_S / STEP_S))
    rear, arc = _on_the_way(own, line, boxes, steps)
    mine, near = way.s[steps], np.maximum(FREE_GAP_M, FREE_HEADWAY_S * way.speed[steps])
    found = np.zeros(len(steps), dtype=bool)
    for lag in range(0, round(FORESIGHT_S / LOOKS_S) + 1, 3):
        now, then = slice(0, len(steps) - lag), slice(lag, len(steps))
        ahead = (arc[:, then] > mine[None, then]) & (rear[:, then] - mine[None, now] - half < near[None, now])
        found[now] |= ahead.any(axis=0)
    return held | np.repeat(found, round(LOOKS_S / STEP_S))[: len(held)]


def wishes(way: Driven, held: Bool[ndarray, "S"], usual: float, kind: Kind) -> Float[ndarray, "N"]:
    """The speed wanted at each point of a way, m/s.

    Free: the speed driven there, or, while that rises, the one it rises to. Held up: at least that, and at least the
    highest that this driver is seen to drive; `usual` if it was held up all the time. Nobody wants to turn faster than
    a bend allows, unless seen to. Places without observation get the wish of those beside them.
    """
    shown = way.seen & (way.speed >= 0.0)
    speed = np.where(shown, way.speed, 0.0)
    rising = speed.copy()
    for t in range(len(speed) - 2, -1, -1):
        if speed[t + 1] >= speed[t] - RISE_MPS and shown[t + 1]:
            rising[t] = max(speed[t], rising[t + 1])
    free = shown & ~held
    top = max(way.fastest, float(rising[free].max())) if free.any() else max(way.fastest, usual)
    wanted = np.where(free, rising, np.maximum(rising, top))
    at = np.clip(np.searchsorted(way.arc, way.s + 1e-6, side="right") - 1, 0, len(way.arc) - 1)
    best = np.full(len(way.arc), -np.inf)
    np.maximum.at(best, at[shown], wanted[shown])
    seen_speed = np.zeros(len(way.arc))
    np.maximum.at(seen_speed, at[shown], speed[shown])
    found = np.flatnonzero(np.isfinite(best))
    if not len(found):
        return np.full(len(way.arc), max(top, CREEP_MPS[kind]))
    filled = np.interp(np.arange(len(best)), found, best[found])
    bends = np.maximum(turning(way.points), seen_speed)
    return np.clip(np.minimum(filled, bends), CREEP_MPS[kind], FASTEST_MPS)


def turning(points: Float[ndarray, "N 2"]) -> Float[ndarray, "N"]:
    """How fast each point of a path can be driven, m/s: at `TURN_ACCEL_MPS2` of lateral acceleration."""
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])

    def at(places: ndarray) -> ndarray:
        return np.stack([np.interp(places, arc, points[:, i]) for i in (0, 1)], axis=-1)

    low, high = np.maximum(arc - SLOW_TURN_M, 0.0), np.minimum(arc + SLOW_TURN_M, arc[-1])
    before, after = at(arc) - at(low), at(high) - at(arc)
    inside = (arc - low > 0.5) & (high - arc > 0.5)
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    angle = np.abs(np.arctan2(cross, (before * after).sum(axis=1)))
    bend = np.where(inside, angle / np.maximum(0.5 * (high - low), 0.1), 0.0)
    return np.sqrt(TURN_ACCEL_MPS2 / np.maximum(bend, 1e-4))


def usual_speed(ways: Sequence[Driven], kinds: Sequence[Kind], kind: Kind) -> float:
    """What those of one kind who move in a scene drive at their fastest: the median, at least `USUAL_MPS`."""
    tops = [way.fastest for way, own in zip(ways, kinds) if own == kind and way.fastest > 1.0]
    return max(float(np.median(tops)) if tops else 0.0, USUAL_MPS[kind])


def _on_the_way(
    own: int, line: Float[ndarray, "N 2"], boxes: Boxes, steps: ndarray
) -> tuple[Float[ndarray, "J K"], Float[ndarray, "J K"]]:
    """Arc lengths of the rear and the middle of every box along a path where the box is in its way; the rest is far."""
    rear = np.full((len(boxes.x), len(steps)), np.inf)
    arc = np.full_like(rear, -np.inf)
    x, y = boxes.x[:, steps], boxes.y[:, steps]
    low, high = line.min(axis=0) - 6.0, line.max(axis=0) + 6.0
    near = boxes.seen[:, steps] & (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])
    near[own] = False
    who, when = np.nonzero(near)
    if not len(who):
        return rear, arc
    path, points = shapely.LineString(line), shapely.points(x[near], y[near])
    apart = shapely.distance(path, points)
    at = shapely.line_locate_point(path, points)
    reach = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    piece = np.clip(np.searchsorted(reach, at, side="right") - 1, 0, len(line) - 2)
    step = line[piece + 1] - line[piece]
    turned = boxes.yaw[:, steps][near] - np.arctan2(step[:, 1], step[:, 0])
    cos, sin = np.abs(np.cos(turned)), np.abs(np.sin(turned))
    length, width = boxes.length[who], boxes.width[who]
    hit = apart < 0.5 * (boxes.width[own] + sin * length + cos * width)
    rear[who[hit], when[hit]] = (at - 0.5 * (cos * length + sin * width))[hit]
    arc[who[hit], when[hit]] = at[hit]
    return rear, arc
