"""The way ahead of each particle: from where it is, on along the lanes of the map.

On a bend or in a roundabout the car ahead is not straight ahead. Whether the ego is in somebody's way, and how far
along it, is therefore said along the lane: a path is followed once a scene through the map's field of directions, and
places are measured along it afterwards.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wmplan.contracts import Grid
from wmplan.models.warp import at_cells

PATH_POINTS, PATH_STEP_M = 13, 5.0
"""Corners of a path, and metres between them."""
LANE_MPS = 0.5
"""Well below this speed one heads where the lane leads, well above it where one moves."""
TURNS_COS = 0.5
"""A lane that leads off by more than 60 degrees is another one."""


def heading(velocity: Float[Tensor, "B N 2"], lane: Float[Tensor, "B N 2"]) -> Float[Tensor, "B N 2"]:
    """The direction of travel, at most of length 1: of who moves the velocity's, of who stands the lane's (0 where
    there is none). A queue that is about to move has to know where to."""
    way = velocity + LANE_MPS * lane
    return way / (way.square().sum(-1, keepdim=True) + 0.1 * LANE_MPS**2).sqrt()


def lane_paths(
    position: Float[Tensor, "B N 2"], velocity: Float[Tensor, "B N 2"], lanes: Float[Tensor, "B 2 H W"], grid: Grid
) -> Float[Tensor, "B N P 2"]:
    """Corners `PATH_STEP_M` apart of where each would come if it followed its lane; straight on where there is none.

    `lanes` is the direction (cos, sin) of the nearest lane in each cell, 0 where there is none.
    """
    direction = heading(velocity, at_cells(lanes, position, grid)[0])
    direction = direction / direction.norm(dim=-1, keepdim=True).clamp(min=1e-3)
    corners = [position]
    for _ in range(PATH_POINTS - 1):
        here = corners[-1]
        # The direction half way along the step: on a circle its end stays on the circle.
        lane, inside = at_cells(lanes, here + 0.5 * PATH_STEP_M * direction, grid)
        agrees = inside & ((lane * direction).sum(-1) > TURNS_COS)
        direction = torch.where(agrees[..., None], lane / lane.norm(dim=-1, keepdim=True).clamp(min=1e-3), direction)
        corners.append(here + PATH_STEP_M * direction)
    return torch.stack(corners, dim=2)


def along_paths(
    paths: Float[Tensor, "B N P 2"], place: Float[Tensor, "B M 2"]
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"], Float[Tensor, "B N"], Float[Tensor, "B N 2"]]:
    """Where one place each (M = N), or one place for all (M = 1), is on the paths: metres along, metres to the left,
    its squared distance across, and the path's direction there. Before the first corner and beyond the last the path
    goes straight on."""
    # x and y apart: sums over an axis of two are slow.
    squared = [(at[..., None] - of).square() for at, of in zip(place.unbind(-1), paths.unbind(-1), strict=True)]
    nearest = (squared[0] + squared[1]).argmin(-1)
    last = paths.shape[2] - 1

    def corner(number: Int[Tensor, "B N"]) -> Float[Tensor, "B N 2"]:
        return paths.gather(2, number.clamp(0, last)[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]

    here, before, after = (corner(nearest + by) for by in (0, -1, 1))
    # The direction at a corner: the mean of the steps that meet there; only one does at the ends.
    meeting = torch.where((nearest == 0) | (nearest == last), 1.0, 2.0)
    along = ((here - before) + (after - here)) / (PATH_STEP_M * meeting[..., None])
    from_corner = place - here
    ax, ay = along.unbind(-1)
    x, y = from_corner.unbind(-1)
    further, left = ax * x + ay * y, ax * y - ay * x
    across = (from_corner.square().sum(-1) - further.square()).clamp(min=0.0)
    return PATH_STEP_M * nearest + further, left, across, along
