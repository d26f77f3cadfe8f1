"""Randomness that belongs to its purpose: the same scene gets the same draws whatever else is in the run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy import ndarray


def fold_in(seed: int, *parts: str | int) -> int:
    """A seed (63 bits) for this purpose, e.g. `fold_in(7, scene_id, "cem", 0)`; the same on every machine."""
    text = "\x1f".join([str(seed), *(f"{type(p).__name__}:{p}" for p in parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


@dataclass(frozen=True)
class NoiseBank:
    """The noise of M imagined samples, shared by all candidates of a scene (common random numbers).

    Sample `m` draws the same numbers whatever M is, so racing with M = 1, 2, 4 reuses its first samples: a bank whose
    `first` is 2 holds the samples from the third on.
    """

    seed: int
    samples: int
    first: int = 0

    def uniform(self, purpose: str, step: int, shape: tuple[int, ...]) -> Float32[ndarray, "M ..."]:
        """Uniform draws in [0, 1), one block of `shape` a sample."""
        draws = [
            np.random.default_rng(fold_in(self.seed, purpose, step, m)).random(shape, dtype=np.float32)
            for m in range(self.first, self.first + self.samples)
        ]
        return np.stack(draws)

    def gumbel(self, purpose: str, step: int, shape: tuple[int, ...]) -> Float32[ndarray, "M ..."]:
        """Standard Gumbel draws, one block of `shape` a sample."""
        tiny = np.float32(1e-12)
        return -np.log(-np.log(self.uniform(purpose, step, shape) + tiny) + tiny)
