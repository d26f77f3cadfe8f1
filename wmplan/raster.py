"""Scenes, futures and plans as rasters: soft oriented boxes without rounding, in the anchored scene frame.

A box with centre (cx, cy), heading psi, length l and width w covers a cell centre (x, y) by

    (u, v) = R(-psi) (x - cx, y - cy);    sigmoid((l/2 - |u|) / tau) * sigmoid((w/2 - |v|) / tau),    tau = cell / 4

and is zero further than `MARGIN_CELLS` outside its sides, where the formula gives less than 0.007. A box that is
narrower than a cell therefore never reaches 1: its mass, not its peak, says that it is there.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, RASTER_HISTORY, Grid, SceneRaster
from wmplan.map_raster import draw_map, map_observed, patches_seen
from wmplan.plans import Plans, Start
from wmplan.scene import HISTORY_STEPS, STEP_S, Future, Kind, Scene, Tracks
from wmplan.start import start_of

MARGIN_CELLS = 1.25
"""A box is drawn this far beyond its sides, in cells."""
OCCUPIED = 0.02
"""Cells with less occupancy than this carry no velocity; forecasts move no cell that has none."""
STRIDE = round(IMAGINED_STEP_S / STEP_S)
"""Plan steps in one imagined step."""


# -------------------------------------------------------------------------------------------- scenes and plans


def rasterize(scene: Scene, grid: Grid) -> SceneRaster:
    """What a world model sees of a scene: map layers, and other road users at t0 - 1.5, -1, -0.5 and 0 s.

    The ego is not drawn. Cache the result by scene if it is needed twice; nothing is cached here.
    """
    steps = HISTORY_STEPS - STRIDE * np.arange(RASTER_HISTORY)[::-1]
    obstacles = scene.agents.kinds == Kind.OTHER
    static = draw_map(
        scene.road_map,
        grid,
        route=scene.route,
        light_points=scene.lights.points,
        light_states=scene.lights.states[:, -1],
    )
    static[6] = draw_boxes(
        torch.from_numpy(np.asarray(scene.agents.states[obstacles, -1], dtype=np.float32)),
        torch.from_numpy(np.asarray(scene.agents.sizes[obstacles], dtype=np.float32)),
        torch.from_numpy(scene.agents.valid[obstacles, -1]),
        grid,
    )
    observed = map_observed(scene.road_map, static, grid)
    history = _draw_tracks(scene.agents, scene.ego, steps, observed, grid)
    start = start_of(scene)
    return SceneRaster(scene.scene_id, _digest(static, history, grid, start), grid, static, history, start)


def rasterize_future(scene: Scene, future: Future, grid: Grid, steps: int) -> Float32[Tensor, "T 5 H W"]:
    """`DYNAMIC_CHANNELS` of what really followed, at t0 + 0.5 s, 1 s, ..., `steps` frames; the ego is not drawn.

    A frame beyond the end of the log is empty and observed nowhere but on the map.
    """
    rows = STRIDE * np.arange(1, steps + 1) - 1
    static = draw_map(scene.road_map, grid)
    return _draw_tracks(future.agents, future.ego, rows, map_observed(scene.road_map, static, grid), grid)


def footprints(plans: Plans, start: Start, grid: Grid) -> Float32[Tensor, "K steps H W"]:
    """The ego's box at imagined steps 0 (t0) to T of each candidate; empty where its states are not finite."""
    states = torch.from_numpy(plans.states[:, ::STRIDE])
    return _draw_ego(states[:, :, None], start, grid)


def swept_footprints(plans: Plans, start: Start, grid: Grid) -> Float32[Tensor, "K T H W"]:
    """What the ego's box touches during each imagined step: the maximum over its plan states, both ends included."""
    states = torch.from_numpy(plans.states)
    count = plans.controls.shape[1] // STRIDE
    windows = states[:, : count * STRIDE + 1].unfold(1, STRIDE + 1, STRIDE).transpose(2, 3)
    return _draw_ego(windows, start, grid)


# ------------------------------------------------------------------------------------------------------ tensors


def draw_boxes(
    states: Float[Tensor, "*B N S"], sizes: Float[Tensor, "*#B N 2"], valid: Bool[Tensor, "*#B N"], grid: Grid
) -> Float32[Tensor, "*B H W"]:
    """Occupancy in [0, 1] by N boxes, the maximum where they overlap.

    `states[..., :3]` is x, y (m), yaw (rad), further numbers are ignored; sizes are length and width (m). Boxes that
    are not valid or not finite are not drawn.
    """
    batch = states.shape[:-2]
    frame = torch.arange(batch.numel()).reshape(*batch, 1).expand(states.shape[:-1])
    cells = _Cells.of(states, sizes, valid, frame, grid)
    canvas = torch.zeros(batch.numel() * grid.rows * grid.cols)
    canvas.scatter_reduce_(0, cells.index, cells.occupancy, "amax")
    return canvas.reshape(*batch, grid.rows, grid.cols)


