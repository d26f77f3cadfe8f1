"""The learned world models `direct` and `jump`: one future for each candidate, whatever the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from wmplan.contracts import Context, Grid, Imagined, SceneRaster
from wmplan.models.baselines import LATENT_PATCHES
from wmplan.models.gathering import blank, finite_rows, require_grid, require_horizon
from wmplan.models.regression import RegressionNetwork
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import STRIDE, footprints


@final
@dataclass(frozen=True)
class Regression:
    """Imagines by a trained network. All samples of a candidate are one future, expanded and not copied: their variance
    is zero, and says nothing of what the network does not know.

    Candidates run in passes of exactly `preset.chunk` rows, padded by repetition, so that a candidate's bytes never
    depend on its companions (see `wmplan.models.ar`). Latents are the occupancy, pooled.
    """

    network: RegressionNetwork
    digest: str
    horizon: int
    name: str

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)  # type: ignore[attr-defined]  # every such network is a module

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
        return Context(raster, self.network.begin(raster.static[None], raster.history[None]))

    @torch.inference_mode()
    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        """`horizon` steps of each candidate; one whose states are not finite gets NaN throughout.

        Raises:
            InputError: if the plans are shorter than the horizon.
        """
        require_horizon(plans, self.horizon)
        states = plans.states[:, : self.horizon * STRIDE + 1 : STRIDE]
        finite = finite_rows(plans)
        frames = blank(finite, len(plans), self.horizon, 4, self.grid.rows, self.grid.cols)
        drawn = footprints(plans.select(finite), context.raster.start, self.grid)[:, : self.horizon + 1]
        chunk, count = self.network.preset.chunk, len(finite)
        scene = context.encoded.expand(chunk)
        for first in range(0, count, chunk):
            rows = torch.arange(first, first + chunk).clamp(max=count - 1)
            path = torch.from_numpy(states[finite[rows.numpy()]])
            found = self.network.frames(scene, drawn[rows], path)
            frames[finite[first : first + chunk]] = found[: count - first]
        occupancy, velocity, latents = (
            part[:, None].expand(-1, noise.samples, *part.shape[1:])
            for part in (frames[:, :, :2], frames[:, :, 2:], pooled(frames[:, :, :2]))
        )
        return Imagined(occupancy, velocity, latents, self.grid, count * self.horizon)


def pooled(occupancy: Float[Tensor, "*B 2 H W"]) -> Float[Tensor, "*B L"]:
    """Occupancy averaged over `LATENT_PATCHES` by as many patches, flattened: a latent that any model has."""
    flat = occupancy.flatten(0, -4)
    return F.adaptive_avg_pool2d(flat, LATENT_PATCHES).flatten(1).unflatten(0, occupancy.shape[:-3])
