"""The learned world model `dit`: frames denoised one after another, residual on constant velocity."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from wmplan.contracts import Context, Grid, Imagined, SceneRaster
from wmplan.errors import InputError
from wmplan.models.dit import DiffusionNetwork
from wmplan.models.dit_options import DitOptions
from wmplan.models.dit_sampler import frame_noise
from wmplan.models.gathering import Gathering, require_grid
from wmplan.models.levels import Levels
from wmplan.models.prefixes import PrefixTree
from wmplan.models.rollout import Action, anchor_of, ego_steps
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import STRIDE, footprints


@final
@dataclass(frozen=True)
class Diffusion:
    """Imagines by a trained denoiser. Candidate and sample decide a rollout's bytes, never its companions.

    A frame's noise belongs to its sample and step, and all candidates share it: what differs between two candidates'
    futures under one sample is what their actions did. Candidates share what they have in common, and rollouts run in
    passes of `preset.chunk` rows, as in `wmplan.models.ar`. `weights` identifies the network; `options`, the network's
    own unless given, say how it is sampled.
    """

    network: DiffusionNetwork
    weights: str
    horizon: int = 6
    options: DitOptions | None = None
    name: str = "dit"

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)
        trained, given = self.network.options, self.sampling
        if (trained.objective, trained.schedule) != (given.objective, given.schedule):
            found = f"{given.objective} on the {given.schedule} schedule"
            raise InputError(f"dit: asked for {found}, expected the trained {trained.objective} on {trained.schedule}")

    @property
    def sampling(self) -> DitOptions:
        """How frames are sampled."""
        return self.options or self.network.options

    @property
    def digest(self) -> str:
        """Identifies weights and sampling."""
        return hashlib.blake2b(f"{self.weights}/{self.sampling}".encode(), digest_size=16).hexdigest()

    @property
    def grid(self) -> Grid:
        """The raster it works on."""
        return self.network.preset.grid

    def sampled(self, **changes: Any) -> Diffusion:
        """The same weights sampled otherwise, e.g. `model.sampled(steps=50)`."""
        return replace(self, options=replace(self.sampling, **changes))

    @torch.inference_mode()
    def encode(self, raster: SceneRaster) -> Context:
        """The scene's state at t0, encoded once for all candidates.

        Raises:
            InputError: if the raster has another grid than the model.
        """
        require_grid(raster, self.grid)
        return Context(raster, self.network.begin(raster.static[None], raster.history[None]))

    @torch.inference_mode()
    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        """`horizon` steps of each candidate and sample; a candidate whose states are not finite gets NaN throughout.

        Raises:
            InputError: if the plans are shorter than the horizon.
        """
        latents = math.prod(self.network.latent_shape)
        gathering = Gathering.begin(plans, noise.samples, self.horizon, self.grid, latents)
        for t, rollouts, frames in self._steps(context, gathering.plans, gathering.tree, noise):
            gathering.show(t, rollouts, frames)
        return gathering.imagined(self.grid)

    def _steps(
        self, context: Context, plans: Plans, tree: PrefixTree, noise: NoiseBank
    ) -> Iterator[tuple[int, range, tuple[Tensor, Tensor, Tensor]]]:
        """Occupancy, velocity and latents of every node and sample, a pass at a time: (step, rollouts, frames).
        Rollouts of a step are numbered node x samples + sample; the frames of a pass may be padded."""
        network, preset, samples = self.network, self.network.preset, noise.samples
        drawn = footprints(plans, context.raster.start, self.grid)[:, : self.horizon + 1]
        states = torch.from_numpy(plans.states[:, : self.horizon * STRIDE + 1 : STRIDE].copy())
        levels = Levels(context.encoded, preset)
        for t, (leaders, parents) in enumerate(zip(tree.leaders, tree.parents, strict=True)):
            count, draws = len(leaders) * samples, frame_noise(noise, t, network.latent_shape)
            levels.open(torch.from_numpy((parents[:, None] * samples + np.arange(samples)).reshape(-1)))
            for first in range(0, count, preset.chunk):
                rows = torch.arange(first, first + preset.chunk).clamp(max=count - 1)
                leader = torch.from_numpy(leaders)[rows // samples]
                # Within the pass: vectorised sines depend on where a number stands.
                driven = states[leader, t : t + 2]
                action = Action(drawn[leader, t : t + 2], ego_steps(driven)[:, 0], driven)
                last = t + 1 == self.horizon
                before = levels.state(rows)
                anchor = anchor_of(before, preset)
                latents = network.sample(before, anchor, action, draws[rows % samples], self.sampling)
                state, decoded = network.advance(before, latents, driven, remember=not last)
                rollouts = range(first, min(first + preset.chunk, count))
                if not last:
                    levels.keep(rollouts, state)
                yield t, rollouts, (decoded.occupancy, decoded.velocity, latents.flatten(1))
