"""Noise schedules, and what a denoiser may predict: four ways to say the same, converted exactly.

A noisy latent is x = alpha clean + sigma noise. Of (clean, noise) and x any one linear combination that is not x itself
gives all others, so a network that is trained on one objective can be read as any other.

References:
    Nichol & Dhariwal (2021), "Improved denoising diffusion probabilistic models", section 3.2 (cosine).
    Salimans & Ho (2022), "Progressive distillation", section 4 (v). Lipman et al. (2023), "Flow matching", eq. 23.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from wmplan.models.dit_options import OBJECTIVES, SCHEDULES

REST = 0.01
"""Signal left at time 1: little enough to start from pure noise, and conversions never divide by zero."""


def levels(schedule: str, time: Float[Tensor, "*B"]) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """alpha and sigma at each time in [0, 1]: exactly (1, 0) at 0, alpha = `REST` at 1.

    `cosine` keeps alpha^2 + sigma^2 = 1, `linear` alpha + sigma = 1.
    """
    if schedule == "cosine":
        angle = time * math.acos(REST)
        return torch.cos(angle), torch.sin(angle)
    if schedule == "linear":
        return 1.0 - (1.0 - REST) * time, (1.0 - REST) * time
    raise ValueError(f"schedule is {schedule!r}, expected one of {', '.join(SCHEDULES)}")


def wanted(
    objective: str,
    clean: Float[Tensor, "*B"],
    noise: Float[Tensor, "*B"],
    alpha: Float[Tensor, "*#B"],
    sigma: Float[Tensor, "*#B"],
) -> Float[Tensor, "*B"]:
    """What a network with this objective is to predict."""
    if objective == "x0":
        return clean
    if objective == "eps":
        return noise
    if objective == "v":
        return alpha * noise - sigma * clean
    if objective == "flow":
        return noise - clean
    raise ValueError(f"objective is {objective!r}, expected one of {', '.join(OBJECTIVES)}")


def clean_of(
    objective: str,
    predicted: Float[Tensor, "*B"],
    noisy: Float[Tensor, "*B"],
    alpha: Float[Tensor, "*#B"],
    sigma: Float[Tensor, "*#B"],
) -> Float[Tensor, "*B"]:
    """The clean latent that a prediction stands for, given the noisy one."""
    if objective == "x0":
        return predicted
    if objective == "eps":
        return (noisy - sigma * predicted) / alpha
    if objective == "v":
        return (alpha * noisy - sigma * predicted) / (alpha.square() + sigma.square())
    if objective == "flow":
        return (noisy - sigma * predicted) / (alpha + sigma)
    raise ValueError(f"objective is {objective!r}, expected one of {', '.join(OBJECTIVES)}")
