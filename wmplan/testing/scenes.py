"""A scene that a human can draw: three straight lanes, other road users at constant velocity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from wmplan.frames import Pose, wrap_angle
from wmplan.plans import Plans, Start
from wmplan.scene import (
    FUTURE_STEPS,
    HISTORY_STEPS,
    STEP_S,
    Feature,
    Future,
    Kind,
    Lights,
    RoadMap,
    Scene,
    Tracks,
)

LANES_Y = (-3.5, 0.0, 3.5)
"""Lateral places of the lanes, metres; the ego drives on the middle one."""


@dataclass(frozen=True)
class Body:
    """A road user at t0 that keeps its velocity: place (m), heading (rad), speed (m/s) along the heading, size (m)."""

    x: float
    y: float
    yaw: float = 0.0
    speed: float = 0.0
    kind: Kind = Kind.VEHICLE
    length: float = 4.8
    width: float = 2.0


def straight_road(
    bodies: list[Body] | None = None, speed: float = 10.0, name: str = "straight"
) -> tuple[Scene, Future]:
    """A scene on a straight road along x, ego at the origin with `speed`, and the future in which nobody changes speed.

    Without `bodies`: a leader 25 m ahead at 8 m/s, a car to the left, a pedestrian who crosses, a parked obstacle.
    """
    if bodies is None:
        bodies = [
            Body(25.0, 0.0, speed=8.0),
            Body(5.0, 3.5, speed=11.0),
            Body(-10.0, -3.5, speed=12.0),
            Body(15.0, -8.0, np.pi / 2, 1.4, Kind.PEDESTRIAN, 0.7, 0.7),
            Body(30.0, -7.0, kind=Kind.OTHER, length=2.0, width=2.0),
        ]
    past = STEP_S * np.arange(-HISTORY_STEPS, 1)
    ahead = STEP_S * np.arange(1, FUTURE_STEPS + 1)
    own = [Body(0.0, 0.0, speed=speed)]
    along = np.arange(-60.0, 121.0, 2.0)
    lanes = [(Feature.LANE, f"lane{i}", np.stack([along, np.full_like(along, y)], 1)) for i, y in enumerate(LANES_Y)]
    scene = Scene(
        scene_id=name,
        log_id=name,
        group=name,
        dataset="testing",
        ego_id="ego",
        recorded_ego=True,
        labels_reliable=True,
        left_hand=False,
        native_dt_s=STEP_S,
        t0_s=0.0,
        anchor=Pose(0.0, 0.0, 0.0),
        ego=_tracks(own, past, "ego"),
        agents=_tracks(bodies, past, "agent"),
        road_map=RoadMap.build(lanes),
        lights=Lights.none(1),
        route=np.stack([np.arange(64) * 1.5, np.zeros(64)], 1).astype(np.float32),
        route_on_map=True,
    )
    return scene, Future(name, _tracks(own, ahead, "ego"), _tracks(bodies, ahead, "agent"), Lights.none(FUTURE_STEPS))


def some_plans(start: Start, steps: int = 30) -> Plans:
    """Seven candidates: constant accelerations from braking hard to speeding up, and two that curve."""
    pairs = [(-6.0, 0.0), (-3.0, 0.0), (-1.0, 0.0), (0.0, 0.0), (1.5, 0.0), (0.0, 0.01), (-1.0, -0.02)]
    controls = np.repeat(np.array(pairs)[:, None], steps, axis=1)
    return Plans.from_controls(controls, start.speed)


def _tracks(bodies: list[Body], times: Float[ndarray, "T"], prefix: str) -> Tracks:
    states = np.zeros((len(bodies), len(times), 5), dtype=np.float32)
    for i, body in enumerate(bodies):
        velocity = body.speed * np.array([np.cos(body.yaw), np.sin(body.yaw)])
        states[i, :, :2] = np.array([body.x, body.y]) + times[:, None] * velocity
        states[i, :, 2] = wrap_angle(np.asarray(body.yaw))
        states[i, :, 3:] = velocity
    valid: Bool[ndarray, "A T"] = np.ones(states.shape[:2], dtype=bool)
    return Tracks(
        ids=tuple(f"{prefix}{i}" for i in range(len(bodies))),
        kinds=np.array([body.kind for body in bodies], dtype=np.int8),
        sizes=np.array([[body.length, body.width] for body in bodies], dtype=np.float32).reshape(-1, 2),
        states=states,
        valid=valid,
    )
