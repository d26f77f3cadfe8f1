"""The map of a scene as raster layers: lanes, crossings, lights, route, and what of the window the log knows."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Integer
from numpy import ndarray
from scipy.spatial import cKDTree
from torch import Tensor

from wmplan.contracts import STATIC_CHANNELS, Grid
from wmplan.scene import Feature, Light, RoadMap

LANE_HALF_WIDTH_M = 2.0
"""Without polygons, what lies this near to a lane's centreline counts as drivable."""
DECAY_M = 2.0
"""Scale of `exp(-distance / DECAY_M)` for centreline and route, and standard deviation of a light's blob."""
DIRECTION_REACH_M = 4.0
"""Beyond this distance from every lane there is no direction (0, 0)."""
PATCH_M = 8.0
"""Side of the patches in which "observed" is decided."""
FILL_SUBCELLS = 2
"""Polygons are filled on a grid this many times finer, then averaged."""
_SPACING_M = 1.0
_CROP_MARGIN_M = 12.0


def draw_map(
    road_map: RoadMap,
    grid: Grid,
    *,
    route: Float[ndarray, "R 2"] | None = None,
    light_points: Float[ndarray, "L 2"] | None = None,
    light_states: Integer[ndarray, "L"] | None = None,
) -> Float32[Tensor, "8 H W"]:
    """`STATIC_CHANNELS` of a map in the frame of the grid; `obstacle` stays empty (`raster.rasterize` draws it).

    Drivable is the union of lane areas, drivable areas, and everything within 2 m of a lane's centreline, soft at the
    edge as boxes are. Direction is the heading of the nearest lane. Lights count where they are red or yellow. To
    draw a re-anchored scene pass `road_map.seen_from(pose)`; to mirror one, flip the result by `mirrored_static`.
    """
    layers = np.zeros((len(STATIC_CHANNELS), grid.rows, grid.cols), dtype=np.float32)
    drivable, centreline, cos, sin, crosswalk, red_light, _, route_layer = layers
    points, tangents = _resampled(road_map.of_kind(Feature.LANE), grid)
    distance, heading = _nearest(points, tangents, grid)
    np.maximum(
        _fill(road_map.of_kind(Feature.LANE_AREA, Feature.DRIVABLE), grid),
        1.0 / (1.0 + np.exp(np.clip((distance - LANE_HALF_WIDTH_M) / (grid.cell / 4.0), None, 700.0))),
        out=drivable,
    )
    centreline[:] = np.exp(-distance / DECAY_M)
    directed = distance <= DIRECTION_REACH_M
    cos[directed], sin[directed] = heading[directed, 0], heading[directed, 1]
    crosswalk[:] = _fill(road_map.of_kind(Feature.CROSSWALK), grid)
    if light_points is not None and light_states is not None:
        red_light[:] = _blobs(light_points[np.isin(light_states, (Light.RED, Light.YELLOW))], grid)
    if route is not None and len(route):
        route_layer[:] = np.exp(-_nearest(*_resampled([route], grid), grid)[0] / DECAY_M)
    return torch.from_numpy(layers)


def map_observed(road_map: RoadMap, static: Float[Tensor, "8 H W"], grid: Grid) -> Float32[Tensor, "H W"]:
    """1 in 8 m patches that hold, or touch a patch that holds, anything of the map; 0 elsewhere."""
    points = torch.from_numpy(np.asarray(road_map.points, dtype=np.float32))
    seen = patches_seen(points, torch.isfinite(points).all(-1), grid)
    return torch.maximum(seen, _patches_around(static[0] + static[4] > 0.5, grid))


