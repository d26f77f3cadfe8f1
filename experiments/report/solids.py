"""Imagined occupancy in 3-D: occupied cells as blocks on the ground, seen from behind the ego.

With pytorch3d (extra `pytorch3d`) blocks become surfaces by its `cubify`; otherwise here. Both give the closed surface
of the occupied cells without walls between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy import ndarray

from experiments.report.films import EGO, VEHICLE, VRU
from wmplan.contracts import Grid

VEHICLE_M, VRU_M = 1.5, 1.8
"""How high a block stands for somebody: logs and rasters know no heights."""
OCCUPIED = 0.5
"""A cell becomes a block where its occupancy exceeds this."""
ELEVATION, AZIMUTH = 38.0, 200.0
"""From where it is seen, degrees: from behind the ego, to its left."""


@dataclass(frozen=True)
class Surface:
    """Corners (x, y, z, metres, scene frame) and the faces between them, counter-clockwise from outside."""

    corners: Float[ndarray, "V 3"]
    faces: Int[ndarray, "F sides"]

    @property
    def volume(self) -> float:
        """What it encloses, m3."""
        points = self.corners[self.faces]
        parts = [
            np.einsum("fi,fi->f", points[:, 0], np.cross(points[:, k], points[:, k + 1]))
            for k in range(1, points.shape[1] - 1)
        ]
        return float(np.sum(parts)) / 6.0


def plot_solids(
    futures: list[tuple[str, Float[ndarray, "C H W"], Float[ndarray, "H W"]]], grid: Grid, title: str = ""
) -> tuple[Figure, list[Any]]:
    """Moments side by side, each a name, the occupancy, and the ego's footprint: vehicles dark blue, vulnerable road
    users magenta, the ego orange."""
    fig = Figure(figsize=(5.2 * len(futures), 3.9), layout="constrained")
    axes = []
    for place, (name, occupancy, footprint) in enumerate(futures, start=1):
        ax: Any = fig.add_subplot(1, len(futures), place, projection="3d")
        for cells, height, colour in (
            (occupancy[0] > OCCUPIED, VEHICLE_M, VEHICLE),
            (occupancy[1] > OCCUPIED, VRU_M, VRU),
            (footprint > OCCUPIED, VEHICLE_M, EGO),
        ):
            if cells.any():
                surface = extruded(cells, grid, height)
                blocks = Poly3DCollection(surface.corners[surface.faces], facecolors=[colour], shade=True)
                ax.add_collection3d(blocks)
        right, top = grid.x_min + grid.cols * grid.cell, grid.y_min + grid.rows * grid.cell
        ax.set(xlim=(grid.x_min, right), ylim=(grid.y_min, top), zlim=(0.0, 8.0), zticks=[])
        ax.set_box_aspect((right - grid.x_min, top - grid.y_min, 8.0), zoom=1.35)
        ax.view_init(elev=ELEVATION, azim=AZIMUTH)
        ax.tick_params(labelsize=6, pad=-2)
        ax.set_title(name, fontsize=9)
        axes.append(ax)
    if title:
        fig.suptitle(title, fontsize=9)
    return fig, axes


def extruded(cells: Bool[ndarray, "H W"], grid: Grid, height: float) -> Surface:
    """The surface of blocks of this height (m) on these cells."""
    if find_spec("pytorch3d") is not None:
        return _cubified(cells, grid, height)
    return walled(cells, grid, height)


def walled(cells: Bool[ndarray, "H W"], grid: Grid, height: float) -> Surface:
    """Roof and floor of every cell, and a wall wherever the neighbour is free; four corners a face."""
    around = np.pad(cells, 1)
    row, col = np.nonzero(cells)
    quads = []
    roof = [(0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 0, 1)]  # row, column, up; columns are x, rows y
    floor = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]
    sides = {
        (-1, 0): [(0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1)],
        (1, 0): [(1, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1)],
        (0, -1): [(1, 0, 0), (0, 0, 0), (0, 0, 1), (1, 0, 1)],
        (0, 1): [(0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)],
    }
    for shape in (roof, floor):
        quads.append(_placed(shape, row, col))
    for (down, right), shape in sides.items():
        free = ~around[row + 1 + down, col + 1 + right]
        quads.append(_placed(shape, row[free], col[free]))
    points = np.concatenate(quads).reshape(-1, 3)
    corners = np.stack(
        [grid.x_min + grid.cell * points[:, 1], grid.y_min + grid.cell * points[:, 0], height * points[:, 2]], axis=-1
    )
    return Surface(corners.astype(np.float64), np.arange(len(points)).reshape(-1, 4))


def _placed(shape: list[tuple[int, int, int]], row: ndarray, col: ndarray) -> Int[ndarray, "N 4 3"]:
    at = np.stack([row, col, np.zeros_like(row)], axis=-1)
    return at[:, None] + np.array(shape)


def _cubified(cells: Bool[ndarray, "H W"], grid: Grid, height: float) -> Surface:
    """The same by pytorch3d. Its voxels are [depth, height, width], its corners -1 to 1 along each axis, from the first
    voxel's near side to the last one's far side ("corner"). It cannot take a single layer: an empty one lies above."""
    import torch
    from pytorch3d.ops import cubify

    layer = torch.from_numpy(cells).float()
    voxels = torch.stack([layer, torch.zeros_like(layer)])[None]
    (corners,), (faces,) = _listed(cubify(voxels, OCCUPIED, align="corner"))
    x, y, z = (0.5 * (corners[:, axis].double().numpy() + 1.0) for axis in range(3))
    placed = np.stack(
        [grid.x_min + grid.cols * grid.cell * x, grid.y_min + grid.rows * grid.cell * y, 2.0 * height * z], axis=-1
    )
    return Surface(placed, faces.numpy())


def _listed(meshes: Any) -> tuple[Any, Any]:
    return meshes.verts_list(), meshes.faces_list()
