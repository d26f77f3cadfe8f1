"""Contact of the moving ego box with imagined road users, in space and time.

Imagined frames are 0.5 s apart; in that time a car moves several of its lengths. Comparing the ego's swept area with a
single frame would let every follower "hit" the place that the ego has just left. So the ego box is swept through its
0.1 s poses, and at each pose what the next frame shows in a cell is traced back along that cell's own velocity to the
pose's time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numpy import ndarray

from wmplan.contracts import IMAGINED_STEP_S, Grid, Imagined
from wmplan.scene import STEP_S

STEPS_PER_FRAME = round(IMAGINED_STEP_S / STEP_S)
FLOOR = 0.05
"""Imagined occupancy at or below this is nothing: no overlap with it can reach a contact level."""
MAX_SPEED_MPS = 45.0
"""Imagined velocities are cut to this before anything is traced back along them."""


@dataclass(frozen=True)
class Queries:
    """Q ego boxes of each of K candidates, at `ticks` (in 0.1 s after t0, at least 1); poses are x, y, yaw."""

    poses: Float[ndarray, "K Q 3"]
    ticks: Int[ndarray, "Q"]
    length: float
    width: float


@dataclass(frozen=True)
class Contacts:
    """Overlap in [0, 1] of each ego box with imagined vehicles and VRUs: the largest product, over the cells, of how
    far the cell lies inside the box and how likely it is occupied; 0.25 where two edges just touch.

    `front` leaves out cells in the rear quarter of the box. `broken` marks candidates whose futures hold a non-finite
    number.
    """

    front: Float32[ndarray, "K M Q 2"]
    rear: Float32[ndarray, "K M Q 2"]
    broken: Bool[ndarray, "K"]


def contacts(imagined: Imagined, queries: Queries) -> Contacts:
    """Overlap of every ego box with every imagined sample; every number depends on its own candidate alone."""
    occupancy = imagined.occupancy.detach().numpy()
    k, m, t, c = occupancy.shape[:4]
    cells = occupied_cells(occupancy)
    broken = np.zeros(k, dtype=bool)
    broken[cells.k[~np.isfinite(cells.value)]] = True

    grid = imagined.grid
    poses = queries.poses.astype(np.float32)
    frames = (queries.ticks + STEPS_PER_FRAME - 1) // STEPS_PER_FRAME - 1
    late = ((frames + 1) * STEPS_PER_FRAME - queries.ticks).astype(np.float32) * np.float32(STEP_S)
    velocity = imagined.velocity.detach().numpy()
    front = np.zeros((k * m * c, len(frames)), dtype=np.float32)
    rear = np.zeros((k * m * c, len(frames)), dtype=np.float32)
    for frame in np.unique(frames).tolist():
        asked = np.flatnonzero(frames == frame)
        if frame >= t:
            raise ValueError(
                f"contacts: a box at tick {int(queries.ticks[asked].max())}, the imagination has {t} frames"
            )
        here = _near(cells.at(cells.t == frame), poses[:, asked], queries, float(late[asked].max()), grid)
        if not len(here.k):
            continue
        x = np.float32(grid.x_min) + (here.j.astype(np.float32) + np.float32(0.5)) * np.float32(grid.cell)
        y = np.float32(grid.y_min) + (here.i.astype(np.float32) + np.float32(0.5)) * np.float32(grid.cell)
        raw = velocity[here.k, here.m, frame, :, here.i, here.j]
        broken[here.k[~np.isfinite(raw).all(axis=1)]] = True  # before clipping hides an infinity
        limit = np.float32(MAX_SPEED_MPS)
        vx = np.clip(raw[:, 0], -limit, limit)
        vy = np.clip(raw[:, 1], -limit, limit)
        broken[here.k[~np.isfinite(vx + vy)]] = True
        key = (here.k * m + here.m) * c + here.c
        starts = np.concatenate([[0], np.flatnonzero(np.diff(key)) + 1])
        for q in asked:
            px, py, cos, sin = _row_poses(poses[:, q])
            dx = (x - vx * late[q]) - px[here.k]
            dy = (y - vy * late[q]) - py[here.k]
            u = cos[here.k] * dx + sin[here.k] * dy
            v = cos[here.k] * dy - sin[here.k] * dx
            depth = _inside(u, queries.length, grid.cell) * _inside(v, queries.width, grid.cell) * here.value
            at_front = u >= np.float32(-0.25 * queries.length)
            rows = key[starts]
            front[rows, q] = np.maximum.reduceat(np.where(at_front, depth, np.float32(0.0)), starts)
            rear[rows, q] = np.maximum.reduceat(np.where(at_front, np.float32(0.0), depth), starts)
    shape = (k, m, c, len(frames))
    return Contacts(
        np.moveaxis(front.reshape(shape), 2, 3).copy(), np.moveaxis(rear.reshape(shape), 2, 3).copy(), broken
    )


@dataclass(frozen=True)
class Cells:
    """Occupied cells in the order of candidate, sample, frame, channel, row, column."""

    k: ndarray
    m: ndarray
    t: ndarray
    c: ndarray
    i: ndarray
    j: ndarray
    value: ndarray

    def at(self, rows: ndarray) -> Cells:
        return Cells(*(getattr(self, name)[rows] for name in ("k", "m", "t", "c", "i", "j", "value")))


def occupied_cells(occupancy: Float[ndarray, "K M T 2 H W"]) -> Cells:
    """Every cell above `FLOOR`, and every cell that is not finite."""
    _, m, t, c, h, w = occupancy.shape
    # Written as "not below" so that NaN is kept and can be counted.
    flat = np.flatnonzero(~(occupancy <= FLOOR))
    rest, cell = np.divmod(flat, h * w)
    i, j = np.divmod(cell, w)
    rest, channel = np.divmod(rest, c)
    rest, frame = np.divmod(rest, t)
    candidate, sample = np.divmod(rest, m)
    value = occupancy[candidate, sample, frame, channel, i, j].astype(np.float32)
    return Cells(candidate, sample, frame, channel, i, j, value)


def _near(cells: Cells, poses: ndarray, queries: Queries, late: float, grid: Grid) -> Cells:
    """Cells that could touch one of the boxes of this frame: within their bounding square, widened by what can move."""
    margin = np.float32(0.5 * np.hypot(queries.length, queries.width) + grid.cell + late * MAX_SPEED_MPS)
    x = np.float32(grid.x_min) + (cells.j.astype(np.float32) + np.float32(0.5)) * np.float32(grid.cell)
    y = np.float32(grid.y_min) + (cells.i.astype(np.float32) + np.float32(0.5)) * np.float32(grid.cell)
    low, high = poses[:, :, :2].min(axis=1) - margin, poses[:, :, :2].max(axis=1) + margin
    k = cells.k
    near = (x >= low[k, 0]) & (x <= high[k, 0]) & (y >= low[k, 1]) & (y <= high[k, 1])
    return cells.at(near)


def _row_poses(poses: Float[ndarray, "K 3"]) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    x, y, yaw = (np.ascontiguousarray(poses[:, i]) for i in range(3))
    return x, y, np.cos(yaw), np.sin(yaw)


def _inside(offset: ndarray, extent: float, cell: float) -> ndarray:
    """How much of a cell at this offset from the middle is inside the extent: 1 inside, 0.5 on the edge, 0 outside."""
    return np.clip((np.float32(0.5 * extent) - np.abs(offset)) / np.float32(cell) + np.float32(0.5), 0.0, 1.0)
