"""Training examples in memory: states, not rasters. Dynamic rasters are drawn batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int8, UInt8
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import LANE_DIRECTION, RASTER_HISTORY, STATIC_CHANNELS, Grid, SceneRaster
from wmplan.errors import InputError
from wmplan.raster import STRIDE, draw_boxes, draw_dynamic, rasterize
from wmplan.scene import HISTORY_STEPS, Future, Kind, Scene

MOST_AGENTS = 96
"""Agents kept of a scene: those that come into the window, the nearest first."""
MARK = "/do"
"""Stands between a scene's id and the number of a plan in the id of a counterfactual example."""
EGO_JUMP_M = 30.0
"""An ego that moves further in half a second is a fault of the log; its scene is left out."""


@dataclass(frozen=True)
class Batch:
    """B scenes: `frames` is history and future in one, `RASTER_HISTORY` + T dynamic frames 0.5 s apart.

    `states` (x, y, yaw, vx, vy), `sizes`, `valid` are the boxes behind the frames; `ego` is x, y, yaw, v at t0 and T
    steps on, `footprints` its boxes. `scenes` numbers the rows, counterfactuals of one scene alike.
    """

    static: Float32[Tensor, "B C H W"]
    frames: Float32[Tensor, "B F 5 H W"]
    states: Float32[Tensor, "B F A 5"]
    sizes: Float32[Tensor, "B A 2"]
    valid: Bool[Tensor, "B F A"]
    ego: Float32[Tensor, "B steps 4"]
    footprints: Float32[Tensor, "B steps H W"]
    scenes: Int[Tensor, "B"]

    @property
    def horizon(self) -> int:
        """Future steps."""
        return self.ego.shape[1] - 1


@dataclass(frozen=True)
class Examples:
    """S scenes with what followed them, small enough to stay in memory (about 90 kB a scene at `nano`)."""

    scene_ids: tuple[str, ...]
    groups: tuple[str, ...]
    static: UInt8[ndarray, "S C H W"]
    observed: UInt8[ndarray, "S H W"]
    states: Float32[ndarray, "S F A 5"]
    sizes: Float32[ndarray, "S A 2"]
    kinds: Int8[ndarray, "S A"]
    valid: Bool[ndarray, "S F A"]
    ego: Float32[ndarray, "S F 4"]
    ego_size: Float32[ndarray, "S 2"]
    grid: Grid

    def __len__(self) -> int:
        return len(self.scene_ids)

    @property
    def horizon(self) -> int:
        """Future steps of every example."""
        return self.states.shape[1] - RASTER_HISTORY

    @property
    def fullness(self) -> Float[ndarray, "S"]:
        """Area of the boxes in the window at t0, m2: how many particles a scene will have, about."""
        now = RASTER_HISTORY - 1
        x, y = self.states[:, now, :, 0], self.states[:, now, :, 1]
        grid = self.grid
        right, top = grid.x_min + grid.cols * grid.cell, grid.y_min + grid.rows * grid.cell
        inside = self.valid[:, now] & (x > grid.x_min) & (x < right) & (y > grid.y_min) & (y < top)
        return (inside * self.sizes.prod(-1)).sum(1)

    @property
    def digest(self) -> str:
        """Identifies the content."""
        digest = hashlib.blake2b("\x1f".join(self.scene_ids).encode(), digest_size=16)
        for part in (self.static, self.states, self.valid, self.ego):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def select(self, rows: Int[ndarray, "N"]) -> Examples:
        """These scenes, in this order."""
        arrays = {
            f.name: getattr(self, f.name)[rows] for f in fields(self) if isinstance(getattr(self, f.name), ndarray)
        }
        ids, groups = (tuple(names[i] for i in rows) for names in (self.scene_ids, self.groups))
        return replace(self, scene_ids=ids, groups=groups, **arrays)

    def batch(self, rows: Int[ndarray, "B"], mirror: Bool[ndarray, "B"] | None = None) -> Batch:
        """These scenes as a batch; those of `mirror` are reflected in the ego's x axis."""
        static = torch.from_numpy(self.static[rows]).float() / 255.0
        static[:, LANE_DIRECTION] = 2.0 * static[:, LANE_DIRECTION] - 1.0  # kept in [0, 1], as all others are
        observed = torch.from_numpy(self.observed[rows]).float()
        states, ego = torch.from_numpy(self.states[rows]), torch.from_numpy(self.ego[rows])
        if mirror is not None:
            flip = torch.from_numpy(mirror)[:, None, None]
            static = torch.where(flip[..., None], static.flip(2), static)
            static[:, 3] = torch.where(flip, -static[:, 3], static[:, 3])
            observed = torch.where(flip, observed.flip(1), observed)
            signs = torch.tensor([1.0, -1.0, -1.0, 1.0, -1.0])
            states = torch.where(flip[..., None], states * signs, states)
            ego = torch.where(flip, ego * signs[:4], ego)
        sizes, valid = torch.from_numpy(self.sizes[rows]), torch.from_numpy(self.valid[rows])
        kinds = torch.from_numpy(self.kinds[rows]).long()
        frames = draw_dynamic(states, sizes, kinds, valid, self.grid, observed, ego[..., :2])
        now = ego[:, RASTER_HISTORY - 1 :]
        ego_sizes = torch.from_numpy(self.ego_size[rows])[:, None, None].expand(-1, now.shape[1], -1, -1)
        shown = torch.ones(*now.shape[:2], 1, dtype=torch.bool)
        footprints = draw_boxes(now[:, :, None], ego_sizes, shown, self.grid)
        moving = valid & (kinds != Kind.OTHER)[:, None]
        ids = [self.scene_ids[i] for i in rows]
        names = [scene_of(name) if MARK in name else str(i) for i, name in enumerate(ids)]
        scenes = torch.tensor([names.index(name) for name in names])
        return Batch(static, frames, states, sizes, moving, now, footprints, scenes)

    @staticmethod
    def concatenate(parts: list[Examples]) -> Examples:
        """All examples of the parts, in order."""
        arrays = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(Examples)
            if isinstance(getattr(parts[0], f.name), ndarray)
        }
        ids, groups = (tuple(x for part in parts for x in getattr(part, name)) for name in ("scene_ids", "groups"))
        return replace(parts[0], scene_ids=ids, groups=groups, **arrays)

    @staticmethod
    def build(pairs: Iterable[tuple[Scene, Future]], grid: Grid, horizon: int, agents: int = MOST_AGENTS) -> Examples:
        """The scenes with a complete ego future of `horizon` imagined steps.

        Raises:
            InputError: if none is left.
        """
        rows, before = [], None
        for scene, future in pairs:
            # Counterfactuals share their scene's map and past, and its raster with them.
            if before is None or scene.road_map is not before[0].road_map or scene.agents is not before[0].agents:
                before = scene, rasterize(scene, grid)
            row = _example(scene, future, before[1], horizon, agents)
            if row is not None:
                rows.append(row)
        if not rows:
            seconds = 0.5 * horizon
            raise InputError(f"training data: no scene with a complete ego future of {seconds:.1f} s, expected some")
        columns = list(zip(*rows, strict=True))
        static, observed, states, sizes, kinds, valid, ego, ego_size = (np.stack(column) for column in columns[2:])
        return Examples(
            tuple(columns[0]), tuple(columns[1]), static, observed, states, sizes, kinds, valid, ego, ego_size, grid
        )


