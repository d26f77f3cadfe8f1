"""A scene some seconds on, re-anchored at where the ego truly was, and imagined frames brought into its frame."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wmplan.contracts import Grid
from wmplan.errors import InputError
from wmplan.frames import Pose
from wmplan.models.warp import cell_centres
from wmplan.route import route_of
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, STEP_S, Future, Lights, Scene, Tracks


def later(scene: Scene, future: Future, steps: int) -> tuple[Scene, Future, Pose]:
    """The scene `steps` of 0.1 s on, what followed it, and where its frame lies in the frame of the first.

    Raises:
        InputError: the log does not show the ego then.
    """
    if not HISTORY_STEPS < steps < FUTURE_STEPS:
        raise ValueError(f"later: {steps} steps, expected more than {HISTORY_STEPS} and fewer than {FUTURE_STEPS}")
    if not future.ego.valid[0, steps - 1]:
        raise InputError(f"scene {scene.scene_id}: the log does not show the ego at t0 + {steps * STEP_S:g} s")
    x, y, yaw = (float(v) for v in future.ego.states[0, steps - 1, :3])
    pose = Pose(x, y, yaw)
    past = slice(steps - 1 - HISTORY_STEPS, steps)
    road_map = scene.road_map.seen_from(pose)
    route, on_map = route_of(road_map)
    there = future.agents.valid[:, past].any(1)
    rows = np.concatenate([np.flatnonzero(there), np.flatnonzero(~there)])  # those of the scene come first
    agents = future.agents.select(rows)
    points = pose.to_local(future.lights.points.astype(np.float64)).astype(np.float32)
    lights = Lights(points, future.lights.lanes, future.lights.states[:, steps - 1 : steps])
    name = f"{scene.scene_id}+{steps * STEP_S:g}s"
    now = replace(
        scene,
        scene_id=name,
        t0_s=scene.t0_s + steps * STEP_S,
        anchor=_within(scene.anchor, pose),
        ego=_cut(future.ego, past).seen_from(pose),
        agents=_cut(agents.select(list(range(int(there.sum())))), past).seen_from(pose),
        road_map=road_map,
        lights=lights,
        route=route,
        route_on_map=on_map,
    )
    rest = slice(steps, FUTURE_STEPS)
    after = Lights(points, future.lights.lanes, _padded(future.lights.states[:, rest]))
    ego, others = (_until_the_end(_cut(tracks, rest).seen_from(pose)) for tracks in (future.ego, agents))
    return now, Future(name, ego, others, after), pose


def carried(frames: Float[Tensor, "T 4 H W"], grid: Grid, pose: Pose) -> Float[Tensor, "T 5 H W"]:
    """Frames (occupancy, velocity) of the grid seen from `pose`, by bilinear sampling; the last channel is 1 where the
    old window has been."""
    centres = cell_centres(grid).double().numpy()
    outer = torch.from_numpy(pose.to_outer(centres)).float()
    column = (outer[..., 0] - grid.x_min) / (grid.cols * grid.cell) * 2.0 - 1.0
    row = (outer[..., 1] - grid.y_min) / (grid.rows * grid.cell) * 2.0 - 1.0
    where = torch.stack([column, row], dim=-1)
    # Velocity weighted by occupancy, so that edges keep their speed when they are averaged with nothing.
    total = frames[:, :2].sum(1, keepdim=True)
    planes = torch.cat([frames[:, :2], frames[:, 2:4] * total, total, torch.ones_like(total)], dim=1)
    moved = torch.nn.functional.grid_sample(
        planes, where.expand(len(frames), *where.shape), mode="bilinear", align_corners=False
    )
    inside = (where.abs() <= 1.0).all(-1).to(frames.dtype)
    velocity = torch.where(moved[:, 4:5] > 1e-3, moved[:, 2:4] / moved[:, 4:5].clamp(min=1e-3), 0.0)
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    vx, vy = velocity.unbind(1)
    turned = torch.stack([c * vx + s * vy, c * vy - s * vx], dim=1)
    parts = [moved[:, :2].clamp(0.0, 1.0), turned, inside.expand(len(frames), 1, *inside.shape)]
    return torch.cat([parts[0] * parts[2], parts[1] * parts[2], parts[2]], dim=1)


def _cut(tracks: Tracks, steps: slice) -> Tracks:
    return tracks.steps(steps.start, steps.stop)


def _until_the_end(tracks: Tracks) -> Tracks:
    """The same tracks with as many steps as a future has; nobody is there in those that are added."""
    missing = FUTURE_STEPS - tracks.valid.shape[1]
    states = np.pad(tracks.states, ((0, 0), (0, missing), (0, 0)))
    return Tracks(tracks.ids, tracks.kinds, tracks.sizes, states, np.pad(tracks.valid, ((0, 0), (0, missing))))


def _padded(states: np.ndarray) -> np.ndarray:
    return np.pad(states, ((0, 0), (0, FUTURE_STEPS - states.shape[1])))


def _within(outer: Pose, inner: Pose) -> Pose:
    """A pose in the frame of another, as a pose of the world."""
    x, y = outer.to_outer(np.array([inner.x, inner.y]))
    return Pose(float(x), float(y), outer.yaw + inner.yaw)
