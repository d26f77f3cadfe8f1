"""From imagined occupancy back to a world that a policy can look at: who is where, by instances alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from numpy import ndarray

from wmplan.contracts import Grid
from wmplan.frames import Pose
from wmplan.scene import Kind
from wmplan.validation.instances import READ_OUT, VEHICLE, VRU, Instances, ReadOut, match, read

TURNS_MPS = 1.0
"""Slower than this, a velocity says nothing of a heading."""
STANDS_MPS = 0.3
"""Slower than this, somebody stands."""


@dataclass(frozen=True)
class Places:
    """A road users of one world, map frame; row 0 is the ego and stays as it is. `missing` counts frames in a row in
    which somebody should have been seen and was not."""

    x: Float64[ndarray, "A"]
    y: Float64[ndarray, "A"]
    cos: Float64[ndarray, "A"]
    sin: Float64[ndarray, "A"]
    speed: Float64[ndarray, "A"]
    active: Bool[ndarray, "A"]
    kind: Int[ndarray, "A"]
    missing: Int[ndarray, "A"]


def updated(
    expected: Places,
    occupancy: Float[ndarray, "2 H W"],
    velocity: Float[ndarray, "2 H W"],
    grid: Grid,
    anchor: Pose,
    how: ReadOut = READ_OUT,
) -> tuple[Places, int]:
    """The world as the frame shows it (`placed`), and how many instances found no free row."""
    return placed(expected, read(occupancy, velocity, grid, how), grid, anchor, how)


def placed(expected: Places, found: Instances, grid: Grid, anchor: Pose, how: ReadOut = READ_OUT) -> tuple[Places, int]:
    """The world with everyone where the instances are (scene frame), and how many instances found no free row.

    Whoever was expected is looked for near where it was expected. Who is not found goes on as expected: outside of the
    window for good, inside of it for `coast_steps` frames, after which it is gone. Instances of nobody take free rows
    of their kind.
    """
    outer = anchor.to_outer(found.position)
    moves = Pose(0.0, 0.0, -anchor.yaw).rotate_to_local(found.velocity)
    x, y, cos, sin, speed = (
        part.copy() for part in (expected.x, expected.y, expected.cos, expected.sin, expected.speed)
    )
    active, missing = expected.active.copy(), expected.missing.copy()
    channel = np.where(expected.kind == Kind.VEHICLE, VEHICLE, VRU)
    rows = np.flatnonzero(active)
    rows = rows[rows > 0]
    pairs = match(np.stack([x[rows], y[rows]], axis=-1), outer, how.reach_m, channel[rows, None] == found.kind[None])

    def put(row: int, instance: int) -> None:
        pace = float(np.hypot(*moves[instance]))
        if pace >= TURNS_MPS:
            cos[row], sin[row] = moves[instance] / pace
        speed[row] = pace if pace >= STANDS_MPS else 0.0
        missing[row] = 0

    for row, instance in zip(rows.tolist(), pairs.tolist()):
        if instance >= 0:
            # A box that the window cuts off has its centroid in the wrong place.
            if not found.at_edge[instance]:
                x[row], y[row] = outer[instance]
            put(row, instance)
        elif _inside(anchor.to_local(np.array([x[row], y[row]])), grid):
            missing[row] += 1
            active[row] = missing[row] <= how.coast_steps
    crowded = 0
    for instance in np.setdiff1d(np.arange(len(found)), pairs).tolist():
        free = np.flatnonzero(~active & (channel == found.kind[instance]))
        free = free[free > 0]
        if not len(free):
            crowded += 1
            continue
        row = int(free[0])
        x[row], y[row] = outer[instance]
        cos[row], sin[row] = np.cos(anchor.yaw), np.sin(anchor.yaw)
        put(row, instance)
        active[row] = True
    return Places(x, y, cos, sin, speed, active, expected.kind, missing), crowded


def _inside(place: Float64[ndarray, "2"], grid: Grid) -> bool:
    ahead, aside = place[0] - grid.x_min, place[1] - grid.y_min
    return bool(0.0 <= ahead <= grid.cols * grid.cell and 0.0 <= aside <= grid.rows * grid.cell)
