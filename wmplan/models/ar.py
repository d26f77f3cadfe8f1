"""The learned world model `ar`: discrete codes, frame after frame, residual on constant velocity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, Context, Grid, Imagined, SceneRaster
from wmplan.errors import InputError
from wmplan.models.rollout import Action, Network, State, begin, ego_steps, imagine_step
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import STRIDE, footprints


@final
@dataclass(frozen=True)
class Autoregressive:
    """Imagines by a trained network. Candidate and sample decide a rollout's bytes, never its companions.

    Rollouts run in passes of exactly `preset.chunk` rows, padded by repetition, so every matrix product has one shape
    whatever K and M are. Set one torch thread in each process (`wmplan.threads.limit_threads`): with another number of
    threads the sums may round differently.
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
        preset, candidates, samples = self.network.preset, len(plans), noise.samples
        if plans.controls.shape[1] < self.horizon * STRIDE:
            wanted = f"expected at least the model's horizon {self.horizon * IMAGINED_STEP_S:.1f} s"
            raise InputError(f"plans last {plans.horizon_s:.1f} s, {wanted}")
        finite = torch.from_numpy(np.isfinite(plans.states).all((1, 2)))
        drawn = footprints(plans, context.raster.start, self.grid)[:, : self.horizon + 1]
        states = torch.nan_to_num(torch.from_numpy(plans.states[:, ::STRIDE]), posinf=0.0, neginf=0.0)
        states = states[:, : self.horizon + 1]
        one_hot = F.one_hot(scene_latents(noise, preset.scene_latents), preset.scene_latents).float()
        start: State = context.encoded.expand(preset.chunk)

        count = candidates * samples
        height, width = self.grid.rows, self.grid.cols
        occupancy = torch.empty(count, self.horizon, 2, height, width)
        velocity = torch.empty(count, self.horizon, 2, height, width)
        codes = torch.empty(count, self.horizon, preset.side[0] * preset.side[1] * len(preset.levels))
        for first in range(0, count, preset.chunk):
            rows = torch.arange(first, first + preset.chunk).clamp(max=count - 1)
            used = min(preset.chunk, count - first)
            here = slice(first, first + used)
            candidate, latent = rows // samples, one_hot[rows % samples]
            steps = ego_steps(states[candidate])  # in the pass: vectorised sines depend on where a number stands
            state = start
            for t in range(self.horizon):
                action = Action(drawn[candidate, t : t + 2], steps[:, t])
                state, decoded, chosen = imagine_step(self.network, state, action, latent)
                occupancy[here, t] = decoded.occupancy[:used]
                velocity[here, t] = decoded.velocity[:used]
                codes[here, t] = chosen.flatten(1)[:used]

        def shaped(rows: Tensor) -> Tensor:
            rows = rows.reshape(candidates, samples, *rows.shape[1:])
            rows[~finite] = torch.nan
            return rows

        return Imagined(shaped(occupancy), shaped(velocity), shaped(codes), self.grid)


def scene_latents(noise: NoiseBank, values: int) -> Int[Tensor, "M"]:
    """The scene latent of each sample: a random order of all values, so that samples differ as long as they can.

    The order comes from sample 0's draws alone, so the first samples are the same whatever M is.
    """
    order = np.argsort(NoiseBank(noise.seed, 1).uniform("scene latent", 0, (values,))[0], kind="stable")
    return torch.from_numpy(order[np.arange(noise.samples) % values])