def patches_seen(points: Float[Tensor, "*B N 2"], valid: Bool[Tensor, "*B N"], grid: Grid) -> Float32[Tensor, "*B H W"]:
    """1 in 8 m patches that hold, or touch a patch that holds, a valid point (x, y in metres); 0 elsewhere."""
    batch = points.shape[:-2]
    j = torch.nan_to_num((points[..., 0] - grid.x_min) / grid.cell, -1.0).floor()
    i = torch.nan_to_num((points[..., 1] - grid.y_min) / grid.cell, -1.0).floor()
    inside = valid & (j >= 0) & (j < grid.cols) & (i >= 0) & (i < grid.rows)
    patch = round(PATCH_M / grid.cell)
    rows, cols = -(-grid.rows // patch), -(-grid.cols // patch)
    index = torch.where(inside, (i / patch).floor() * cols + (j / patch).floor(), torch.full_like(i, rows * cols))
    coarse = torch.zeros(batch.numel(), rows * cols + 1)
    coarse.scatter_(1, index.reshape(batch.numel(), -1).long(), 1.0)
    return _spread(coarse[:, :-1].reshape(-1, 1, rows, cols), patch, grid).reshape(*batch, grid.rows, grid.cols)


def mirrored_static(static: Float[Tensor, "*B 8 H W"]) -> Float[Tensor, "*B 8 H W"]:
    """The static channels of the scene mirrored left to right (y to -y), for a grid symmetric in y."""
    flipped = static.flip(-2).clone()
    flipped[..., 3, :, :] *= -1.0
    return flipped


def mirrored_dynamic(dynamic: Float[Tensor, "*B 5 H W"]) -> Float[Tensor, "*B 5 H W"]:
    """The dynamic channels of the scene mirrored left to right (y to -y), for a grid symmetric in y."""
    flipped = dynamic.flip(-2).clone()
    flipped[..., 3, :, :] *= -1.0
    return flipped


# ------------------------------------------------------------------------------------------------------ details


def _patches_around(cells: Bool[Tensor, "H W"], grid: Grid) -> Float32[Tensor, "H W"]:
    patch = round(PATCH_M / grid.cell)
    padded = torch.nn.functional.pad(cells.float(), (0, -grid.cols % patch, 0, -grid.rows % patch))
    coarse = torch.nn.functional.max_pool2d(padded[None, None], patch)
    return _spread(coarse, patch, grid)[0]


def _spread(coarse: Tensor, patch: int, grid: Grid) -> Tensor:
    near = torch.nn.functional.max_pool2d(coarse, 3, stride=1, padding=1)[:, 0]
    return near.repeat_interleave(patch, -2).repeat_interleave(patch, -1)[..., : grid.rows, : grid.cols]


def _centres(grid: Grid, finer: int = 1) -> tuple[ndarray, ndarray]:
    """x of the columns and y of the rows of the grid cut `finer` times."""
    cell = grid.cell / finer
    x = grid.x_min + (np.arange(grid.cols * finer) + 0.5) * cell
    y = grid.y_min + (np.arange(grid.rows * finer) + 0.5) * cell
    return x, y


def _resampled(lines: list[ndarray], grid: Grid) -> tuple[Float[ndarray, "N 3"], Float[ndarray, "N 2"]]:
    """Equal pieces (at most 1 m) of every segment near the window: middle x, y and half length; unit direction."""
    if not lines:
        return np.zeros((0, 3)), np.zeros((0, 2))
    starts = np.concatenate([line[:-1] for line in lines]).astype(np.float64)
    ends = np.concatenate([line[1:] for line in lines]).astype(np.float64)
    low = np.array([grid.x_min, grid.y_min]) - _CROP_MARGIN_M
    high = np.array([grid.x_min + grid.cols * grid.cell, grid.y_min + grid.rows * grid.cell]) + _CROP_MARGIN_M
    near = (np.maximum(starts, ends) >= low).all(1) & (np.minimum(starts, ends) <= high).all(1)
    starts, ends = starts[near], ends[near]
    steps = ends - starts
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    keep = lengths > 1e-6
    starts, steps, lengths = starts[keep], steps[keep], lengths[keep]
    pieces = np.maximum(np.ceil(lengths / _SPACING_M), 1).astype(int)
    which = np.repeat(np.arange(len(pieces)), pieces)
    share = (np.arange(len(which)) - (np.cumsum(pieces) - pieces)[which] + 0.5) / pieces[which]
    middles = starts[which] + steps[which] * share[:, None]
    inside = (middles >= low).all(1) & (middles <= high).all(1)
    half = 0.5 * (lengths / pieces)[which]
    points = np.concatenate([middles, half[:, None]], axis=1)
    return points[inside], (steps / lengths[:, None])[which][inside]


def _nearest(points: ndarray, tangents: ndarray, grid: Grid) -> tuple[Float[ndarray, "H W"], Float[ndarray, "H W 2"]]:
    """Distance (m) of every cell centre to the nearest piece of a line, and the direction of that piece."""
    x, y = _centres(grid)
    shape = (grid.rows, grid.cols)
    if not len(points):
        return np.full(shape, np.inf), np.zeros((*shape, 2))
    cells = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    reach, found = cKDTree(points[:, :2]).query(cells, distance_upper_bound=_CROP_MARGIN_M)
    known = np.isfinite(reach)
    found = np.where(known, found, 0)
    offset = cells - points[found, :2]
    along = (offset * tangents[found]).sum(1)
    offset -= np.clip(along, -points[found, 2], points[found, 2])[:, None] * tangents[found]
    distance = np.where(known, np.hypot(offset[:, 0], offset[:, 1]), np.inf)
    return distance.reshape(shape), tangents[found].reshape(*shape, 2)


def _fill(polygons: list[ndarray], grid: Grid) -> Float32[ndarray, "H W"]:
    """Share of each cell inside the union of the closed polygons (even-odd rule within one), on the finer grid."""
    x, y = _centres(grid, FILL_SUBCELLS)
    cell = grid.cell / FILL_SUBCELLS
    inside = np.zeros((len(y), len(x)), dtype=bool)
    for polygon in polygons:
        if len(polygon) < 3:
            continue
        a = np.asarray(polygon, dtype=np.float64)
        (x_low, y_low), (x_high, y_high) = a.min(0), a.max(0)
        if x_high < x[0] or x_low > x[-1] or y_high < y[0] or y_low > y[-1]:
            continue
        first, last = np.searchsorted(y, y_low), np.searchsorted(y, y_high, side="right")
        left = min(max(int(np.floor((x_low - grid.x_min) / cell)), 0), len(x))
        right = min(max(int(np.ceil((x_high - grid.x_min) / cell)) + 1, 0), len(x))
        rows = y[first:last, None]
        b = np.roll(a, -1, axis=0)
        edge = a[:, 1] != b[:, 1]
        (x0, y0), (x1, y1) = a[edge].T, b[edge].T
        crossed = (y0 <= rows) != (y1 <= rows)
        row, which = np.nonzero(crossed)
        at = x0[which] + (y[first + row] - y0[which]) / (y1[which] - y0[which]) * (x1[which] - x0[which])
        # The first cell whose centre lies beyond the crossing; from there on the parity is flipped.
        column = np.clip(np.ceil((at - grid.x_min) / cell - 0.5).astype(int), left, right) - left
        width = right - left + 1
        flips = np.bincount(row * width + column, minlength=(last - first) * width).reshape(last - first, width)
        inside[first:last, left:right] |= (np.cumsum(flips[:, :-1], axis=1) % 2).astype(bool)
    fine = inside.reshape(grid.rows, FILL_SUBCELLS, grid.cols, FILL_SUBCELLS)
    return fine.mean(axis=(1, 3), dtype=np.float32)


def _blobs(points: Float[ndarray, "N 2"], grid: Grid) -> Float32[ndarray, "H W"]:
    """Largest of exp(-d^2 / (2 * (2 m)^2)) over the points, in every cell."""
    if not len(points):
        return np.zeros((grid.rows, grid.cols), dtype=np.float32)
    x, y = _centres(grid)
    across = np.exp(-((x[None] - points[:, :1]) ** 2) / (2.0 * DECAY_M**2))
    along = np.exp(-((y[None] - points[:, 1:]) ** 2) / (2.0 * DECAY_M**2))
    return (along[:, :, None] * across[:, None, :]).max(0).astype(np.float32)
