"""Road users read from occupancy: who is where in a frame, who is who from frame to frame.

Only occupancy and velocity are looked at, never a true position, so that whatever is drawn or imagined is read in the
same way. An instance begins as a connected core of cells; cores touch without merging where their velocities differ.
Every softly occupied cell beside belongs to the nearest core, so that a centroid is finer than a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from numpy import ndarray
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from wmplan.contracts import IMAGINED_STEP_S, Grid

VEHICLE, VRU = 0, 1
"""Kinds of instances: the channels of imagined occupancy."""


@dataclass(frozen=True, kw_only=True)
class ReadOut:
    """How instances are read. Pairs are for vehicles and for vulnerable road users, who are smaller than a cell of the
    coarse grids and never reach one half."""

    core: tuple[float, float] = (0.4, 0.12)
    """occupancy above this belongs to a core"""
    least_m2: tuple[float, float] = (1.5, 0.15)
    """an instance covers at least so much"""
    soft: float = 0.05
    """occupancy above this counts for area, centroid and velocity"""
    soft_cells: float = 1.5
    """softly occupied cells belong to a core at most so far away, in cells"""
    split_mps: float = 2.0
    """neighbouring cells whose velocities differ by more are of two instances"""
    reach_m: float = 2.5
    """from frame to frame an instance is found at most so far from where its velocity leads"""
    coast_steps: int = 1
    """an instance may be missing in so many frames in a row; beyond, it is lost"""


READ_OUT = ReadOut()
"""How everything is read unless a caller asks otherwise."""


@dataclass(frozen=True)
class Instances:
    """N instances of one frame: centroid (m), mean velocity (m/s), covered area (m2), kind, whether it reaches the
    edge of the window (and may be cut off there)."""

    position: Float64[ndarray, "N 2"]
    velocity: Float64[ndarray, "N 2"]
    area: Float64[ndarray, "N"]
    kind: Int[ndarray, "N"]
    at_edge: Bool[ndarray, "N"]

    def __len__(self) -> int:
        return len(self.kind)

    def select(self, rows: Int[ndarray, "M"] | Bool[ndarray, "N"]) -> Instances:
        """These instances."""
        return Instances(*(part[rows] for part in (self.position, self.velocity, self.area, self.kind, self.at_edge)))


@dataclass(frozen=True)
class Followed:
    """N instances followed through T frames. `position[:, 0]` is where they began; where an instance is not `seen`,
    its position is where its last velocity would have led."""

    position: Float64[ndarray, "N S 2"]
    velocity: Float64[ndarray, "N S 2"]
    seen: Bool[ndarray, "N S"]


def read(
    occupancy: Float[ndarray, "2 H W"], velocity: Float[ndarray, "2 H W"], grid: Grid, how: ReadOut = READ_OUT
) -> Instances:
    """The instances of a frame, vehicles first; none where nothing is occupied (or nothing is a number)."""
    found = [_of_channel(occupancy[kind], velocity, kind, grid, how) for kind in (VEHICLE, VRU)]
    first, second = found
    return Instances(
        np.concatenate([first.position, second.position]),
        np.concatenate([first.velocity, second.velocity]),
        np.concatenate([first.area, second.area]),
        np.concatenate([first.kind, second.kind]),
        np.concatenate([first.at_edge, second.at_edge]),
    )


def match(
    first: Float[ndarray, "N 2"],
    second: Float[ndarray, "M 2"],
    reach_m: float,
    alike: Bool[ndarray, "N M"] | None = None,
) -> Int[ndarray, "N"]:
    """For each of the first points the second that it is paired with, or -1.

    As many pairs within `reach_m` as can be (and, with `alike`, only pairs that are), the sum of distances least.
    """
    pairs = np.full(len(first), -1)
    if not len(first) or not len(second):
        return pairs
    gap = np.linalg.norm(np.asarray(first, np.float64)[:, None] - np.asarray(second, np.float64)[None], axis=-1)
    allowed = gap <= reach_m
    if alike is not None:
        allowed &= alike
    # A pair that may not be costs more than all that may: it is chosen only where nothing else is left.
    cost = np.where(allowed, gap, (reach_m + 1.0) * (len(first) + len(second)))
    rows, columns = linear_sum_assignment(cost)
    kept = allowed[rows, columns]
    pairs[rows[kept]] = columns[kept]
    return pairs


def follow(
    first: Instances, frames: Sequence[Instances], how: ReadOut = READ_OUT, step_s: float = IMAGINED_STEP_S
) -> Followed:
    """The instances of the first frame, found again in each of the frames that follow it, `step_s` apart.

    Each is looked for where its velocity leads. One that is missing goes on at its last velocity, and may be found
    again for `coast_steps` frames; after that it stays lost.
    """
    count, steps = len(first), len(frames)
    position = np.empty((count, steps + 1, 2))
    velocity = np.empty((count, steps + 1, 2))
    seen = np.zeros((count, steps + 1), dtype=bool)
    position[:, 0], velocity[:, 0], seen[:, 0] = first.position, first.velocity, True
    missing = np.zeros(count, dtype=int)
    for t, frame in enumerate(frames, start=1):
        position[:, t] = position[:, t - 1] + step_s * velocity[:, t - 1]
        velocity[:, t] = velocity[:, t - 1]
        live = np.flatnonzero(missing <= how.coast_steps)
        alike = first.kind[live, None] == frame.kind[None]
        found = match(position[live, t], frame.position, how.reach_m, alike)
        there = live[found >= 0]
        position[there, t], velocity[there, t] = frame.position[found[found >= 0]], frame.velocity[found[found >= 0]]
        seen[there, t] = True
        missing = np.where(seen[:, t], 0, missing + 1)
    return Followed(position, velocity, seen)


# ------------------------------------------------------------------------------------------------------ details


def _of_channel(
    occupancy: Float[ndarray, "H W"], velocity: Float[ndarray, "2 H W"], kind: int, grid: Grid, how: ReadOut
) -> Instances:
    occupancy = np.nan_to_num(np.asarray(occupancy, np.float64))
    velocity = np.nan_to_num(np.asarray(velocity, np.float64))
    labels, count = _cores(occupancy > how.core[kind], velocity, how.split_mps)
    area = np.bincount(labels[labels >= 0], occupancy[labels >= 0], count) * grid.cell**2
    # A sliver between two velocities is no instance of its own: its cells go to the cores beside it.
    large = area >= how.least_m2[kind] / 2.0
    labels = np.where((labels >= 0) & np.append(large, False)[labels], labels, -1)
    if not large.any():
        nothing = np.zeros((0, 2))
        return Instances(nothing, nothing, np.zeros(0), np.zeros(0, dtype=int), np.zeros(0, dtype=bool))
    away, (i, j) = distance_transform_edt(labels < 0, return_indices=True)
    owner = np.where((occupancy > how.soft) & (away <= how.soft_cells), labels[i, j], -1)
    rows, columns = np.nonzero(owner >= 0)
    which = owner[rows, columns]
    weight = occupancy[rows, columns]
    values = (
        grid.x_min + (columns + 0.5) * grid.cell,
        grid.y_min + (rows + 0.5) * grid.cell,
        velocity[0, rows, columns],
        velocity[1, rows, columns],
    )
    mass = np.bincount(which, weight, count)
    x, y, vx, vy = (np.bincount(which, weight * value, count) / np.maximum(mass, 1e-9) for value in values)
    border = (rows == 0) | (columns == 0) | (rows == grid.rows - 1) | (columns == grid.cols - 1)
    at_edge = np.bincount(which, weight * border, count) > 0.0
    kept = np.flatnonzero(mass * grid.cell**2 >= how.least_m2[kind])
    return Instances(
        np.stack([x, y], axis=-1)[kept],
        np.stack([vx, vy], axis=-1)[kept],
        (mass * grid.cell**2)[kept],
        np.full(len(kept), kind),
        at_edge[kept],
    )


def _cores(
    core: Bool[ndarray, "H W"], velocity: Float64[ndarray, "2 H W"], split_mps: float
) -> tuple[Int[ndarray, "H W"], int]:
    """Label of each cell of a core, -1 elsewhere, and the number of labels: neighbours (eight of them) are one where
    their velocities are alike."""
    count = int(core.sum())
    number = np.full(core.shape, -1)
    number[core] = np.arange(count)
    pairs = []
    for here, there in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None, -1), slice(None, -1)), (slice(1, None), slice(1, None))),
        ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))),
    ):
        change = velocity[:, *here] - velocity[:, *there]
        joined = core[here] & core[there] & (np.hypot(change[0], change[1]) <= split_mps)
        pairs.append(np.stack([number[here][joined], number[there][joined]]))
    a, b = np.concatenate(pairs, axis=1)
    total, label = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(count, count)), directed=False)
    number[core] = label
    return number, int(total)
