"""Forecasts without learning that stand in every table: nothing moves, or everything keeps its velocity."""

from __future__ import annotations

import hashlib
from typing import final

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from wmplan.contracts import GRIDS, IMAGINED_STEP_S, Context, Grid, Imagined, SceneRaster
from wmplan.errors import InputError
from wmplan.models.warp import cell_centres, splat
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank

PARTICLE_OCCUPANCY = 0.02
"""Cells with less occupancy than this do not move on: the raster gives them no velocity (`raster.OCCUPIED`)."""
LATENT_PATCHES = 8
"""Latents are the occupancy averaged over this many by this many patches."""


@final
class Persistence:
    """The occupancy at t0 stays where it is, with its velocity channel, whatever the ego does."""

    def __init__(self, grid: Grid = GRIDS["nano"], horizon: int = 6) -> None:
        self.name, self.grid, self.horizon = "persistence", grid, horizon
        self.digest = _digest(self.name, grid, horizon)

    def encode(self, raster: SceneRaster) -> Context:
        """The present frame, repeated: (T, 4, H, W)."""
        present = _present(raster, self.grid)
        return Context(raster, present.expand(self.horizon, *present.shape))

    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        """The same future for every candidate and sample, expanded and not copied."""
        return _everywhere(context.encoded, len(plans), noise.samples, self.grid)


@final
class ConstantVelocity:
    """Every occupied cell at t0 keeps its velocity, whatever the ego does.

    Each forecast step is one splat from t0, so errors of repeated resampling do not pile up; where several particles
    meet, occupancy is clamped to 1 and velocity is their occupancy-weighted mean.
    """

    def __init__(self, grid: Grid = GRIDS["nano"], horizon: int = 6) -> None:
        self.name, self.grid, self.horizon = "cv", grid, horizon
        self.digest = _digest(self.name, grid, horizon)

    def encode(self, raster: SceneRaster) -> Context:
        """The warped frames: (T, 4, H, W)."""
        present = _present(raster, self.grid)
        seconds = IMAGINED_STEP_S * torch.arange(1, self.horizon + 1, dtype=torch.float32)
        return Context(raster, constant_velocity(present[:2], present[2:], seconds, self.grid))

    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        """The same future for every candidate and sample, expanded and not copied."""
        return _everywhere(context.encoded, len(plans), noise.samples, self.grid)


def constant_velocity(
    occupancy: Float[Tensor, "2 H W"], velocity: Float[Tensor, "2 H W"], seconds: Float[Tensor, "T"], grid: Grid
) -> Float32[Tensor, "T 4 H W"]:
    """Occupancy and velocity after each of these times, every occupied cell moving on by its own velocity."""
    occupied = occupancy.amax(0) > PARTICLE_OCCUPANCY
    speed, mass = velocity[:, occupied].T, occupancy[:, occupied].T
    positions = cell_centres(grid)[occupied] + seconds[:, None, None] * speed
    carried = torch.cat([mass, mass.sum(1, keepdim=True) * speed, mass.sum(1, keepdim=True)], dim=1)
    moved = splat(positions, carried.expand(len(seconds), *carried.shape), grid)
    total = moved[:, 4:]
    mean_velocity = torch.where(total > PARTICLE_OCCUPANCY, moved[:, 2:4] / total.clamp(min=1e-6), 0.0)
    return torch.cat([moved[:, :2].clamp(max=1.0), mean_velocity], dim=1)


def _present(raster: SceneRaster, grid: Grid) -> Float[Tensor, "4 H W"]:
    if raster.grid != grid:
        raise InputError(f"scene {raster.scene_id}: raster has grid {raster.grid}, expected the model's {grid}")
    return raster.history[-1, :4]


def _everywhere(frames: Float[Tensor, "T 4 H W"], candidates: int, samples: int, grid: Grid) -> Imagined:
    occupancy, velocity = frames[:, :2], frames[:, 2:]
    latents = torch.nn.functional.adaptive_avg_pool2d(occupancy, LATENT_PATCHES).flatten(1)

    def expanded(part: Tensor) -> Tensor:
        return part.expand(candidates, samples, *part.shape)

    return Imagined(expanded(occupancy), expanded(velocity), expanded(latents), grid)


def _digest(name: str, grid: Grid, horizon: int) -> str:
    return hashlib.blake2b(f"{name}/1/{grid}/{horizon}".encode(), digest_size=16).hexdigest()
