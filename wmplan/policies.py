"""Baseline policies, planned on the scene as it is given: constant velocity, and IDM along the route."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from wmplan import bicycle
from wmplan.contracts import Policy
from wmplan.plans import Plans, Start
from wmplan.scene import STEP_S, Feature, Light, Scene

PLAN_STEPS = 30
"""Steps of a baseline's plan: 3 s."""


class ConstantVelocity:
    """Keeps speed and heading, whatever is ahead."""

    name = "constant_velocity"

    def plan(self, scene: Scene, start: Start, key: int) -> Plans:
        """One plan without acceleration or turning; `scene` and `key` are not used."""
        return Plans.from_controls(np.zeros((1, PLAN_STEPS, 2)), start.speed)


@dataclass(frozen=True)
class IdmSettings:
    """Parameters of the IDM baseline."""

    time_gap_s: float = 1.5
    """time gap to the leader"""
    standstill_m: float = 2.0
    """gap kept when standing, to the leader and to a stop line"""
    accel_mps2: float = 1.5
    """acceleration on an empty road"""
    decel_mps2: float = 2.5
    """comfortable deceleration"""
    lateral_mps2: float = 2.5
    """lateral acceleration allowed in a bend of the route"""


class Idm:
    """Follows the route as an Intelligent Driver: behind the leader, who is taken to keep its speed, and to red lights.

    The leader is chosen once, among the agents at t0 on the strip the ego will sweep; nobody else's plans are guessed,
    and nothing crosses its way later. Steers by pure pursuit.

    References:
        Treiber, Hennecke, Helbing (2000), Congested traffic states in empirical observations
        and microscopic simulations.
    """

    name = "idm"

    def __init__(self, settings: IdmSettings = IdmSettings()) -> None:
        self.settings = settings

    def plan(self, scene: Scene, start: Start, key: int) -> Plans:
        """One plan; `key` is not used."""
        way = _Way.of(start.route)
        leader = _leader(scene, start, way)
        stop = _stop_line(scene, start, way)
        limits = np.sqrt(self.settings.lateral_mps2 / np.maximum(np.abs(way.curvature), 1e-3))
        state = np.array([0.0, 0.0, 0.0, start.speed])
        controls = np.zeros((1, PLAN_STEPS, 2))
        for t in range(PLAN_STEPS):
            s, _ = way.project(state[None, :2])
            front = float(s[0]) + 0.5 * start.length
            accel = self._follow(state[3], 0.0, np.inf, _desired(start, way, limits, float(s[0]), self.settings))
            if leader is not None:
                gap = leader[0] + leader[1] * t * STEP_S - front
                accel = min(accel, self._follow(state[3], leader[1], gap, start.target_speed))
            if stop is not None and stop > front:
                accel = min(accel, self._follow(state[3], 0.0, stop - front, start.target_speed))
            controls[0, t] = (
                np.clip(accel, -bicycle.MAX_ACCEL_MPS2, bicycle.MAX_ACCEL_MPS2),
                _pursue(state, float(s[0]), way),
            )
            state = bicycle.forward(state[None], controls[:, t : t + 1], STEP_S)[0, 1]
        return Plans.from_controls(controls, start.speed)

    def _follow(self, speed: float, leader_speed: float, gap: float, desired: float) -> float:
        """IDM's acceleration, m/s2."""
        p = self.settings
        dynamic = speed * p.time_gap_s + speed * (speed - leader_speed) / (2.0 * np.sqrt(p.accel_mps2 * p.decel_mps2))
        wanted = p.standstill_m + max(dynamic, 0.0)
        return float(p.accel_mps2 * (1.0 - (speed / max(desired, 0.1)) ** 4 - (wanted / max(gap, 0.1)) ** 2))


POLICIES: dict[str, Policy] = {policy.name: policy for policy in (ConstantVelocity(), Idm())}
"""Every baseline by name. Log replay is not among them: it needs the sealed future."""


@dataclass(frozen=True)
class _Way:
    """The route as a polyline with arc length and curvature (1/m) at its points."""

    points: Float[ndarray, "R 2"]
    arc: Float[ndarray, "R"]
    curvature: Float[ndarray, "R"]

    @staticmethod
    def of(route: Float[ndarray, "R 2"]) -> _Way:
        points = np.asarray(route, dtype=np.float64)
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        arc = np.concatenate([[0.0], np.cumsum(steps)])
        heading = np.unwrap(np.arctan2(*np.diff(points, axis=0).T[::-1]))
        # Between the middles of segments three apart, so that one crooked point of a map is no bend.
        turned = np.pad(heading, (2, 2), mode="edge")
        middle = np.pad(0.5 * (arc[1:] + arc[:-1]), (2, 2), mode="edge")
        return _Way(points, arc, (turned[3:] - turned[:-3]) / np.maximum(middle[3:] - middle[:-3], 1.0))

    def at(self, s: float) -> Float[ndarray, "2"]:
        """The point at arc length `s`, straight on beyond the end."""
        end = (self.points[-1] - self.points[-2]) / max(self.arc[-1] - self.arc[-2], 1e-6)
        on = np.array([np.interp(s, self.arc, self.points[:, i]) for i in (0, 1)])
        return on + max(s - self.arc[-1], 0.0) * end

    def project(self, points: Float[ndarray, "N 2"]) -> tuple[Float[ndarray, "N"], Float[ndarray, "N"]]:
        """Arc length and signed distance (left positive) of the nearest place; negative before the beginning."""
        a, along = self.points[:-1], np.diff(self.points, axis=0)
        squared = np.maximum(np.sum(along**2, axis=1), 1e-9)
        offset = points[:, None] - a[None]
        share = np.sum(offset * along[None], axis=-1) / squared
        low, high = np.zeros(len(a)), np.ones(len(a))
        low[0], high[-1] = -np.inf, np.inf
        share = np.clip(share, low, high)
        distance = np.linalg.norm(offset - share[..., None] * along[None], axis=-1)
        best, rows = np.argmin(distance, axis=1), np.arange(len(points))
        side = np.sign(along[best, 0] * offset[rows, best, 1] - along[best, 1] * offset[rows, best, 0])
        s = self.arc[best] + share[rows, best] * np.sqrt(squared[best])
        return s, side * distance[rows, best]


