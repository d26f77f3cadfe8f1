"""Finite scalar quantisation: a code is one level in each of a few bounded dimensions; nothing to collapse.

References:
    Mentzer et al. (2023), "Finite scalar quantization: VQ-VAE made simple", section 3.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

Levels = tuple[int, ...]


def quantise(raw: Float[Tensor, "*B D"], levels: Levels) -> Float[Tensor, "*B D"]:
    """The nearest code of the bounded input, each value in [-1, 1]; the gradient passes straight through.

    Zero maps to the null code, which is all zeros, for odd and for even numbers of levels.
    """
    bounded = _bound(raw, levels)
    rounded = bounded + (torch.round(bounded) - bounded).detach()
    return rounded / _half(levels, raw)


def levels_of(codes: Float[Tensor, "*B D"], levels: Levels) -> Int[Tensor, "*B D"]:
    """Which level, from 0, each dimension of a code stands at."""
    half = _half(levels, codes)
    return torch.round(codes * half + half).long()


def codes_of(level: Int[Tensor, "*B D"], levels: Levels) -> Float[Tensor, "*B D"]:
    """The code with these levels; the inverse of `levels_of`."""
    half = torch.tensor([n // 2 for n in levels], dtype=torch.float32, device=level.device)
    return (level - half) / half


def index_of(codes: Float[Tensor, "*B D"], levels: Levels) -> Int[Tensor, "*B"]:
    """One number from 0 to the product of the levels - 1 for each code."""
    place = torch.tensor([math.prod(levels[:i]) for i in range(len(levels))], device=codes.device)
    return (levels_of(codes, levels) * place).sum(-1)


def code_at(index: Int[Tensor, "*B"], levels: Levels) -> Float[Tensor, "*B D"]:
    """The code of this number; the inverse of `index_of`."""
    digits = []
    for n in levels:
        digits.append(index % n)
        index = torch.div(index, n, rounding_mode="floor")
    return codes_of(torch.stack(digits, dim=-1), levels)


def likeliest(logits: Float[Tensor, "*B S"], levels: Levels) -> Float[Tensor, "*B D"]:
    """The code of the likeliest level in each dimension; its gradient is that of the expected code.

    `logits` holds each dimension's levels one after another, so S is the sum of the levels.
    """
    picked, expected = [], []
    for part, n in zip(logits.split(list(levels), dim=-1), levels, strict=True):
        values = (torch.arange(n, dtype=part.dtype, device=part.device) - n // 2) / (n // 2)
        picked.append(values[part.argmax(-1)])
        if torch.is_grad_enabled():
            expected.append((part.softmax(-1) * values).sum(-1))
    hard = torch.stack(picked, dim=-1)
    if not expected:
        return hard
    soft = torch.stack(expected, dim=-1)
    return soft + (hard - soft).detach()


def _half(levels: Levels, like: Tensor) -> Tensor:
    return torch.tensor([n // 2 for n in levels], dtype=like.dtype, device=like.device)


def _bound(raw: Tensor, levels: Levels) -> Tensor:
    """Squash so that rounding gives exactly the n levels; even n are shifted by half a level (eq. 3 of the paper)."""
    n = torch.tensor(levels, dtype=raw.dtype, device=raw.device)
    reach = (n - 1.0) * (1.0 - 1e-3) / 2.0
    shift = torch.where(n % 2 == 1, 0.0, 0.5).to(raw.dtype)
    return torch.tanh(raw + torch.atanh(shift / reach)) * reach - shift
