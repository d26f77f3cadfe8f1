"""Logs with a moved ego: what is out of its reach keeps its label, what is not has none, pairs stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wmplan.contracts import GRIDS, RASTER_HISTORY
from wmplan.models.training import Examples
from wmplan.models.training.perturbed import along_path, perturbed

GRID = GRIDS["nano"]
AHEAD = 4


def driven(count: int = 8, names: tuple[str, ...] | None = None) -> Examples:
    """An ego at 10 m/s along x; a car 12 m ahead of it at its speed, and one parked 30 m to the side."""
    frames = RASTER_HISTORY + AHEAD
    time = 0.5 * (np.arange(frames) - RASTER_HISTORY + 1)
    states = np.zeros((count, frames, 2, 5), np.float32)
    states[:, :, 0, 0], states[:, :, 0, 3] = 12.0 + 10.0 * time, 10.0
    states[:, :, 1, 0], states[:, :, 1, 1] = 5.0, 30.0
    ego = np.zeros((count, frames, 4), np.float32)
    ego[:, :, 0], ego[:, :, 3] = 10.0 * time, 10.0
    sizes = np.tile(np.float32([4.5, 2.0]), (count, 2, 1))
    return Examples(
        names or tuple(f"s{i}" for i in range(count)), ("g",) * count,
        np.zeros((count, 8, GRID.rows, GRID.cols), np.uint8), np.ones((count, GRID.rows, GRID.cols), np.uint8),
        states, sizes, np.zeros((count, 2), np.int8), np.ones((count, frames, 2), bool), ego, sizes[:, 0].copy(), GRID,
    )  # fmt: skip


def moved(examples: Examples, share: float):
    rows = np.arange(len(examples))
    batch = examples.batch(rows)
    sizes = torch.from_numpy(examples.ego_size)
    return batch, perturbed(batch, GRID, sizes, share, torch.Generator().manual_seed(0))


def test_who_may_have_reacted_loses_the_label_and_nobody_else():
    before, after = moved(driven(), 1.0)
    assert not torch.allclose(after.ego[:, -1, 0], before.ego[:, -1, 0], atol=0.1)
    assert torch.equal(after.ego[:, 0], before.ego[:, 0])
    assert not after.valid[:, RASTER_HISTORY:, 0].any()  # the car in front
    assert after.valid[:, RASTER_HISTORY:, 1].all()  # the parked one
    assert torch.equal(after.valid[:, :RASTER_HISTORY], before.valid[:, :RASTER_HISTORY])
    observed = after.frames[:, RASTER_HISTORY:, 4]
    for t in range(AHEAD):
        column = int((12.0 + 5.0 * (t + 1) - GRID.x_min) / GRID.cell)
        if column < GRID.cols:
            assert not observed[:, t, 32, column].any()
        assert observed[:, t, 62, 21].all()
    assert torch.equal(after.frames[:, :RASTER_HISTORY], before.frames[:, :RASTER_HISTORY])
    # The footprints are those of the ego that moved.
    centre = (after.footprints * torch.arange(GRID.cols)).sum((2, 3)) / after.footprints.sum((2, 3))
    assert torch.allclose(centre * GRID.cell + GRID.x_min + 0.5 * GRID.cell, after.ego[..., 0], atol=0.1)


def test_pairs_and_the_rest_of_the_batch_stay_as_they_are():
    pairs = driven(2, ("s/do0", "s/do1"))
    before, after = moved(pairs, 1.0)
    assert after is before
    before, after = moved(driven(64), 0.25)
    changed = (after.ego != before.ego).any(-1).any(-1)
    assert changed.float().mean() == pytest.approx(0.25, abs=0.12)
    assert torch.equal(after.valid[~changed], before.valid[~changed])
    assert torch.equal(after.frames[~changed], before.frames[~changed])


def test_the_moved_ego_keeps_to_its_path_at_another_speed():
    angle = 0.1 * torch.arange(7)
    circle = torch.stack([50.0 * torch.sin(angle), 50.0 - 50.0 * torch.cos(angle), angle, torch.full((7,), 10.0)], -1)
    ego = circle.expand(3, -1, -1)
    same, slower, faster = along_path(ego, torch.tensor([0.0, -2.0, 1.0]))
    assert torch.allclose(same, circle, atol=0.02)
    time = 0.5 * torch.arange(7)
    assert torch.allclose(slower[:, 3], 10.0 - 2.0 * time)
    assert torch.allclose(50.0 * slower[:, 2], 10.0 * time - time**2, atol=0.05)
    radius = (slower[:, :2] - torch.tensor([0.0, 50.0])).norm(dim=-1)
    assert torch.allclose(radius, torch.full((7,), 50.0), atol=0.1)  # chords of the arc
    assert faster[-1, 0] > circle[-1, 0]
    stopped = along_path(ego[:1], torch.tensor([-10.0]))[0]
    assert torch.equal(stopped[3:, :2], stopped[2:3, :2].expand(4, 2))
