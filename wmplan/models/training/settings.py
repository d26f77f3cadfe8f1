"""How a network is trained: the one place of every default."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field

import numpy as np

from wmplan.models.dit_options import DitOptions


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a network is trained. Equal settings on equal data give equal weights where budgets are in steps."""

    family: str = "ar"
    """family of the model: ar, direct, dit, jump"""
    preset: str = "nano"
    """size of the model: nano, small or base"""
    quantiser: str = ""
    """how the tokenizer's codes are made discrete: fsq, vq_ema, rvq2; none = the preset's own"""
    minutes: float = 20.0
    """time of all stages together, minutes; divided by `shares`"""
    shares: tuple[float, ...] = ()
    """shares of the time of the family's stages; none = the family's own"""
    steps: tuple[int, ...] = ()
    """optimiser steps of each of the family's stages instead of minutes; none = use minutes"""
    horizon: int = 6
    """imagined steps of 0.5 s"""
    batch: int = 16
    """scenes in a batch"""
    learning_rate: float = 2e-3
    """peak of the learning rate of each stage, cosine after a warm-up"""
    weight_decay: float = 0.01
    """decoupled weight decay"""
    gradient_norm: float = 1.0
    """gradients longer than this are shortened"""
    average: float = 0.998
    """decay of the running average of the weights, which is what is saved"""
    seed: int = 0
    """seed of weights, batches and latents"""
    threads: int = 2
    """threads while training; another number rounds sums differently"""
    checkpoint_s: float = 60.0
    """seconds between checkpoints"""
    pair_share: float = 0.5
    """share of a batch that are counterfactuals, two of a scene, where there are any beside the logs"""
    perturbed_share: float = 0.1
    """share of the logs of a batch whose ego is moved, unlabelled where others may have reacted to that"""
    reaction_weight: float = 3.0
    """weight of what two actions of the ego change for the others, in pairs of counterfactuals"""
    null_share: float = 0.5
    """share of scenes that the tokenizer stage rolls without codes"""
    place_weight: float = 1.0
    """weight of the particles' distance from where their boxes carry them"""
    code_weight: float = 0.1
    """weight of the cross-entropy on the tokenizer's codes"""
    latent_weight: float = 0.1
    """weight of what the scene latent may know beyond `free_nats`"""
    free_nats: float = 0.5
    """what the scene latent may know of the future for free, nats"""
    prior_share: float = 0.5
    """share of scenes whose latent is drawn from the prior in training, as it is when imagining"""
    jump_span: int = 2
    """of family jump alone: steps of 0.5 s in a jump, 1 or more; the horizon is a multiple of it"""

    dit: DitOptions = field(default_factory=DitOptions)
    """of family dit alone: what is denoised and how"""

    def __post_init__(self) -> None:
        if self.steps and (min(self.steps) < 0 or not any(self.steps)):
            raise ValueError(f"Settings.steps is {self.steps}, expected counts from 0 up, not all 0")
        if not self.steps and not self.minutes > 0:
            raise ValueError(f"Settings.minutes is {self.minutes}, expected above 0")
        if self.shares and (min(self.shares) < 0 or not np.isclose(sum(self.shares), 1.0)):
            raise ValueError(f"Settings.shares is {self.shares}, expected shares that sum to 1")
        if self.family == "jump" and (self.jump_span < 1 or self.horizon % self.jump_span):
            raise ValueError(
                f"Settings.jump_span is {self.jump_span}, expected a divisor of the horizon {self.horizon}"
            )
        for name, low in (("batch", 1), ("horizon", 1), ("threads", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"Settings.{name} is {getattr(self, name)}, expected at least {low}")

    @property
    def digest(self) -> str:
        """Identifies what decides the weights (how often is checkpointed does not)."""
        parts = {name: value for name, value in asdict(self).items() if name != "checkpoint_s"}
        return hashlib.blake2b(repr(sorted(parts.items())).encode(), digest_size=16).hexdigest()
