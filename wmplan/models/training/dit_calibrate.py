"""Whether samples spread as the truth does: per dimension, on held-out training groups, and what to do about it.

Few steps and a predicted mean give latents that vary too little, a sampler that amplifies its own errors gives latents
that vary too much; neither shows in a picture at once. An affine map per dimension takes the latter back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wmplan.contracts import RASTER_HISTORY
from wmplan.models.dit import DiffusionNetwork, near_traffic
from wmplan.models.dit_options import DitOptions
from wmplan.models.dit_sampler import frame_noise
from wmplan.models.rollout import Action, anchor_of, ego_steps
from wmplan.models.training.calibrate import best_gains
from wmplan.models.training.data import Batch, Examples
from wmplan.models.training.measure import measure
from wmplan.models.training.settings import Settings
from wmplan.randomness import NoiseBank, fold_in

BAND = (0.8, 1.25)
"""Ratios of standard deviations outside of which the sampler, not chance, is at fault: alarm."""
MOST_GAIN = 1.25
"""Samples are spread at most so much: beyond, spreading enlarges what the model does not know."""
MOST_SCENES = 96
BATCH = 16


@dataclass(frozen=True)
class Spread:
    """`ratio` of sampled to true standard deviation before any correction; `gain` and `shift` take samples to the
    truth's mean, and to its standard deviation where a gain up to `MOST_GAIN` can."""

    ratio: Float[Tensor, "L"]
    gain: Float[Tensor, "L"]
    shift: Float[Tensor, "L"]

    @property
    def alarm(self) -> bool:
        """Whether any ratio is outside the band."""
        return bool(((self.ratio < BAND[0]) | (self.ratio > BAND[1])).any())


def spread_of(sampled: Float[Tensor, "N L"], true: Float[Tensor, "R L"]) -> Spread:
    """How sampled latents spread beside true ones of the same patches."""
    least = 1e-6
    ratio = sampled.std(0).clamp(min=least) / true.std(0).clamp(min=least)
    gain = (1.0 / ratio).clamp(max=MOST_GAIN)
    return Spread(ratio, gain, true.mean(0) - gain * sampled.mean(0))


@torch.no_grad()
def true_and_sampled(
    network: DiffusionNetwork, examples: Examples, horizon: int, samples: int = 2
) -> tuple[Float[Tensor, "R L"], Float[Tensor, "N L"]]:
    """Latents near traffic, the encoder's and the sampler's, one step on from true states; uncorrected."""
    options, preset = network.options, network.preset
    raw = replace(options, calibrated=False)
    true, drawn = [], []
    for first in range(0, len(examples), BATCH):
        rows = np.arange(first, min(first + BATCH, len(examples)))
        batch = examples.batch(rows)
        for ahead in sorted({0, horizon // 2}):
            now = RASTER_HISTORY - 1 + ahead
            state = network.begin(batch.static, batch.frames[:, ahead : now + 1])
            anchor = anchor_of(state, preset)
            driven = batch.ego[:, ahead : ahead + 2]
            action = Action(batch.footprints[:, ahead : ahead + 2], ego_steps(driven)[:, 0], driven)
            near = near_traffic(anchor, preset.patch)
            true.append(network.encode(batch.frames[:, now + 1, :4], anchor, state.scene)[near])
            for m in range(samples):
                seeds = [fold_in(0, examples.scene_ids[i], "spread") for i in rows]
                noise = torch.cat([frame_noise(NoiseBank(s, 1, m), ahead, network.latent_shape) for s in seeds])
                drawn.append(network.sample(state, anchor, action, noise, raw)[near])
    return torch.cat(true), torch.cat(drawn)


@torch.no_grad()
def rollouts(
    network: DiffusionNetwork, batch: Batch, scene_ids: Sequence[str], samples: int, horizon: int, options: DitOptions
) -> Float[Tensor, "B M T 2 H W"]:
    """Sampled occupancy given what the ego really did; a scene's noise belongs to its id."""
    state = network.begin(batch.static, batch.frames[:, :RASTER_HISTORY]).expand(samples)
    ego, shown = (x.repeat_interleave(samples, 0) for x in (batch.ego, batch.footprints))
    banks = [NoiseBank(fold_in(0, name, "measure"), samples) for name in scene_ids]
    steps, frames = ego_steps(ego), []
    for t in range(horizon):
        action = Action(shown[:, t : t + 2], steps[:, t], ego[:, t : t + 2])
        noise = torch.cat([frame_noise(bank, t, network.latent_shape) for bank in banks])
        latents = network.sample(state, anchor_of(state, network.preset), action, noise, options)
        state, decoded = network.advance(state, latents, action.states)
        frames.append(decoded.occupancy.reshape(-1, samples, *decoded.occupancy.shape[1:]))
    return torch.stack(frames, dim=2)


def forecast_dit(
    network: DiffusionNetwork, batch: Batch, scene_ids: Sequence[str], samples: int, horizon: int
) -> Float[Tensor, "B T 2 H W"]:
    """The mean over the samples of occupancy given what the ego really did."""
    return rollouts(network, batch, scene_ids, samples, horizon, network.options).mean(1)


def fit_dit(network: DiffusionNetwork, examples: Examples, settings: Settings) -> dict[str, Any]:
    """Sets the network's shift and gain of latents, then the decoder's gains; what was found, for the card."""
    if len(examples) > MOST_SCENES:
        examples = examples.select(np.unique(np.linspace(0, len(examples) - 1, MOST_SCENES).astype(int)))
    network.eval()
    found = fit_spread(network, examples, settings)
    gains = network.tokenizer.decoder.gains

    def score() -> float:
        return float(np.nanmean(measure(network, examples, 2, settings.horizon, forecast=forecast_dit).mean("model")))

    best_gains(gains, score)
    return found | {"gains": gains.tolist()}


def fit_spread(network: DiffusionNetwork, examples: Examples, settings: Settings) -> dict[str, Any]:
    """Sets the network's shift and gain; what was found."""
    true, sampled = true_and_sampled(network, examples, settings.horizon)
    spread = spread_of(sampled, true)
    network.gain.copy_(spread.gain)
    network.shift.copy_(spread.shift)
    return {
        "std_ratio": [round(x, 4) for x in spread.ratio.tolist()],
        "std_ratio_alarm": f"outside {list(BAND)}" if spread.alarm else "none",
        "gain": [round(x, 4) for x in spread.gain.tolist()],
        "shift": [round(x, 4) for x in spread.shift.tolist()],
    }
