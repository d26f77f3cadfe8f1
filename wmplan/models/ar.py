"""The learned world model `ar`: discrete codes, frame after frame, residual on constant velocity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, Context, Grid, Imagined, SceneRaster
from wmplan.errors import InputError
from wmplan.models.levels import Levels
from wmplan.models.prefixes import PrefixTree, prefix_tree
from wmplan.models.rollout import Action, Network, begin, ego_steps, imagine_step
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import STRIDE, footprints


@final
@dataclass(frozen=True)
class Autoregressive:
    """Imagines by a trained network. Candidate and sample decide a rollout's bytes, never its companions.

    Candidates that share their first states share the imagination of them (`wmplan.models.prefixes`). Rollouts run in
    passes of exactly `preset.chunk` rows, padded by repetition, so every matrix product has one shape whatever K, M and
    the sharing are: passes of 8 rows and fewer round otherwise than larger ones, while a row's place in its pass does
    not matter. Set one torch thread in each process (`wmplan.threads.limit_threads`): with another number of threads
    the sums may round differently.
    """

    network: Network
    digest: str
    horizon: int = 6
    name: str = "ar"

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)

    @property
    def grid(self) -> Grid:
        """The raster it works on."""
        return self.network.preset.grid

    @torch.inference_mode()
    def encode(self, raster: SceneRaster) -> Context:
        """The scene's state at t0, encoded once for all candidates.

        Raises:
            InputError: if the raster has another grid than the model.
        """
        if raster.grid != self.grid:
            found = f"scene {raster.scene_id}: raster has grid {raster.grid}"
            raise InputError(f"{found}, expected the model's {self.grid}")
        return Context(raster, begin(self.network, raster.static[None], raster.history[None]))

    @torch.inference_mode()
    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        """`horizon` steps of each candidate and sample; a candidate whose states are not finite gets NaN throughout.

        Raises:
            InputError: if the plans are shorter than the horizon.
        """
        if plans.controls.shape[1] < self.horizon * STRIDE:
            wanted = f"expected at least the model's horizon {self.horizon * IMAGINED_STEP_S:.1f} s"
            raise InputError(f"plans last {plans.horizon_s:.1f} s, {wanted}")
        preset, samples = self.network.preset, noise.samples
        shape = (len(plans), samples, self.horizon)
        finite = np.flatnonzero(np.isfinite(plans.states).all((1, 2)))
        fill = torch.empty if len(finite) == len(plans) else partial(torch.full, fill_value=torch.nan)
        occupancy = fill((*shape, 2, self.grid.rows, self.grid.cols))
        velocity = fill((*shape, 2, self.grid.rows, self.grid.cols))
        latents = fill((*shape, preset.side[0] * preset.side[1] * self.network.tokenizer.quantiser.width))
        parts = [part.flatten(0, 1) for part in (occupancy, velocity, latents)]

        known = plans.select(finite)
        tree = prefix_tree(known.states[:, : self.horizon * STRIDE + 1 : STRIDE])
        for t, rollouts, frames in self._steps(context, known, tree, noise):
            # Rows (candidate, sample) of the output that show these rollouts at this step.
            wanted = tree.nodes[:, t, None] * samples + np.arange(samples)
            candidate, sample = np.nonzero((wanted >= rollouts.start) & (wanted < rollouts.stop))
            rows = torch.from_numpy(finite[candidate] * samples + sample)
            source = torch.from_numpy(wanted[candidate, sample] - rollouts.start)
            for part, frame in zip(parts, frames, strict=True):
                part[rows, t] = frame[source]
        return Imagined(occupancy, velocity, latents, self.grid, tree.steps * samples)

    def _steps(
        self, context: Context, plans: Plans, tree: PrefixTree, noise: NoiseBank
    ) -> Iterator[tuple[int, range, tuple[Tensor, Tensor, Tensor]]]:
        """Occupancy, velocity and codes of every node and sample, step by step, a pass at a time: (step, rollouts,
        frames). Rollouts of a step are numbered node x samples + sample; the frames of a pass may be padded."""
        preset, samples = self.network.preset, noise.samples
        drawn = footprints(plans, context.raster.start, self.grid)[:, : self.horizon + 1]
        states = torch.from_numpy(plans.states[:, : self.horizon * STRIDE + 1 : STRIDE].copy())
        one_hot = F.one_hot(scene_latents(noise, preset.scene_latents), preset.scene_latents).float()
        levels = Levels(context.encoded, preset)
        for t, (leaders, parents) in enumerate(zip(tree.leaders, tree.parents, strict=True)):
            count = len(leaders) * samples
            levels.open(torch.from_numpy((parents[:, None] * samples + np.arange(samples)).reshape(-1)))
            for first in range(0, count, preset.chunk):
                rows = torch.arange(first, first + preset.chunk).clamp(max=count - 1)
                leader = torch.from_numpy(leaders)[rows // samples]
                # Within the pass: vectorised sines depend on where a number stands.
                driven = states[leader, t : t + 2]
                action = Action(drawn[leader, t : t + 2], ego_steps(driven)[:, 0], driven)
                last = t + 1 == self.horizon
                before, latent = levels.state(rows), one_hot[rows % samples]
                state, decoded, codes = imagine_step(self.network, before, action, latent, remember=not last)
                rollouts = range(first, min(first + preset.chunk, count))
                if not last:
                    levels.keep(rollouts, state)
                yield t, rollouts, (decoded.occupancy, decoded.velocity, codes.flatten(1))


def scene_latents(noise: NoiseBank, values: int) -> Int[Tensor, "M"]:
    """The scene latent of each sample: a random order of all values, so that samples differ as long as they can.

    The order comes from sample 0's draws alone, so the first samples are the same whatever M is.
    """
    order = np.argsort(NoiseBank(noise.seed, 1).uniform("scene latent", 0, (values,))[0], kind="stable")
    return torch.from_numpy(order[np.arange(noise.first, noise.first + noise.samples) % values])
