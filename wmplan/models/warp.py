"""Particles and the grid: splatted onto it bilinearly, and the values of the cells that they are in."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wmplan.contracts import Grid


def cell_centres(grid: Grid) -> Float[Tensor, "H W 2"]:
    """Scene-frame x, y (m) of every cell's centre."""
    x = grid.x_min + (torch.arange(grid.cols, dtype=torch.float32) + 0.5) * grid.cell
    y = grid.y_min + (torch.arange(grid.rows, dtype=torch.float32) + 0.5) * grid.cell
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def splat(
    positions: Float[Tensor, "*B N 2"], weights: Float[Tensor, "*B N C"], grid: Grid
) -> Float[Tensor, "*B C H W"]:
    """Weights summed onto the four cells around each position (x, y in metres), in proportion to nearness.

    Differentiable with respect to positions and weights. Mass that falls outside the grid is lost; inside, mass and
    centroid are kept exactly. Each batch row is summed in the order of its particles, whatever the batch: a row's
    result does not depend, to the bit, on its companions. Positions must be finite.
    """
    batch, count, channels = weights.shape[:-2], weights.shape[-2], weights.shape[-1]
    total = batch.numel()
    column = ((positions[..., 0] - grid.x_min) / grid.cell - 0.5).reshape(total, count)
    row = ((positions[..., 1] - grid.y_min) / grid.cell - 0.5).reshape(total, count)
    left, below = column.detach().floor(), row.detach().floor()
    right_share, above_share = column - left, row - below
    # All four corners of all particles in one sum: [total, 2 columns, 2 rows, count].
    j = torch.stack([left, left + 1.0], dim=1)[:, :, None]
    i = torch.stack([below, below + 1.0], dim=1)[:, None]
    inside = ((j >= 0) & (j < grid.cols)) & ((i >= 0) & (i < grid.rows))
    share = torch.stack([1.0 - right_share, right_share], dim=1)[:, :, None]
    share = share * torch.stack([1.0 - above_share, above_share], dim=1)[:, None] * inside
    cell = torch.where(inside, i * grid.cols + j, 0.0).long().reshape(total, 1, 4 * count)
    values = weights.reshape(total, count, channels).transpose(1, 2)[:, :, None] * share.reshape(total, 1, 4, count)
    canvas = weights.new_zeros((total, channels, grid.rows * grid.cols))
    canvas.scatter_add_(2, cell.expand(-1, channels, -1), values.reshape(total, channels, 4 * count))
    return canvas.reshape(*batch, channels, grid.rows, grid.cols)


def at_cells(
    raster: Float[Tensor, "B C H W"], position: Float[Tensor, "B N 2"], grid: Grid
) -> tuple[Float[Tensor, "B N C"], Bool[Tensor, "B N"]]:
    """The raster's values in the cell of each position, and whether the position lies inside the grid."""
    column = torch.floor((position[..., 0] - grid.x_min) / grid.cell).long()
    row = torch.floor((position[..., 1] - grid.y_min) / grid.cell).long()
    inside = (column >= 0) & (column < grid.cols) & (row >= 0) & (row < grid.rows)
    cell = row.clamp(0, grid.rows - 1) * grid.cols + column.clamp(0, grid.cols - 1)
    flat = raster.flatten(2)
    values = flat.gather(2, cell[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)
    return values, inside
