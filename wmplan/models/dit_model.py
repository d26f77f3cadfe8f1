"""The learned world model `dit`: frames denoised one after another, residual on constant velocity."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, Context, Grid, Imagined, SceneRaster
from wmplan.errors import InputError
from wmplan.models.dit import DiffusionNetwork
from wmplan.models.dit_options import DitOptions
from wmplan.models.dit_sampler import frame_noise
from wmplan.models.levels import Levels
from wmplan.models.prefixes import PrefixTree, prefix_tree
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
        if raster.grid != self.grid:
            found = f"scene {raster.scene_id}: raster has grid {raster.grid}"
            raise InputError(f"{found}, expected the model's {self.grid}")
        return Context(raster, self.network.begin(raster.static[None], raster.history[None]))

    @torch.inference_mode()
    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        """`horizon` steps of each candidate and sample; a candidate whose states are not finite gets NaN throughout.

        Raises:
            InputError: if the plans are shorter than the horizon.
        """
        if plans.controls.shape[1] < self.horizon * STRIDE:
            wanted = f"expected at least the model's horizon {self.horizon * IMAGINED_STEP_S:.1f} s"
            raise InputError(f"plans last {plans.horizon_s:.1f} s, {wanted}")
        samples = noise.samples
        shape = (len(plans), samples, self.horizon)
        finite = np.flatnonzero(np.isfinite(plans.states).all((1, 2)))
        fill = torch.empty if len(finite) == len(plans) else partial(torch.full, fill_value=torch.nan)
        occupancy = fill((*shape, 2, self.grid.rows, self.grid.cols))
        velocity = fill((*shape, 2, self.grid.rows, self.grid.cols))
        latents = fill((*shape, math.prod(self.network.latent_shape)))
        parts = [part.flatten(0, 1) for part in (occupancy, velocity, latents)]

        known = plans.select(finite)
        tree = prefix_tree(known.states[:, : self.horizon * STRIDE + 1 : STRIDE])
        for t, rollouts, frames in self._steps(context, known, tree, noise):
            # Rows (candidate, sample) of the output that show these rollouts at this step.
            wanted_rows = tree.nodes[:, t, None] * samples + np.arange(samples)
            candidate, sample = np.nonzero((wanted_rows >= rollouts.start) & (wanted_rows < rollouts.stop))
            rows = torch.from_numpy(finite[candidate] * samples + sample)
            source = torch.from_numpy(wanted_rows[candidate, sample] - rollouts.start)
            for part, frame in zip(parts, frames, strict=True):
                part[rows, t] = frame[source]
        return Imagined(occupancy, velocity, latents, self.grid, tree.steps * samples)

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