def draw_dynamic(
    states: Float[Tensor, "B T A 5"],
    sizes: Float[Tensor, "B A 2"],
    kinds: Int[Tensor, "B A"],
    valid: Bool[Tensor, "B T A"],
    grid: Grid,
    observed: Float[Tensor, "B H W"] | None = None,
    ego: Float[Tensor, "B T 2"] | None = None,
) -> Float32[Tensor, "B T 5 H W"]:
    """`DYNAMIC_CHANNELS` of whole batches of tracks, fast enough to draw while training.

    `states` is x, y, yaw, vx, vy in the frame of the grid. A cell's velocity is that of the box which covers it most
    (the mean of equals). A cell is observed where `observed` (the map's share, `map_observed`) says so, or where its
    8 m patch holds or touches a patch with a valid track or the ego (`ego` gives its x, y; it is not drawn).
    `Kind.OTHER` is not drawn: it belongs to the static channels.
    """
    size = grid.rows * grid.cols
    n, steps, _ = states.shape[:3]
    frames = n * steps
    is_vru = ((kinds == Kind.PEDESTRIAN) | (kinds == Kind.CYCLIST))[:, None]
    moving = valid & (kinds != Kind.OTHER)[:, None]
    plane = torch.arange(frames).reshape(n, steps, 1) + frames * is_vru
    cells = _Cells.of(states, sizes[:, None], moving, plane, grid)
    occupancy = torch.zeros(2 * frames * size)
    occupancy.scatter_reduce_(0, cells.index, cells.occupancy, "amax")
    occupancy = occupancy.reshape(2, frames * size)

    most = torch.maximum(occupancy[0], occupancy[1])
    cell = torch.where(cells.index < frames * size, cells.index, cells.index - frames * size)
    wins = torch.nonzero((cells.occupancy >= OCCUPIED) & (cells.occupancy == most.index_select(0, cell))).squeeze(1)
    cell, winner = cell[wins], states.reshape(-1, states.shape[-1])[cells.box[wins], 3:5].to(torch.float32)
    equals = torch.zeros(frames * size).scatter_add_(0, cell, torch.ones(len(wins))).clamp_(min=1.0)
    velocity = [torch.zeros(frames * size).scatter_add_(0, cell, part) / equals for part in winner.T.contiguous()]

    seen = patches_seen(states[..., :2], valid, grid)
    if ego is not None:
        seen = torch.maximum(seen, patches_seen(ego[:, :, None], torch.isfinite(ego).all(-1, keepdim=True), grid))
    if observed is not None:
        seen = torch.maximum(seen, observed[:, None].to(torch.float32))
    out = torch.empty(n, steps, 5, grid.rows, grid.cols)
    for channel, part in enumerate((*occupancy, *velocity)):
        out[:, :, channel] = part.reshape(n, steps, grid.rows, grid.cols)
    out[:, :, 4] = seen
    return out


