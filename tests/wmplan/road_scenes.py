"""Hand-made scenes that become roads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from wmplan.scene import (
    FUTURE_STEPS,
    HISTORY_STEPS,
    STEP_S,
    Future,
    Kind,
    Scene,
    Tracks,
)
from wmplan.simulator.layout import Route
from wmplan.simulator.scene_road import scene_road
from wmplan.testing.scenes import straight_road

TIMES = STEP_S * np.arange(-HISTORY_STEPS, FUTURE_STEPS + 1)
Motion = Callable[[np.ndarray], np.ndarray]


def scene_with(
    *motions: Motion,
    kind: Kind = Kind.VEHICLE,
    size: tuple[float, float] = (4.8, 2.0),
    yaw: float | None = None,
    jitter: float = 0.0,
    ego_speed: float = 10.0,
) -> tuple[Scene, Future]:
    """A straight road along x with the ego at the origin and one agent for each motion (x, y of its centre by time).

    It looks where it goes, or along `yaw`.
    """
    scene, future = straight_road([], speed=ego_speed)
    draw = np.random.default_rng(7)
    states = np.zeros((len(motions), len(TIMES), 5), np.float32)
    for row, motion in enumerate(motions):
        places = motion(TIMES)
        velocity = np.gradient(places, STEP_S, axis=0)
        states[row, :, :2] = places + jitter * draw.standard_normal(places.shape)
        states[row, :, 2] = np.arctan2(velocity[:, 1], velocity[:, 0]) if yaw is None else yaw
        states[row, :, 3:] = velocity
    tracks = Tracks(
        tuple(f"agent{i}" for i in range(len(motions))),
        np.full(len(motions), kind, np.int8),
        np.tile(np.array(size, np.float32), (len(motions), 1)),
        states,
        np.ones(states.shape[:2], dtype=bool),
    )
    past, after = tracks.steps(0, HISTORY_STEPS + 1), tracks.steps(HISTORY_STEPS + 1, len(TIMES))
    return replace(scene, agents=past), replace(future, agents=after)


def along(x: float, y: float, speed: float, yaw: float = 0.0) -> Motion:
    """Constant velocity."""
    direction = np.array([np.cos(yaw), np.sin(yaw)])
    return lambda t: np.array([x, y]) + speed * t[:, None] * direction


def at_arc(x: float, y: float, arc: Callable[[np.ndarray], np.ndarray]) -> Motion:
    """Along x, `arc(t)` metres from (x, y)."""
    return lambda t: np.stack([x + arc(t), np.full_like(t, y)], axis=-1)


def length(route: Route) -> float:
    return float(np.hypot(*np.diff(route.points, axis=0).T).sum())


def speed_at(route: Route, place: float) -> float:
    """The speed wanted at an arc length."""
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(route.points, axis=0).T))])
    return float(route.speeds[np.searchsorted(arc, place, side="right") - 1])


def only_route(pair: tuple[Scene, Future]) -> Route:
    return scene_road(*pair).road.routes[1]
