"""The kinematic bicycle: controls to states, and back."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.frames import wrap_angle

MAX_ACCEL_MPS2 = 6.0
"""Bound on the magnitude of acceleration, as in Waymax's bicycle."""
MAX_CURVATURE_PM = 0.3
"""Bound on the magnitude of curvature, 1/m, as in Waymax's bicycle."""
STANDSTILL_MPS = 0.6
"""Below this speed a heading change says nothing about curvature, so the inverse gives zero."""

Real = ndarray | np.floating


def forward(
    start: Float[ndarray, "*K 4"], controls: Float[ndarray, "*K T 2"], dt_s: float
) -> Float[ndarray, "*K T+1 4"]:
    """States x, y, yaw, v that the controls (acceleration m/s2, curvature 1/m) lead to; the first is `start`.

    A car that brakes stops: the speed never becomes negative, and within the step in which it reaches zero only the
    distance to standstill is covered. Position follows the chord of the arc, so constant controls give exact arcs.
    """
    states = np.empty((*controls.shape[:-2], controls.shape[-2] + 1, 4), dtype=np.float64)
    states[..., 0, :] = start
    for t in range(controls.shape[-2]):
        x, y, yaw, v = np.moveaxis(states[..., t, :], -1, 0)
        accel, curvature = controls[..., t, 0], controls[..., t, 1]
        v_next = np.maximum(v + accel * dt_s, 0.0)
        distance = _distance(v, v_next, accel, dt_s)
        turn = curvature * distance
        chord = distance * np.sinc(turn / (2.0 * np.pi))
        states[..., t + 1, 0] = x + chord * np.cos(yaw + turn / 2.0)
        states[..., t + 1, 1] = y + chord * np.sin(yaw + turn / 2.0)
        states[..., t + 1, 2] = wrap_angle(yaw + turn)
        states[..., t + 1, 3] = v_next
    return states


def inverse(states: Float[ndarray, "*K S 4"], dt_s: float) -> Float[ndarray, "*K S-1 2"]:
    """Controls (acceleration, curvature) between successive states x, y, yaw, v; unclipped, finite at standstill.

    References:
        Waymax (Gulino et al., 2023), the invertible bicycle; `reference/evaluation.md` 1.4.
    """
    v, v_next = states[..., :-1, 3], states[..., 1:, 3]
    accel = (v_next - v) / dt_s
    distance = _distance(v, v_next, accel, dt_s)
    turn = wrap_angle(states[..., 1:, 2] - states[..., :-1, 2])
    slow = (np.minimum(v, v_next) < STANDSTILL_MPS) | (distance <= 0.0)
    curvature = np.where(slow, 0.0, turn / np.where(slow, 1.0, distance))
    return np.stack([accel, curvature], axis=-1)


def _distance(v: Real, v_next: Real, accel: Real, dt_s: float) -> Real:
    """Distance covered in a step; when braking reaches standstill inside the step, the distance to standstill."""
    stops = (v + accel * dt_s < 0.0) & (accel < 0.0)
    braking = np.where(stops, accel, -1.0)
    return np.where(stops, -(v**2) / (2.0 * braking), 0.5 * (v + v_next) * dt_s)
