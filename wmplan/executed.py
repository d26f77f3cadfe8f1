"""The plan that a log's ego executed: controls under which the bicycle follows the recorded path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from wmplan import bicycle
from wmplan.frames import wrap_angle
from wmplan.plans import Plans, Start
from wmplan.scene import STEP_S, Future, Scene

POSITION_M = 0.1
"""Deviations are weighed by what they are worth: positions, headings, jerk, curvature rate, controls."""
HEADING_RAD = 0.05
JERK_MPS3 = 3.0
CURVATURE_RATE_PMPS = 0.1
ACCEL_MPS2 = 20.0
CURVATURE_PM = 1.0
ROUNDS = 8


@dataclass(frozen=True)
class Executed:
    """A logged ego future as one plan. `deviation_m` is the largest distance between its states and the log's.

    `plan` is None where the log does not show the ego long enough; `reason` then says why.
    """

    plan: Plans | None
    deviation_m: float
    reason: str


def executed_plan(scene: Scene, future: Future, start: Start, horizon_steps: int) -> Plans | None:
    """What the ego did, as a plan of one row; None where the log does not show it (`executed` says why)."""
    return executed(scene, future, start, horizon_steps).plan


def executed(scene: Scene, future: Future, start: Start, horizon_steps: int) -> Executed:
    """What the ego did, fitted by least squares: the smoothest controls that follow the recorded positions.

    Logged speeds and headings are noisy, and the plain inverse bicycle turns that noise into accelerations; rolling its
    clipped controls then drifts. Here controls are fitted to the path (Gauss-Newton), starting from the plain inverse.
    """
    if future.scene_id != scene.scene_id:
        raise ValueError(f"executed: the future is of scene {future.scene_id}, expected {scene.scene_id}")
    valid = future.ego.valid[0]
    if horizon_steps > len(valid):
        return Executed(None, np.nan, f"horizon of {horizon_steps} steps, the future keeps {len(valid)}")
    if not valid[:horizon_steps].all():
        missing = int(np.flatnonzero(~valid[:horizon_steps])[0]) + 1
        return Executed(None, np.nan, f"the log does not show the ego at t0 + {missing * STEP_S:.1f} s")
    path = future.ego.states[0, :horizon_steps].astype(np.float64)
    if not np.isfinite(path).all():
        return Executed(None, np.nan, "the logged ego states are not finite")
    origin = np.array([0.0, 0.0, 0.0, start.speed])
    forward = path[:, 3] * np.cos(path[:, 2]) + path[:, 4] * np.sin(path[:, 2])
    recorded = np.concatenate([origin[None], np.stack([*path[:, :3].T, np.maximum(forward, 0.0)], axis=1)])
    controls = _fit(recorded, _clip(bicycle.inverse(recorded, STEP_S)))
    plan = Plans.from_controls(controls[None], start.speed)
    gap = plan.states[0, 1:, :2].astype(np.float64) - path[:, :2]
    return Executed(plan, float(np.hypot(gap[:, 0], gap[:, 1]).max()), "")


def _fit(recorded: Float64[ndarray, "S 4"], controls: Float64[ndarray, "U 2"]) -> Float64[ndarray, "U 2"]:
    """Controls that minimise the weighted residuals, by Gauss-Newton with halved steps where one does not help."""
    residual = _residuals(recorded, controls[None])[0]
    size = controls.size
    small = np.tile([1e-4, 1e-5], len(controls))
    for _ in range(ROUNDS):
        moved = controls[None] + (np.eye(size) * small).reshape(size, *controls.shape)
        jacobian = ((_residuals(recorded, moved) - residual) / small[:, None]).T
        step = np.linalg.lstsq(jacobian, -residual, rcond=None)[0].reshape(controls.shape)
        tried = _clip(controls[None] + step[None] * np.array([1.0, 0.5, 0.25, 0.1])[:, None, None])
        outcomes = _residuals(recorded, tried)
        best = int(np.argmin((outcomes**2).sum(axis=1)))
        gain = (residual**2).sum() - (outcomes[best] ** 2).sum()
        if gain <= 0.0:
            break
        controls, residual = tried[best], outcomes[best]
        if gain < 1e-6 * (residual**2).sum():
            break
    return controls


def _residuals(recorded: Float64[ndarray, "S 4"], controls: Float64[ndarray, "N U 2"]) -> Float64[ndarray, "N R"]:
    start = np.broadcast_to(recorded[0], (len(controls), 4))
    states = bicycle.forward(start, controls, STEP_S)[:, 1:]
    moves = np.minimum(recorded[1:, 3], 2.0) / 2.0  # at standstill a heading says nothing of the controls
    rates = np.diff(controls, axis=1) / STEP_S
    parts = [
        (states[:, :, :2] - recorded[1:, :2]) / POSITION_M,
        (wrap_angle(states[:, :, 2] - recorded[1:, 2]) * moves / HEADING_RAD)[..., None],
        rates / np.array([JERK_MPS3, CURVATURE_RATE_PMPS]),
        controls / np.array([ACCEL_MPS2, CURVATURE_PM]),
    ]
    return np.concatenate([part.reshape(len(controls), -1) for part in parts], axis=1)


def _clip(controls: ndarray) -> ndarray:
    bound = np.array([bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM])
    return np.clip(controls, -bound, bound)
