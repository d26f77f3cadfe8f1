"""Ego futures: controls and the states they lead to, and the small problem statement that planners start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray

from wmplan import bicycle
from wmplan.scene import STEP_S

ACCEL_GRID_MPS2 = 0.01
"""Controls are rounded to this grid before anything is rolled, so equal content means equal bytes."""
CURVATURE_GRID_PM = 1e-4
ROUTE_POINTS = 64
"""Points of `Start.route`, spaced equally; a fixed number, so that compiled planners never recompile for a scene."""


@dataclass(frozen=True)
class Start:
    """What an optimizer knows of a scene: the ego's present motion, its size, the route, the speed it would like.

    Scene frame, so the ego is at the origin with heading 0. `route` has `ROUTE_POINTS` points, equally spaced, metres.
    """

    speed: float
    accel: float
    curvature: float
    length: float
    width: float
    target_speed: float
    route: Float32[ndarray, "R 2"]


@dataclass(frozen=True)
class Plans:
    """K ego futures in the scene frame.

    `controls[k, t]` (acceleration m/s2, curvature 1/m) leads from `states[k, t]` to `states[k, t + 1]`; a state is
    x, y (m), yaw (rad), v (m/s), the ego box's centre. The step is `STEP_S`.
    """

    controls: Float32[ndarray, "K T 2"]
    states: Float32[ndarray, "K T+1 4"]

    def __post_init__(self) -> None:
        k, t = self.controls.shape[:2]
        if self.states.shape != (k, t + 1, 4):
            raise ValueError(f"Plans.states has shape {self.states.shape}, expected {(k, t + 1, 4)} from the controls")

    def __len__(self) -> int:
        return len(self.controls)

    @property
    def horizon_s(self) -> float:
        """Length in seconds."""
        return self.controls.shape[1] * STEP_S

    def select(self, rows: ndarray | list[int] | slice) -> Plans:
        """These candidates, in this order."""
        return Plans(self.controls[rows], self.states[rows])

    @staticmethod
    def from_controls(controls: Float[ndarray, "K T 2"], speed: float) -> Plans:
        """Plans that start at the scene's origin with `speed`: controls clipped to the bicycle's bounds, rounded to the
        grid, then rolled. Non-finite controls stay non-finite (and give non-finite states): the caller counts them."""
        bound = np.array([bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM])
        grid = np.array([ACCEL_GRID_MPS2, CURVATURE_GRID_PM])
        exact = np.round(np.clip(np.asarray(controls, dtype=np.float64), -bound, bound) / grid) * grid + 0.0
        start = np.broadcast_to(np.array([0.0, 0.0, 0.0, speed]), (*exact.shape[:-2], 4))
        states = bicycle.forward(start, exact, STEP_S)
        return Plans(exact.astype(np.float32), states.astype(np.float32))

    @staticmethod
    def concatenate(parts: list[Plans]) -> Plans:
        """All candidates of the parts, in order."""
        return Plans(np.concatenate([p.controls for p in parts]), np.concatenate([p.states for p in parts]))
