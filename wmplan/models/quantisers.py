"""How the tokenizer's codes are made discrete: one Protocol, and the quantisers by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wmplan.errors import InputError
from wmplan.models import fsq
from wmplan.models.presets import Preset
from wmplan.models.vq import VectorQuantiser


@runtime_checkable
class Quantiser(Protocol):
    """Vectors of `width` numbers to codes of as many, in a scale of order one, and codes to digits and back.

    A code has a digit for each of `splits`, which tells how many values it may take; the digits of the null code, which
    is all zeros, are `null`. `books` tells how many words each codebook has.
    """

    width: int
    splits: tuple[int, ...]
    null: tuple[int, ...]
    books: tuple[int, ...]

    def quantise(self, raw: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The code of each vector; the gradient passes straight through."""
        ...

    def digits(self, raw: Float[Tensor, "*B D"]) -> Int[Tensor, "*B G"]:
        """The digits of each vector's code."""
        ...

    def codes_of(self, digits: Int[Tensor, "*B G"]) -> Float[Tensor, "*B D"]:
        """The code with these digits."""
        ...

    def words(self, digits: Int[Tensor, "*B G"]) -> Int[Tensor, "*B W"]:
        """Which word of each codebook the digits stand for."""
        ...

    def likeliest(self, logits: Float[Tensor, "*B S"]) -> Float[Tensor, "*B D"]:
        """The code of the likeliest digits (each digit's logits one after another); its gradient is that of the
        expected code."""
        ...

    def learn(self, raw: Float[Tensor, "*B D"], told: Bool[Tensor, "*B"]) -> Float[Tensor, ""]:
        """A loss that keeps the vectors of `told` near their codes; moves what is learned without gradients."""
        ...


class ScalarQuantiser(nn.Module):
    """`wmplan.models.fsq`: nothing is learned, so nothing can collapse."""

    def __init__(self, levels: fsq.Levels) -> None:
        super().__init__()
        self.width, self.splits, self.books = len(levels), levels, (math.prod(levels),)
        self.null = tuple(n // 2 for n in levels)

    def quantise(self, raw: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The nearest code of the bounded input."""
        return fsq.quantise(raw, self.splits)

    def digits(self, raw: Float[Tensor, "*B D"]) -> Int[Tensor, "*B G"]:
        """The level in each dimension."""
        return fsq.levels_of(fsq.quantise(raw, self.splits), self.splits)

    def codes_of(self, digits: Int[Tensor, "*B G"]) -> Float[Tensor, "*B D"]:
        """The code with these levels."""
        return fsq.codes_of(digits, self.splits)

    def words(self, digits: Int[Tensor, "*B G"]) -> Int[Tensor, "*B 1"]:
        """One number for each combination of levels."""
        return fsq.index_of(fsq.codes_of(digits, self.splits), self.splits)[..., None]

    def likeliest(self, logits: Float[Tensor, "*B S"]) -> Float[Tensor, "*B D"]:
        """The code of the likeliest level in each dimension."""
        return fsq.likeliest(logits, self.splits)

    def learn(self, raw: Float[Tensor, "*B D"], told: Bool[Tensor, "*B"]) -> Float[Tensor, ""]:
        """Zero: rounding needs no commitment."""
        return raw.new_zeros(())


QUANTISERS: dict[str, Callable[[Preset], ScalarQuantiser | VectorQuantiser]] = {
    "fsq": lambda preset: ScalarQuantiser(preset.levels),
    "vq_ema": lambda preset: VectorQuantiser(stages=1),
    "rvq2": lambda preset: VectorQuantiser(stages=2),
}


def quantiser_of(name: str, preset: Preset) -> ScalarQuantiser | VectorQuantiser:
    """An untrained quantiser of this name.

    Raises:
        InputError: if there is none.
    """
    if name not in QUANTISERS:
        raise InputError(f"quantiser is {name!r}, expected one of {sorted(QUANTISERS)}")
    return QUANTISERS[name](preset)


def null_bias(quantiser: Quantiser, size: float) -> Float[Tensor, "S"]:
    """Logits that favour the null code by `size` in every digit."""
    bias = torch.zeros(sum(quantiser.splits))
    start = 0
    for values, null in zip(quantiser.splits, quantiser.null, strict=True):
        bias[start + null] = size
        start += values
    return bias


def perplexity(words: Int[Tensor, "N"], size: int) -> float:
    """The number of words that, used equally often, would be as unpredictable as these."""
    share = torch.bincount(words, minlength=size).double() / max(len(words), 1)
    return float(torch.special.entr(share).sum().exp())
