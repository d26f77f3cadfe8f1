"""How far each part of the decoder is believed: fitted on held-out training scenes, never on validation scenes.

With every gain at zero a model is constant velocity; a part that learned nothing that holds elsewhere is turned down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wmplan.models.rollout import Network
from wmplan.models.training.data import Examples
from wmplan.models.training.measure import measure
from wmplan.models.training.settings import Settings
from wmplan.randomness import fold_in

GAINS = (0.0, 0.5, 1.0)
MOST_SCENES = 200
LEAST_GAIN = 5e-4
"""A gain replaces another only if it improves the mean IoU by this."""


def held_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples | None]:
    """Examples to train on, and those of about this share of the groups; None where the groups are too few."""
    names = sorted(set(examples.groups), key=lambda name: fold_in(seed, "held out", name))
    count = round(share * len(names))
    if count == 0 or len(names) - count < 2:
        return examples, None
    kept = set(names[:count])
    apart = np.array([group in kept for group in examples.groups])
    return examples.select(np.flatnonzero(~apart)), examples.select(np.flatnonzero(apart))


def fit_gains(network: Network, examples: Examples, settings: Settings) -> dict[str, Any]:
    """The decoder's gains after `calibrate`, for the card."""
    calibrate(network, examples, settings.horizon)
    return {"gains": network.tokenizer.decoder.gains.tolist()}


def calibrate(network: Network, examples: Examples, horizon: int, most: int = MOST_SCENES) -> float:
    """The mean IoU over all horizons after each gain, in turn, was set to the best of `GAINS`."""
    if len(examples) > most:
        examples = examples.select(np.unique(np.linspace(0, len(examples) - 1, most).astype(int)))

    def score() -> float:
        return float(np.nanmean(measure(network, examples, samples=2, horizon=horizon).mean("model")))

    return best_gains(network.tokenizer.decoder.gains, score)


def best_gains(gains: Float[Tensor, "3"], score: Callable[[], float]) -> float:
    """The score after each gain of a decoder, in turn, was set in place to the best of `GAINS`."""
    best = score()
    for part in (2, 1, 0):
        chosen = float(gains[part])
        for gain in GAINS[:-1]:
            with torch.no_grad():
                gains[part] = gain
            found = score()
            if found > best + LEAST_GAIN:
                best, chosen = found, gain
        with torch.no_grad():
            gains[part] = chosen
    return best