class _Cells:
    """The cells that boxes touch, box after box: flat index into the planes, occupancy, and which box (flat)."""

    def __init__(self, index: Tensor, occupancy: Tensor, box: Tensor) -> None:
        self.index, self.occupancy, self.box = index, occupancy, box

    @staticmethod
    def of(states: Tensor, sizes: Tensor, valid: Tensor, plane: Tensor, grid: Grid) -> _Cells:
        """Enumerate exactly the cells of each box's bounding rectangle: a bus costs a bus, a pedestrian four cells."""
        shape = states.shape[:-1]
        boxes = torch.cat([states[..., :3].to(torch.float32), sizes.expand(*shape, 2).to(torch.float32)], dim=-1)
        boxes = boxes.reshape(-1, 5)
        usable = valid.expand(shape).reshape(-1) & torch.isfinite(boxes).all(-1)
        x, y, yaw, length, width = torch.nan_to_num(boxes, posinf=0.0, neginf=0.0).unbind(-1)
        cos, sin = _exactly(np.cos, yaw), _exactly(np.sin, yaw)
        margin = MARGIN_CELLS * grid.cell
        half_l, half_w = length / 2.0 + margin, width / 2.0 + margin
        reach_x = cos.abs() * half_l + sin.abs() * half_w
        reach_y = sin.abs() * half_l + cos.abs() * half_w
        column, row = (x - grid.x_min) / grid.cell - 0.5, (y - grid.y_min) / grid.cell - 0.5
        j_low = (column - reach_x / grid.cell).ceil().clamp(0, grid.cols)
        j_high = (column + reach_x / grid.cell).floor().clamp(-1, grid.cols - 1)
        i_low = (row - reach_y / grid.cell).ceil().clamp(0, grid.rows)
        i_high = (row + reach_y / grid.cell).floor().clamp(-1, grid.rows - 1)
        across = (j_high - j_low + 1).clamp(min=0).int()
        count = across * (i_high - i_low + 1).clamp(min=0).int() * usable
        chosen = torch.nonzero(count).squeeze(1)
        count, across = count[chosen], across[chosen]

        which = torch.repeat_interleave(torch.arange(len(chosen)), count)
        # Per box, once: u and v are affine in the cell's (i, j), and so is its place in the canvas.
        dx = (grid.x_min + (j_low + 0.5) * grid.cell - x)[chosen]
        dy = (grid.y_min + (i_low + 0.5) * grid.cell - y)[chosen]
        c, s = cos[chosen], sin[chosen]
        wide = across.to(torch.float32)
        base = plane.reshape(-1)[chosen] * (grid.rows * grid.cols) + (i_low * grid.cols + j_low)[chosen].long()
        base, first = base.index_select(0, which), (torch.cumsum(count, 0) - count).index_select(0, which)
        # A box's cells are far fewer than 2^24, so this float division with half a cell of slack is exact.
        k = (torch.arange(len(which)) - first).to(torch.float32)
        i = (k + 0.5).mul_((1.0 / wide).index_select(0, which)).floor_()
        j = k - i * wide.index_select(0, which)
        index = base.add_((i * grid.cols + j).long())
        i, j = i.mul_(grid.cell), j.mul_(grid.cell)
        cos_cell, sin_cell = c.index_select(0, which), s.index_select(0, which)
        u = (c * dx + s * dy).index_select(0, which).add_(j * cos_cell).add_(i * sin_cell).abs_()
        v = (c * dy - s * dx).index_select(0, which).add_(i * cos_cell).sub_(j * sin_cell).abs_()
        outside_u = u.sub_((length[chosen] / 2.0).index_select(0, which))
        outside_v = v.sub_((width[chosen] / 2.0).index_select(0, which))
        near = torch.maximum(outside_u, outside_v) <= margin
        tau = grid.cell / 4.0
        falls_u = _exactly(np.exp, outside_u.clamp_(max=margin).div_(tau)).add_(1.0)
        falls_v = _exactly(np.exp, outside_v.clamp_(max=margin).div_(tau)).add_(1.0)
        occupancy = near / falls_u.mul_(falls_v)
        return _Cells(index, occupancy, chosen.index_select(0, which))


# ------------------------------------------------------------------------------------------------------ details


def _exactly(function: np.ufunc, values: Tensor) -> Tensor:
    """The function of each value by NumPy's loop, which treats all places of an array alike.

    Torch computes the last few elements of an array by other code than the rest, one unit in the last place apart: a
    candidate's footprint would depend on how many candidates come with it.
    """
    return torch.from_numpy(function(values.contiguous().numpy()))


def _draw_tracks(
    agents: Tracks, ego: Tracks, steps: Int[ndarray, "T"], observed: Float[Tensor, "H W"], grid: Grid
) -> Float32[Tensor, "T 5 H W"]:
    own = np.where(ego.valid[0, steps, None], ego.states[0, steps, :2], np.nan)
    return draw_dynamic(
        torch.from_numpy(np.asarray(agents.states[:, steps], dtype=np.float32)).transpose(0, 1)[None],
        torch.from_numpy(np.asarray(agents.sizes, dtype=np.float32))[None],
        torch.from_numpy(agents.kinds.astype(np.int64))[None],
        torch.from_numpy(agents.valid[:, steps].T.copy())[None],
        grid,
        observed[None],
        torch.from_numpy(own.astype(np.float32))[None],
    )[0]


def _draw_ego(states: Float[Tensor, "K T N 4"], start: Start, grid: Grid) -> Float32[Tensor, "K T H W"]:
    sizes = torch.tensor([start.length, start.width]).expand(*states.shape[:-1], 2)
    return draw_boxes(states, sizes, torch.isfinite(states).all(-1), grid)


def _digest(static: Tensor, history: Tensor, grid: Grid, start: Start) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (static, history):
        digest.update(repr(tuple(part.shape)).encode())
        digest.update(part.contiguous().numpy().tobytes())
    numbers = (start.speed, start.accel, start.curvature, start.length, start.width, start.target_speed)
    digest.update(repr((grid, tuple(float(number) for number in numbers))).encode())
    digest.update(np.ascontiguousarray(start.route).tobytes())
    return digest.hexdigest()
