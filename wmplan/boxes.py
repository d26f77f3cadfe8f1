"""Exact geometry of oriented boxes: x, y (centre, m), yaw (rad), length, width (m)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray


def corners(boxes: Float[ndarray, "*N 5"]) -> Float[ndarray, "*N 4 2"]:
    """Corners: front left, front right, rear right, rear left."""
    x, y, yaw, length, width = np.moveaxis(boxes, -1, 0)
    cos, sin = np.cos(yaw), np.sin(yaw)
    u = np.stack([length, length, -length, -length], axis=-1) / 2.0
    v = np.stack([width, -width, -width, width], axis=-1) / 2.0
    return np.stack(
        [
            x[..., None] + u * cos[..., None] - v * sin[..., None],
            y[..., None] + u * sin[..., None] + v * cos[..., None],
        ],
        axis=-1,
    )


def overlaps(a: Float[ndarray, "N 5"], b: Float[ndarray, "N 5"]) -> Bool[ndarray, "N"]:
    """Which pairs of boxes touch or overlap, by the separating axes of both."""
    dx, dy = b[:, 0] - a[:, 0], b[:, 1] - a[:, 1]
    cos, sin = np.abs(np.cos(b[:, 2] - a[:, 2])), np.abs(np.sin(b[:, 2] - a[:, 2]))
    touching = np.ones(len(a), dtype=bool)
    for own, other in ((a, b), (b, a)):
        c, s = np.cos(own[:, 2]), np.sin(own[:, 2])
        along, across = np.abs(dx * c + dy * s), np.abs(dy * c - dx * s)
        touching &= along <= (own[:, 3] + other[:, 3] * cos + other[:, 4] * sin) / 2.0
        touching &= across <= (own[:, 4] + other[:, 3] * sin + other[:, 4] * cos) / 2.0
    return touching


def segment_touches(
    p: Float[ndarray, "N 2"], q: Float[ndarray, "N 2"], box: Float[ndarray, "N 5"]
) -> Bool[ndarray, "N"]:
    """Which segments p-q touch their box."""
    middle, half = (p + q) / 2.0, (q - p) / 2.0
    length = np.hypot(half[:, 0], half[:, 1])
    yaw = np.arctan2(half[:, 1], half[:, 0])
    line = np.stack([middle[:, 0], middle[:, 1], yaw, 2.0 * length, np.zeros(len(p))], axis=1)
    return overlaps(line, box)
