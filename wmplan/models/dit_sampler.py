"""Sampling by a denoiser: DDIM in as few steps as wanted, guidance that is bounded, noise from the bank.

References:
    Song et al. (2021), "Denoising diffusion implicit models", eq. 12 with eta = 0.
    Ho & Salimans (2022), "Classifier-free diffusion guidance", eq. 6.
    Karras et al. (2024), "Guiding a diffusion model with a bad version of itself", eq. 3.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from wmplan.models.dit_schedule import levels
from wmplan.randomness import NoiseBank

SMALLEST = 2.0**-25
"""Uniform draws are kept this far from 0 and 1: normal draws stay within 5.5 standard deviations."""


def ddim(
    denoise: Callable[[Float[Tensor, "*B"], float], Float[Tensor, "*B"]],
    noise: Float[Tensor, "*B"],
    schedule: str,
    steps: int,
) -> Float[Tensor, "*B"]:
    """The clean latent that the deterministic path from this noise leads to, in equal steps of time.

    `denoise(noisy, time)` gives the expected clean latent. On the linear schedule a step is an Euler step of the flow.
    """
    times = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
    alphas, sigmas = (level.tolist() for level in levels(schedule, times))
    noisy = noise
    for now, after in pairwise(range(steps + 1)):
        clean = denoise(noisy, float(times[now]))
        direction = (noisy - alphas[now] * clean) / sigmas[now]
        noisy = alphas[after] * clean + sigmas[after] * direction
    return noisy


def guided(clean: Float[Tensor, "*B"], weaker: Float[Tensor, "*B"], weight: float, bound: float) -> Float[Tensor, "*B"]:
    """The prediction moved away from a weaker model's; exactly `clean` at weight 1, `weaker` at 0 within the bound."""
    return clean + (weight - 1.0) * (clean - weaker).clamp(-bound, bound)


def frame_noise(bank: NoiseBank, step: int, shape: tuple[int, ...]) -> Float[Tensor, "M ..."]:
    """Standard normal noise of each sample for the latents of the frame after `step` imagined steps.

    Each sample is converted alone: vectorised functions may round by where a number stands.
    """
    draws = torch.from_numpy(bank.uniform("diffusion", step, shape)).double().clamp(SMALLEST, 1.0 - SMALLEST)
    return torch.stack([torch.special.ndtri(draw).float() for draw in draws])
