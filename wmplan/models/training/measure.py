"""How good forecasts are: IoU of the network beside constant velocity and persistence, scene by scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, RASTER_HISTORY
from wmplan.models.ar import scene_latents
from wmplan.models.particles import Particles, render, seed
from wmplan.models.rollout import Action, Network, begin, ego_steps, imagine_step
from wmplan.models.training.data import Batch, Examples
from wmplan.randomness import NoiseBank, fold_in

Forecast = Callable[[Any, Batch, Sequence[str], int, int], Float[Tensor, "B T 2 H W"]]
"""`forecast(network, batch, scene_ids, samples, horizon)`: occupancy given what the ego really did, mean of samples."""
THRESHOLD = 0.5
RESAMPLES = 1000


@dataclass(frozen=True)
class Measured:
    """IoU at each imagined step of each scene and model; NaN where neither forecast nor truth holds anything."""

    models: tuple[str, ...]
    groups: tuple[str, ...]
    iou: Float[ndarray, "R S T"]
    seconds: Float[ndarray, "T"]

    def mean(self, model: str) -> Float[ndarray, "T"]:
        """Mean over the scenes."""
        return np.nanmean(self.iou[self.models.index(model)], axis=0)

    def gain(self, model: str, over: str, seed: int = 0) -> Float[ndarray, "T 3"]:
        """Mean paired difference of IoU and its 95 % interval, by a bootstrap over groups of scenes."""
        difference = self.iou[self.models.index(model)] - self.iou[self.models.index(over)]
        names = sorted(set(self.groups))
        member = np.array([names.index(group) for group in self.groups])
        told = np.isfinite(difference)
        total = np.stack([np.where(told, difference, 0.0)[member == g].sum(0) for g in range(len(names))])
        count = np.stack([told[member == g].sum(0) for g in range(len(names))])
        draws = np.random.default_rng(fold_in(seed, "bootstrap")).integers(len(names), size=(RESAMPLES, len(names)))
        means = total[draws].sum(1) / np.maximum(count[draws].sum(1), 1)
        low, high = np.nanquantile(means, [0.025, 0.975], axis=0)
        return np.stack([np.nanmean(difference, axis=0), low, high], axis=1)


def forecast_ar(
    network: Network, batch: Batch, scene_ids: Sequence[str], samples: int, horizon: int
) -> Float[Tensor, "B T 2 H W"]:
    """The forecast of a network of the family `ar`: occupancy given what the ego really did, mean over the samples."""
    latents = torch.stack([_latents(name, samples, network) for name in scene_ids])
    return _imagine(network, batch, latents, horizon)


@torch.no_grad()
def measure(
    network: Any,
    examples: Examples,
    samples: int = 4,
    horizon: int = 6,
    batch: int = 16,
    report: Callable[[int], None] = lambda done: None,
    forecast: Forecast = forecast_ar,
) -> Measured:
    """The network's forecast given what the ego really did (mean over `samples`), and both baselines.

    `forecast` is that of the network's family. The models are called model, cv and persistence.
    """
    parts = []
    for first in range(0, len(examples), batch):
        rows = np.arange(first, min(first + batch, len(examples)))
        cut = examples.batch(rows)
        truth = cut.frames[:, RASTER_HISTORY : RASTER_HISTORY + horizon]
        imagined = forecast(network, cut, [examples.scene_ids[i] for i in rows], samples, horizon)
        present = cut.frames[:, RASTER_HISTORY - 1, :2, None].transpose(1, 2).expand(-1, horizon, -1, -1, -1)
        parts.append(np.stack([_iou(x, truth) for x in (imagined, constant(cut, network, horizon), present)]))
        report(int(rows[-1]) + 1)
    seconds = IMAGINED_STEP_S * np.arange(1, horizon + 1)
    return Measured(("model", "cv", "persistence"), examples.groups, np.concatenate(parts, axis=1), seconds)


def constant(batch: Batch, network: Any, horizon: int) -> Float[Tensor, "B T 2 H W"]:
    """The constant-velocity forecast of a batch."""
    preset = network.preset
    particles: Particles = seed(batch.frames[:, :RASTER_HISTORY], preset.grid, preset.grid.rows * preset.grid.cols)
    frames = [render(particles.moved(IMAGINED_STEP_S * (t + 1)), preset.grid)[:, :2] for t in range(horizon)]
    return torch.stack(frames, dim=1)


def _latents(scene_id: str, samples: int, network: Network) -> Tensor:
    return scene_latents(NoiseBank(fold_in(0, scene_id, "measure"), samples), network.preset.scene_latents)


def _imagine(network: Network, batch: Batch, latents: Tensor, horizon: int) -> Float[Tensor, "B T 2 H W"]:
    samples = latents.shape[1]
    state = begin(network, batch.static, batch.frames[:, :RASTER_HISTORY]).expand(samples)
    ego = batch.ego.repeat_interleave(samples, 0)
    steps = ego_steps(ego)
    footprints = batch.footprints.repeat_interleave(samples, 0)
    latent = torch.nn.functional.one_hot(latents.flatten(), network.preset.scene_latents).float()
    frames = []
    for t in range(horizon):
        action = Action(footprints[:, t : t + 2], steps[:, t], ego[:, t : t + 2])
        state, decoded, _ = imagine_step(network, state, action, latent)
        frames.append(decoded.occupancy.reshape(-1, samples, *decoded.occupancy.shape[1:]).mean(1))
    return torch.stack(frames, dim=1)


def _iou(forecast: Float[Tensor, "B T 2 H W"], truth: Float[Tensor, "B T 5 H W"]) -> Float[ndarray, "B T"]:
    """Intersection over union of what is occupied by anybody, at the threshold, on the observed cells."""
    observed = truth[:, :, 4] > 0.5
    a, b = ((x[:, :, :2].amax(2) > THRESHOLD) & observed for x in (forecast, truth))
    both, either = (a & b).sum((-1, -2)).double(), (a | b).sum((-1, -2)).double()
    return torch.where(either > 0, both / either.clamp(min=1.0), torch.nan).numpy()
