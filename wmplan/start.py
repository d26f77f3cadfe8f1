"""What an optimizer needs to know of a scene, from its history and its map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray

from wmplan.bicycle import MAX_ACCEL_MPS2, MAX_CURVATURE_PM
from wmplan.frames import wrap_angle
from wmplan.plans import ROUTE_POINTS, Start
from wmplan.scene import HISTORY_STEPS, STEP_S, Kind, Scene

ROUTE_SPACING_M = 1.5
"""Distance between points of `Start.route`: 94.5 m in all."""
WINDOW_STEPS = 5
"""Acceleration and curvature are read from the last half second."""
MIN_CURVATURE_SPEED_MPS = 1.0
"""Below this speed the heading says nothing of curvature."""
LOWEST_TARGET_MPS = 8.0
"""A car that waits wants to go on: no target below this (29 km/h), a quiet street's pace."""
HIGHEST_TARGET_MPS = 33.0
"""No target above this (119 km/h)."""
NEIGHBOUR_RADIUS_M = 60.0
"""Whose speed counts for the target."""


def start_of(scene: Scene) -> Start:
    """The scene's problem statement for planners: present motion, size, route, desired speed.

    Acceleration and curvature are medians of the slopes between all pairs of the last half second's states (Theil and
    Sen), so one bad state does not move them; both are clipped to the bicycle's bounds. The desired speed is the larger
    of the ego's own speed and the median speed of the moving vehicles that go its way within 60 m, at least 8 and at
    most 33 m/s: a log names no speed limit that all formats share, and the traffic shows what is usual. A car that
    waits at a light wants the floor, not zero.
    """
    states = scene.ego.states[0].astype(np.float64)
    valid = scene.ego.valid[0]
    speed = max(float(states[-1, 3]), 0.0)
    window = np.arange(HISTORY_STEPS - WINDOW_STEPS, HISTORY_STEPS + 1)
    window = window[valid[window]]
    times = window * STEP_S
    forward = states[window, 3] * np.cos(states[window, 2]) + states[window, 4] * np.sin(states[window, 2])
    accel = median_slope(times, forward)
    turned = wrap_angle(states[window, 2])  # the present heading is 0, so half a second never wraps
    mean_speed = float(np.median(np.abs(forward))) if len(window) else 0.0
    curvature = median_slope(times, turned) / mean_speed if mean_speed >= MIN_CURVATURE_SPEED_MPS else 0.0
    return Start(
        speed=speed,
        accel=float(np.clip(accel, -MAX_ACCEL_MPS2, MAX_ACCEL_MPS2)),
        curvature=float(np.clip(curvature, -MAX_CURVATURE_PM, MAX_CURVATURE_PM)),
        length=float(scene.ego.sizes[0, 0]),
        width=float(scene.ego.sizes[0, 1]),
        target_speed=_target_speed(scene, speed),
        route=equally_spaced(scene.route, ROUTE_POINTS, ROUTE_SPACING_M),
    )


def median_slope(times: Float[ndarray, "N"], values: Float[ndarray, "N"]) -> float:
    """The median slope over all pairs of points; 0 with fewer than two.

    References:
        Sen (1968), "Estimates of the regression coefficient based on Kendall's tau".
    """
    if len(times) < 2:
        return 0.0
    a, b = np.triu_indices(len(times), k=1)
    return float(np.median((values[b] - values[a]) / (times[b] - times[a])))


def equally_spaced(line: Float[ndarray, "N 2"], count: int, spacing_m: float) -> Float32[ndarray, "R 2"]:
    """`count` points along a polyline, `spacing_m` of its length apart, straight on beyond its end."""
    line = line.astype(np.float64)
    steps = np.hypot(*np.diff(line, axis=0).T)
    line = line[np.concatenate([[True], steps > 0])]
    if len(line) < 2:
        line = np.array([line[0], line[0] + np.array([1.0, 0.0])])
    steps = np.hypot(*np.diff(line, axis=0).T)
    reached = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.arange(count) * spacing_m
    points = np.stack([np.interp(wanted, reached, line[:, axis]) for axis in (0, 1)], axis=1)
    beyond = np.maximum(wanted - reached[-1], 0.0)
    points += beyond[:, None] * (line[-1] - line[-2]) / steps[-1]
    return points.astype(np.float32)


def _target_speed(scene: Scene, speed: float) -> float:
    agents = scene.agents
    now = agents.states[:, -1].astype(np.float64)
    speeds = np.hypot(now[:, 3], now[:, 4])
    counted = agents.valid[:, -1] & (agents.kinds == Kind.VEHICLE) & (speeds > 1.0)
    counted &= (np.abs(wrap_angle(now[:, 2])) < np.pi / 4) & (np.hypot(now[:, 0], now[:, 1]) <= NEIGHBOUR_RADIUS_M)
    usual = float(np.median(speeds[counted])) if counted.any() else 0.0
    return float(np.clip(max(speed, usual), LOWEST_TARGET_MPS, HIGHEST_TARGET_MPS))