def _leader(scene: Scene, start: Start, way: _Way) -> tuple[float, float] | None:
    """Where the rear of the nearest box on the way is (arc length, m) and its speed along the way (m/s)."""
    now = scene.agents.states[:, -1].astype(np.float64)
    sizes = scene.agents.sizes.astype(np.float64)
    forward = np.stack([np.cos(now[:, 2]), np.sin(now[:, 2])], axis=-1)
    best: tuple[float, float] | None = None
    own, _ = way.project(np.zeros((1, 2)))
    s, _ = way.project(now[:, :2]) if len(now) else (np.zeros(0), None)
    for row in np.flatnonzero(scene.agents.valid[:, -1] & (s > own[0])):
        ahead = way.at(s[row] + 1.0) - way.at(s[row])
        ahead /= max(np.linalg.norm(ahead), 1e-6)
        along = float(forward[row] @ ahead)
        across = np.sqrt(max(1.0 - along**2, 0.0))
        axis = now[row, :2] + np.array([-0.5, -0.25, 0.0, 0.25, 0.5])[:, None] * sizes[row, 0] * forward[row]
        places, away = way.project(axis)
        reach = 0.5 * (start.width + abs(along) * sizes[row, 1]) + 0.2
        on_way = np.abs(away) < reach
        if on_way.any():
            rear = float(places[on_way].min()) - 0.5 * across * sizes[row, 1]
            if best is None or rear < best[0]:
                best = rear, max(float(now[row, 3:5] @ ahead), 0.0)
    return best


def _stop_line(scene: Scene, start: Start, way: _Way) -> float | None:
    """Arc length of the nearest red light's stop point on the way, ahead of the ego's front; None without one."""
    points = scene.lights.points.astype(np.float64)
    if not len(points):
        return None
    s, away = way.project(points)
    own, _ = way.project(np.zeros((1, 2)))
    red = (scene.lights.states[:, -1] == Light.RED) & (np.abs(away) < 2.0) & (s < way.arc[-1])
    red &= (s > own[0] + 0.5 * start.length) & _rules(scene, way)
    return float(s[red].min()) if red.any() else None


def _rules(scene: Scene, way: _Way) -> Bool[ndarray, "L"]:
    """Whether each light's lane goes the route's way (an unknown lane does): a red arrow to the left stops only it."""
    ids = {name: i for i, name in enumerate(scene.road_map.ids) if scene.road_map.kinds[i] == Feature.LANE}
    same = np.ones(len(scene.lights.lanes), dtype=bool)
    for row, lane in enumerate(scene.lights.lanes):
        if lane in ids:
            s, away = way.project(scene.road_map.feature(ids[lane]).astype(np.float64))
            within = (s >= 0.0) & (s <= way.arc[-1])
            same[row] = bool(within.any()) and float(np.abs(away[within]).max()) < 2.0
    return same


def _desired(start: Start, way: _Way, limits: Float[ndarray, "R"], s: float, settings: IdmSettings) -> float:
    """The speed the ego would like here, slow enough for the bends ahead, m/s."""
    ahead = way.arc >= s - 1.5
    reach = np.sqrt(limits[ahead] ** 2 + settings.decel_mps2 * np.maximum(way.arc[ahead] - s, 0.0))
    return float(min(start.target_speed, reach.min(initial=np.inf)))


def _pursue(state: Float[ndarray, "4"], s: float, way: _Way) -> float:
    """The curvature (1/m) of the arc to a point of the route ahead.

    References:
        Coulter (1992), Implementation of the Pure Pursuit Path Tracking Algorithm.
    """
    x, y, yaw, speed = state
    dx, dy = way.at(s + float(np.clip(0.9 * speed, 4.0, 25.0))) - np.array([x, y])
    left = -np.sin(yaw) * dx + np.cos(yaw) * dy
    bound = min(bicycle.MAX_CURVATURE_PM, 4.0 / max(speed, 1.0) ** 2)
    return float(np.clip(2.0 * left / max(dx**2 + dy**2, 1.0), -bound, bound))
