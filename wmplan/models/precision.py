"""In which numbers the transformer blocks compute: 32 bits, or bfloat16 where the processor has it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from wmplan.errors import InputError
from wmplan.models.dynamics import Block

Precision = Literal["float32", "bfloat16", "auto"]
"""`auto` is bfloat16 where the processor multiplies matrices of it, and float32 elsewhere: results then depend on the
machine, in the last digits."""


def resolved(precision: Precision) -> Literal["float32", "bfloat16"]:
    """What `auto` is on this machine; the others as they are.

    Raises:
        InputError: bfloat16 on a processor that would have to emulate it, slower than float32.
    """
    if precision == "auto":
        return "bfloat16" if has_bfloat16() else "float32"
    if precision == "bfloat16" and not has_bfloat16():
        raise InputError("precision is bfloat16, which this processor lacks: expected float32 or auto")
    return precision


def has_bfloat16() -> bool:
    """Whether this processor multiplies matrices of bfloat16 by itself (AVX512-BF16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def lowered(network: nn.Module, precision: Literal["float32", "bfloat16"]) -> nn.Module:
    """The network, changed in place, with its transformer blocks in this precision. Tokens between blocks, particles
    and what is drawn stay in 32 bits: a place in metres needs more than three digits."""
    if precision == "bfloat16":
        for module in network.modules():
            if isinstance(module, Block):
                module.bfloat16()
    return network