def scene_of(name: str) -> str:
    """The id of the scene that an example of this id began in."""
    return name.partition(MARK)[0]


def _example(scene: Scene, future: Future, raster: SceneRaster, horizon: int, most: int) -> tuple | None:
    grid = raster.grid
    past = HISTORY_STEPS - STRIDE * np.arange(RASTER_HISTORY)[::-1]
    ahead = STRIDE * np.arange(1, horizon + 1) - 1
    if not future.ego.valid[0, ahead].all():
        return None
    known, total = len(scene.agents), len(future.agents)
    states = np.zeros((RASTER_HISTORY + horizon, total, 5), np.float32)
    valid = np.zeros((RASTER_HISTORY + horizon, total), bool)
    states[:RASTER_HISTORY, :known] = scene.agents.states[:, past].swapaxes(0, 1)
    valid[:RASTER_HISTORY, :known] = scene.agents.valid[:, past].T
    states[RASTER_HISTORY:] = future.agents.states[:, ahead].swapaxes(0, 1)
    valid[RASTER_HISTORY:] = future.agents.valid[:, ahead].T
    valid &= np.isfinite(states).all(-1)
    states[~valid] = 0.0
    ego = _ego(scene, future, past, ahead)
    if not (np.hypot(*np.diff(ego[RASTER_HISTORY - 1 :, :2], axis=0).T) < EGO_JUMP_M).all():
        return None

    reach = future.agents.sizes.max(1) / 2.0
    x, y = states[..., 0], states[..., 1]
    right, top = grid.x_min + grid.cols * grid.cell, grid.y_min + grid.rows * grid.cell
    inside = valid & (x > grid.x_min - reach) & (x < right + reach) & (y > grid.y_min - reach) & (y < top + reach)
    distance = np.where(inside, np.hypot(x, y), np.inf).min(0)
    chosen = np.argsort(distance, kind="stable")[:most]
    chosen = chosen[np.isfinite(distance[chosen])]

    def padded(values: ndarray, axis: int) -> ndarray:
        width = [(0, 0)] * values.ndim
        width[axis] = (0, most - len(chosen))
        return np.pad(values.take(chosen, axis), width)

    static = raster.static.numpy().copy()
    static[LANE_DIRECTION] = (static[LANE_DIRECTION] + 1.0) / 2.0
    if len(static) != len(STATIC_CHANNELS):
        raise ValueError(f"rasterize gives {len(static)} static channels, expected {len(STATIC_CHANNELS)}")
    sizes = padded(future.agents.sizes.astype(np.float32), 0)
    return (
        scene.scene_id,
        scene.group,
        np.round(static.clip(0.0, 1.0) * 255.0).astype(np.uint8),
        raster.history[0, 4].numpy().astype(np.uint8),
        padded(states, 1),
        sizes,
        padded(future.agents.kinds.astype(np.int8), 0),
        padded(valid, 1),
        ego,
        scene.ego.sizes[0].astype(np.float32),
    )


def _ego(scene: Scene, future: Future, past: ndarray, ahead: ndarray) -> Float[ndarray, "F 4"]:
    """x, y, yaw and forward speed; where the history has no ego, its first known state."""
    states = np.concatenate([scene.ego.states[0, past], future.ego.states[0, ahead]]).astype(np.float32)
    valid = np.concatenate([scene.ego.valid[0, past], future.ego.valid[0, ahead]])
    states[: int(valid.argmax())] = states[int(valid.argmax())]
    speed = states[:, 3] * np.cos(states[:, 2]) + states[:, 4] * np.sin(states[:, 2])
    return np.concatenate([states[:, :3], speed[:, None]], axis=1).astype(np.float32)
