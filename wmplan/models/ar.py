"""The learned world model `ar`: discrete codes, frame after frame, residual on constant velocity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import Context, Grid, Imagined, SceneRaster
from wmplan.models.gathering import Gathering, require_grid
from wmplan.models.levels import Levels
from wmplan.models.prefixes import PrefixTree
from wmplan.models.rollout import Action, Network, begin, ego_steps, imagine_step
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import STRIDE, footprints
from wmplan.threads import each, side_by_side

LEAST_ROWS = 8
"""A pass has at least so many rows: a smaller one takes hardly less time."""
Show = Callable[[int, range, tuple[Tensor, Tensor, Tensor]], None]


@final
@dataclass(frozen=True)
class Autoregressive:
    """Imagines by a trained network. Candidate and sample decide a rollout's bytes, never its companions.

    Candidates that share their first states share the imagination of them (`wmplan.models.prefixes`). Rollouts run in
    passes of at most `preset.chunk` rows, several at once where `wmplan.threads` says so. No bit depends on how they
    are cut: products with a row a token, a particle or a cell have hundreds of rows at least and round alike from there
    on; the few with a row a rollout always get `preset.chunk` rows; vectors have no rest (`particles.LANES`). Set one
    torch thread in each process (`wmplan.threads.limit_threads`): with more of its own the sums may round differently.
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
        require_grid(raster, self.grid)
        return Context(raster, begin(self.network, raster.static[None], raster.history[None]))

    @torch.inference_mode()
    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        """`horizon` steps of each candidate and sample; a candidate whose states are not finite gets NaN throughout.

        Raises:
            InputError: if the plans are shorter than the horizon.
        """
        latents = self.network.preset.side[0] * self.network.preset.side[1] * self.network.tokenizer.quantiser.width
        gathering = Gathering.begin(plans, noise.samples, self.horizon, self.grid, latents)
        self._roll(context, gathering.plans, gathering.tree, noise, gathering.show)
        return gathering.imagined(self.grid)

    def _roll(self, context: Context, plans: Plans, tree: PrefixTree, noise: NoiseBank, show: Show) -> None:
        """Imagine every node and sample, step by step, and show each pass: its step, its rollouts, and occupancy,
        velocity and codes. Rollouts of a step are numbered node x samples + sample; frames may be padded."""
        preset, samples = self.network.preset, noise.samples
        drawn = footprints(plans, context.raster.start, self.grid)[:, : self.horizon + 1]
        states = torch.from_numpy(plans.states[:, : self.horizon * STRIDE + 1 : STRIDE].copy())
        one_hot = F.one_hot(scene_latents(noise, preset.scene_latents), preset.scene_latents).float()
        levels = Levels(context.encoded, preset)
        for t, (leaders, parents) in enumerate(zip(tree.leaders, tree.parents, strict=True)):
            count = len(leaders) * samples
            levels.open(torch.from_numpy((parents[:, None] * samples + np.arange(samples)).reshape(-1)))
            rows, passes = passes_of(count, preset.chunk, side_by_side())

            @torch.inference_mode()
            def imagine(rollouts: range, t: int = t, leaders: ndarray = leaders, rows: int = rows) -> None:
                # Always `chunk` of them: what has one row a rollout rounds by the number of rows.
                wide = torch.arange(rollouts.start, rollouts.start + preset.chunk).clamp(max=rollouts.stop - 1)
                leader = torch.from_numpy(leaders)[wide // samples]
                driven = states[leader, t : t + 2]
                action = Action(drawn[leader[:rows], t : t + 2], ego_steps(driven)[:, 0], driven[:rows])
                latent, final = one_hot[wide % samples], t + 1 == self.horizon
                state, decoded, codes = imagine_step(
                    self.network, levels.state(wide[:rows]), action, latent, remember=not final
                )
                if not final:
                    levels.keep(rollouts, state)
                show(t, rollouts, (decoded.occupancy, decoded.velocity, codes.flatten(1)))

            each(imagine, passes)


def passes_of(count: int, most: int, threads: int) -> tuple[int, list[range]]:
    """Rows of a pass, at most `most`, and the rollouts of each: as few passes as there can be, in full rounds of
    `threads`, of equal size; the last may have fewer rollouts than rows."""
    rounds = max(1, -(-count // (most * threads)))  # no candidates: no passes
    rows = min(most, max(LEAST_ROWS, -(-count // (rounds * threads))))
    return rows, [range(first, min(first + rows, count)) for first in range(0, count, rows)]


def scene_latents(noise: NoiseBank, values: int) -> Int[Tensor, "M"]:
    """The scene latent of each sample: a random order of all values, so that samples differ as long as they can.

    The order comes from sample 0's draws alone, so the first samples are the same whatever M is.
    """
    order = np.argsort(NoiseBank(noise.seed, 1).uniform("scene latent", 0, (values,))[0], kind="stable")
    return torch.from_numpy(order[np.arange(noise.first, noise.first + noise.samples) % values])
