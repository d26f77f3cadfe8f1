"""Logs whose ego is moved to where it was not: nobody out of its reach may care, and of the others nothing is known.

A log has no label for how others would have reacted. So the loss is masked inside the influence set, whoever the logged
or the moved ego comes near within the horizon; everyone else must do what the log says, whatever the ego does.

References:
    `reference/world_models.md` 4.3 (data mix).
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, RASTER_HISTORY, Grid
from wmplan.models.training.data import Batch
from wmplan.models.warp import cell_centres
from wmplan.raster import draw_boxes

ACCELS_MPS2 = (-4.0, 2.0)
"""What is added to the ego's acceleration along its own path."""
NEAR_M, NEAR_S = 10.0, 2.0
"""Whoever comes nearer to the ego than this, plus what they drive in so many seconds, may be influenced."""
BODY_M = 6.0
"""So far around somebody who may be influenced no cell is asked for, plus what a hard brake changes by then."""
BRAKE_MPS2 = 6.0


def perturbed(batch: Batch, grid: Grid, sizes: Float[Tensor, "B 2"], share: float, draw: torch.Generator) -> Batch:
    """The batch with the ego of about `share` of the rows moved along its path, and the labels of those who may be
    influenced taken away there; never of counterfactuals, which have labels. `sizes` are the egos' boxes."""
    alone = (batch.scenes[:, None] == batch.scenes).sum(1) == 1
    rows = torch.nonzero(alone & (torch.rand(len(alone), generator=draw) < share))[:, 0]
    low, high = ACCELS_MPS2
    added = low + (high - low) * torch.rand(len(rows), generator=draw)
    if not len(rows):
        return batch
    part = Batch(**{f.name: getattr(batch, f.name)[rows] for f in fields(Batch)})
    moved = along_path(part.ego, added)
    reached = influenced(part, moved)
    boxes = sizes[rows, None, None].expand(-1, moved.shape[1], -1, -1)
    there = torch.ones(*moved.shape[:2], 1, dtype=torch.bool)
    ego, footprints, valid, frames = (x.clone() for x in (batch.ego, batch.footprints, batch.valid, batch.frames))
    ego[rows] = moved
    footprints[rows] = draw_boxes(moved[:, :, None], boxes, there, grid)
    valid[rows, RASTER_HISTORY:] &= ~reached[:, None]
    frames[rows, RASTER_HISTORY:, 4] *= ~_around(part, reached, grid)
    return replace(batch, ego=ego, footprints=footprints, valid=valid, frames=frames)


def along_path(ego: Float[Tensor, "B steps 4"], added: Float[Tensor, "B"]) -> Float[Tensor, "B steps 4"]:
    """The ego on its own path with this much more acceleration (m/s2), straight on beyond its end; never back."""
    count = ego.shape[1]
    time = IMAGINED_STEP_S * torch.arange(count)
    steps = (ego[:, 1:, :2] - ego[:, :-1, :2]).norm(dim=-1)
    way = torch.cat([torch.zeros(len(ego), 1), steps.cumsum(1)], dim=1)
    speed = torch.clamp(ego[..., 3] + added[:, None] * time, min=0.0)
    wanted = torch.cat([way[:, :1], (0.5 * IMAGINED_STEP_S * (speed[:, 1:] + speed[:, :-1])).cumsum(1)], dim=1)
    after = torch.searchsorted(way.contiguous(), wanted.contiguous()).clamp(1, count - 1)
    before = after - 1

    def at(values: Tensor, index: Tensor) -> Tensor:
        return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))

    length = (way.gather(1, after) - way.gather(1, before)).clamp(min=1e-3)
    part = ((wanted - way.gather(1, before)) / length)[..., None]
    inner = part.clamp(max=1.0)
    first, second = at(ego, before), at(ego, after)
    turn = second[..., 2] - first[..., 2]
    yaw = first[..., 2] + inner[..., 0] * torch.atan2(torch.sin(turn), torch.cos(turn))
    beyond = (wanted - way[:, -1:]).clamp(min=0.0)[..., None] * torch.stack([torch.cos(yaw), torch.sin(yaw)], dim=-1)
    place = first[..., :2] + inner * (second[..., :2] - first[..., :2]) + beyond
    return torch.cat([place, yaw[..., None], speed[..., None]], dim=-1)


def influenced(batch: Batch, moved: Float[Tensor, "B steps 4"]) -> Bool[Tensor, "B A"]:
    """Who comes near the logged or the moved ego, now or at any step."""
    future = slice(RASTER_HISTORY - 1, None)
    states, there = batch.states[:, future], batch.valid[:, future]
    near = NEAR_M + NEAR_S * states[..., 3:5].norm(dim=-1)
    found = torch.zeros_like(there)
    for ego in (batch.ego, moved):
        found |= (states[..., :2] - ego[:, :, None, :2]).norm(dim=-1) < near
    return (found & there).any(1)


def _around(batch: Batch, reached: Bool[Tensor, "B A"], grid: Grid) -> Bool[Tensor, "B T H W"]:
    """Cells near those whose future is not known."""
    states = batch.states[:, RASTER_HISTORY:]
    there = batch.valid[:, RASTER_HISTORY:] & reached[:, None]
    time = IMAGINED_STEP_S * torch.arange(1, states.shape[1] + 1)
    radius = BODY_M + torch.minimum(
        0.5 * BRAKE_MPS2 * time[:, None] ** 2, time[:, None] * states[..., 3:5].norm(dim=-1)
    )
    centres = cell_centres(grid).reshape(-1, 2)
    covered = torch.zeros(*states.shape[:2], len(centres), dtype=torch.bool)
    for agent in torch.nonzero(there.any(0).any(0))[:, 0]:
        away = torch.cdist(states[:, :, agent, :2], centres.expand(len(states), -1, -1))
        covered |= (away < radius[:, :, agent, None]) & there[:, :, agent, None]
    return covered.reshape(*covered.shape[:2], grid.rows, grid.cols)
