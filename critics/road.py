"""Where plans go on the map of a raster: drivable area, lane direction, red lights, the route."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.contracts import STATIC_CHANNELS, Grid, SceneRaster
from wmplan.plans import Plans
from wmplan.rules import DRIVABLE_TOLERANCE_M, worst_against

RED_LIGHT_LEVEL = 0.6
"""Value of the red-light layer (exp(-d^2 / 8 m^2)) at the box's centre from which the light counts as passed: 2 m."""
DRIVABLE_LEVEL = 0.6
"""Value of the drivable layer below which a corner is outside. Between cells of 1 m the layer rounds corners off: at
0.5 a third of the plans that truly leave the road (simulator, seed 400) count as staying on it, at 0.6 an eighth."""


@dataclass(frozen=True)
class RoadUse:
    """K plans against the map; nothing here depends on what is imagined.

    `offroad` is the share of the box's outline points outside, per step, beyond what was outside at t0; `leaves` is
    whether a corner is ever outside although none was at t0 (NAVSIM), `leaves_far` the same with nuPlan's tolerance of
    0.3 m; `against_m` the metres driven
    against the lanes in the worst second; `red_light` 1 where a red light is passed, rising from 0 before it;
    `outside` the share of steps with the centre beyond the window, where nothing is known.
    """

    offroad: Float[ndarray, "K T"]
    leaves: Float[ndarray, "K"]
    leaves_far: Float[ndarray, "K"]
    against_m: Float[ndarray, "K"]
    red_light: Float[ndarray, "K"]
    outside: Float[ndarray, "K"]


def road_use(raster: SceneRaster, plans: Plans) -> RoadUse:
    """How each plan uses the road. A map without drivable cells says nothing, nor does the area off the window."""
    layer = {name: raster.static[i].detach().numpy() for i, name in enumerate(STATIC_CHANNELS)}
    start, grid = raster.start, raster.grid
    states = plans.states.astype(np.float64)
    x, y, yaw = (np.ascontiguousarray(states[:, :, i]) for i in range(3))
    cos, sin = np.cos(yaw), np.sin(yaw)

    offroad = np.zeros(x.shape)
    beyond = {tolerance: np.zeros(x.shape, dtype=bool) for tolerance in (0.0, DRIVABLE_TOLERANCE_M)}
    if (layer["drivable"] > 0.5).any():
        corners = [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)]
        for a, b in corners:
            for tolerance, outside in beyond.items():
                u, v = a * (start.length / 2.0 - tolerance), b * (start.width / 2.0 - tolerance)
                value = _sample(layer["drivable"], x + u * cos - v * sin, y + u * sin + v * cos, grid, unknown=1.0)
                outside |= value < DRIVABLE_LEVEL
            offroad = offroad + (1.0 - value) / len(corners)  # of the corners with the tolerance
    leaves, leaves_far = (outside.any(axis=1) & ~outside[:, 0] for outside in beyond.values())

    dx, dy = np.diff(x, axis=1), np.diff(y, axis=1)
    lane_x = _sample(layer["direction_cos"], x[:, :-1], y[:, :-1], grid, unknown=0.0)
    lane_y = _sample(layer["direction_sin"], x[:, :-1], y[:, :-1], grid, unknown=0.0)
    against = worst_against(dx * lane_x + dy * lane_y)

    red = _sample(layer["red_light"], x, y, grid, unknown=0.0)
    before = np.maximum(red[:, 0], RED_LIGHT_LEVEL - 0.2)
    rise = (red.max(axis=1) - before) / 0.2
    red_light = np.where(red[:, 0] >= RED_LIGHT_LEVEL, 0.0, np.clip(rise, 0.0, 1.0))
    return RoadUse(
        offroad=np.maximum(offroad[:, 1:] - offroad[:, :1], 0.0),
        leaves=leaves.astype(np.float64),
        leaves_far=leaves_far.astype(np.float64),
        against_m=against,
        red_light=red_light,
        outside=_share(~_known(x[:, 1:], y[:, 1:], grid)),
    )


def _known(x: ndarray, y: ndarray, grid: Grid) -> ndarray:
    right, top = grid.x_min + grid.cols * grid.cell, grid.y_min + grid.rows * grid.cell
    return (x >= grid.x_min) & (x <= right) & (y >= grid.y_min) & (y <= top)


def _sample(layer: ndarray, x: ndarray, y: ndarray, grid: Grid, unknown: float) -> ndarray:
    """Bilinear value between cell centres; `unknown` beyond the window."""
    known = _known(x, y, grid)
    column = np.clip((x - grid.x_min) / grid.cell - 0.5, 0.0, grid.cols - 1.0)
    row = np.clip((y - grid.y_min) / grid.cell - 0.5, 0.0, grid.rows - 1.0)
    j = np.minimum(column.astype(np.int64), grid.cols - 2)
    i = np.minimum(row.astype(np.int64), grid.rows - 2)
    a, b = column - j, row - i
    low = layer[i, j] * (1.0 - a) + layer[i, j + 1] * a
    high = layer[i + 1, j] * (1.0 - a) + layer[i + 1, j + 1] * a
    return np.where(known, low * (1.0 - b) + high * b, unknown)


def _share(flags: ndarray) -> ndarray:
    return np.count_nonzero(flags, axis=1) / flags.shape[1]
