"""Rigid motions of the plane and angles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def wrap_angle(angle: Float[ndarray, "..."] | float) -> Float[ndarray, "..."]:
    """The same angle in (-pi, pi], radians."""
    return np.asarray(np.pi - np.mod(np.pi - angle, 2.0 * np.pi))


@dataclass(frozen=True)
class Pose:
    """Position in metres and heading in radians of one frame inside another."""

    x: float
    y: float
    yaw: float

    def to_local(self, points: Float[ndarray, "... 2"]) -> Float[ndarray, "... 2"]:
        """Points of the outer frame, seen from this pose."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        dx, dy = points[..., 0] - self.x, points[..., 1] - self.y
        return np.stack([c * dx + s * dy, -s * dx + c * dy], axis=-1)

    def to_outer(self, points: Float[ndarray, "... 2"]) -> Float[ndarray, "... 2"]:
        """Points seen from this pose, in the outer frame; the inverse of `to_local`."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        px, py = points[..., 0], points[..., 1]
        return np.stack([self.x + c * px - s * py, self.y + s * px + c * py], axis=-1)

    def rotate_to_local(self, vectors: Float[ndarray, "... 2"]) -> Float[ndarray, "... 2"]:
        """Directions (velocities) of the outer frame, seen from this pose."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        vx, vy = vectors[..., 0], vectors[..., 1]
        return np.stack([c * vx + s * vy, -s * vx + c * vy], axis=-1)
