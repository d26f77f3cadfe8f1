"""Small scenes for critics: boxes drawn as imagined occupancy on the nano grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from wmplan.contracts import GRIDS, STATIC_CHANNELS, Context, Imagined, SceneRaster
from wmplan.plans import Plans, Start
from wmplan.raster import draw_boxes

GRID = GRIDS["nano"]


def make_start(speed: float = 10.0, target: float = 12.0, accel: float = 0.0, curvature: float = 0.0) -> Start:
    route = np.stack([np.arange(64) * 1.5, np.zeros(64)], axis=1).astype(np.float32)
    return Start(speed, accel, curvature, 4.8, 2.0, target, route)


def make_context(
    start: Start, layers: dict[str, np.ndarray] | None = None, history: torch.Tensor | None = None
) -> Context:
    static = torch.zeros(len(STATIC_CHANNELS), GRID.rows, GRID.cols)
    static[STATIC_CHANNELS.index("drivable")] = 1.0
    for name, layer in (layers or {}).items():
        static[STATIC_CHANNELS.index(name)] = torch.from_numpy(layer.astype(np.float32))
    if history is None:
        history = torch.zeros(4, 5, GRID.rows, GRID.cols)
    return Context(SceneRaster("scene", "digest", GRID, static, history, start), None)


def constant(accel: list[float], speed: float = 10.0, curvature: float = 0.0) -> Plans:
    controls = np.zeros((len(accel), 30, 2))
    controls[:, :, 0] = np.array(accel)[:, None]
    controls[:, :, 1] = curvature
    return Plans.from_controls(controls, speed)


def boxes_over_time(
    candidates: int,
    agents: list[tuple[float, float, float, float, float, float, int]],
    samples: int = 2,
    steps: int = 6,
) -> Imagined:
    """Each agent: x, y at t0, yaw, speed, length, width, channel; it keeps its velocity, the same in all samples."""
    occupancy = torch.zeros(steps, 2, GRID.rows, GRID.cols)
    velocity = torch.zeros(steps, 2, GRID.rows, GRID.cols)
    for x, y, yaw, speed, length, width, channel in agents:
        vx, vy = speed * np.cos(yaw), speed * np.sin(yaw)
        time = 0.5 * np.arange(1, steps + 1)
        states = np.stack([x + vx * time, y + vy * time, np.full(steps, yaw)], axis=1)[:, None]
        size = torch.tensor([[[length, width]]], dtype=torch.float32)
        drawn = draw_boxes(torch.tensor(states, dtype=torch.float32), size, torch.ones(1, 1, dtype=torch.bool), GRID)
        occupancy[:, channel] = torch.maximum(occupancy[:, channel], drawn)
        for axis, v in enumerate((vx, vy)):
            velocity[:, axis] = torch.where(drawn > 0.05, torch.tensor(v, dtype=torch.float32), velocity[:, axis])

    def expand(part: torch.Tensor) -> torch.Tensor:
        return part.expand(candidates, samples, *part.shape)

    return Imagined(expand(occupancy), expand(velocity), torch.zeros(candidates, samples, steps, 4), GRID)


def random_imagined(candidates: int, seed: int = 0, samples: int = 3) -> Imagined:
    """Blobs that differ between candidates and samples, with noisy velocities and latents."""
    rng = np.random.default_rng(seed)
    count, steps = 12, 6
    states = np.zeros((candidates, samples, steps, count, 3), dtype=np.float32)
    start = rng.uniform([-15.0, -20.0], [45.0, 20.0], (count, 2))
    speed = rng.normal(0.0, 5.0, (count, 2))
    for t in range(steps):
        states[:, :, t, :, :2] = start + speed * 0.5 * (t + 1) + rng.normal(0.0, 0.4, (candidates, samples, count, 2))
    size = torch.tensor([[4.5, 1.9]]).expand(count, 2)
    drawn = draw_boxes(torch.from_numpy(states), size, torch.ones(1, 1, 1, count, dtype=torch.bool), GRID)
    occupancy = torch.stack([drawn, 0.4 * drawn.flip(-2)], dim=3)
    shape = occupancy.shape
    velocity = torch.from_numpy(rng.normal(0.0, 4.0, shape).astype(np.float32))
    latents = torch.from_numpy(rng.normal(0.0, 0.3, (candidates, samples, steps, 33)).astype(np.float32))
    return Imagined(occupancy.contiguous(), velocity, latents, GRID)


def pick(imagined: Imagined, rows: list[int]) -> Imagined:
    return Imagined(imagined.occupancy[rows], imagined.velocity[rows], imagined.latents[rows], imagined.grid)


@pytest.fixture(scope="session")
def toy() -> Toy:
    """Builders of toy scenes."""
    return Toy()


class Toy:
    """The builders above under one name."""

    grid = GRID
    start: Callable[..., Start] = staticmethod(make_start)
    context: Callable[..., Context] = staticmethod(make_context)
    constant: Callable[..., Plans] = staticmethod(constant)
    boxes: Callable[..., Imagined] = staticmethod(boxes_over_time)
    random: Callable[..., Imagined] = staticmethod(random_imagined)
    pick: Callable[..., Imagined] = staticmethod(pick)
