"""Starts and a cost that the tests of optimizers share."""

from __future__ import annotations

import numpy as np

from wmplan.plans import ROUTE_POINTS, Plans, Start


def straight_start(speed: float = 8.0, target_speed: float = 10.0, spacing_m: float = 1.5) -> Start:
    """A start on a straight route ahead."""
    route = np.stack([np.arange(ROUTE_POINTS) * spacing_m, np.zeros(ROUTE_POINTS)], axis=1).astype(np.float32)
    return Start(speed, 0.0, 0.0, 4.8, 2.0, target_speed, route)


def arc_start(radius_m: float, speed: float = 8.0, offset_m: float = 0.0, spacing_m: float = 1.0) -> Start:
    """A start on a route that turns left (right where the radius is negative); the ego is `-offset_m` left of it."""
    angle = np.arange(ROUTE_POINTS) * spacing_m / radius_m
    route = np.stack([radius_m * np.sin(angle), radius_m * (1 - np.cos(angle)) + offset_m], axis=1)
    return Start(speed, 0.0, 0.0, 4.8, 2.0, 10.0, route.astype(np.float32))


def simple_cost(plans: Plans) -> np.ndarray:
    """A smooth cost with its own optimum in each scene: 10 m/s along y = 1 m, gently."""
    states, controls = plans.states[:, 1:].astype(np.float64), plans.controls.astype(np.float64)
    cost = 0.05 * (states[..., 3] - 10.0) ** 2 + 0.15 * (states[..., 1] - 1.0) ** 2
    return (cost + 0.02 * controls[..., 0] ** 2 + 50.0 * controls[..., 1] ** 2).sum(axis=1)
