"""What `direct` minimises: all frames at once, each from the present, by the losses of `ar`'s frames and reactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wmplan.contracts import RASTER_HISTORY
from wmplan.models.direct import DirectNetwork
from wmplan.models.regression import RegressionNetwork
from wmplan.models.training.calibrate import MOST_SCENES, best_gains
from wmplan.models.training.data import Batch, Examples
from wmplan.models.training.losses import frame_loss, particle_loss, particle_targets, reaction_loss
from wmplan.models.training.measure import measure
from wmplan.models.training.settings import Settings

STAGES = ("regression",)
SHARES = (1.0,)


def direct_loss(
    stage: str,
    network: DirectNetwork,
    batch: Batch,
    settings: Settings,
    horizon: int,
    first: int,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """The mean loss of the frames up to `horizon`. Nothing is drawn, and there is only one stage."""
    state = network.begin(batch.static, batch.frames[:, :RASTER_HISTORY])
    span = slice(RASTER_HISTORY - 1, RASTER_HISTORY + horizon)
    place, told = particle_targets(state.particles.position, batch.states[:, span], batch.sizes, batch.valid[:, span])
    total = torch.zeros(())
    for t in range(horizon):
        moved, decoded = network.frame(state, batch.footprints, batch.ego, t)
        loss = frame_loss(decoded.logits, batch.frames[:, RASTER_HISTORY + t])
        there, known, grid = place[:, t + 1], told[:, t + 1], network.preset.grid
        loss = loss + settings.place_weight * particle_loss(moved, there, known, grid)
        reaction = reaction_loss(moved.position, there, known, batch.scenes, grid)
        total = total + (loss + settings.reaction_weight * reaction) / horizon
    return total


def forecast_regression(
    network: RegressionNetwork, batch: Batch, scene_ids: Sequence[str], samples: int, horizon: int
) -> Float[Tensor, "B T 2 H W"]:
    """Occupancy given what the ego really did; all samples are alike."""
    state = network.begin(batch.static, batch.frames[:, :RASTER_HISTORY])
    return network.frames(state, batch.footprints[:, : horizon + 1], batch.ego[:, : horizon + 1])[:, :, :2]


def fit_regression_gains(network: Any, examples: Examples, settings: Settings) -> dict[str, Any]:
    """The decoder's gains after each was set to the best of a few, for the card."""
    if len(examples) > MOST_SCENES:
        examples = examples.select(np.unique(np.linspace(0, len(examples) - 1, MOST_SCENES).astype(int)))

    def score() -> float:
        found = measure(network, examples, 1, settings.horizon, forecast=forecast_regression)
        return float(np.nanmean(found.mean("model")))

    best_gains(network.decoder.gains, score)
    return {"gains": network.decoder.gains.tolist()}
