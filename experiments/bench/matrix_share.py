"""How much of a computation's time its matrix products would take alone: the products are recorded and run again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

PRODUCTS = (
    "linear", "addmm", "mm", "matmul", "bmm", "baddbmm", "conv2d", "convolution", "scaled_dot_product_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
)  # fmt: skip
"""Operators that are products, by their names with and without inference mode."""


@dataclass(frozen=True)
class MatrixShare:
    """Floating-point operations of the matrix products (one multiply-add is two), and the rates, in 1e9 a second of CPU
    time, that they reach alone and within the whole computation."""

    gflop: float
    alone: float
    whole: float

    @property
    def ratio(self) -> float:
        """The share of the products' own rate that the whole computation reaches."""
        return self.whole / self.alone


def matrix_share(call: Callable[[], object], repeats: int) -> MatrixShare:
    """Rates of a call on one thread: the best of `repeats`, whole and products taken in turn."""
    with FlopCounterMode(display=False) as counted, torch.inference_mode():
        call()
    with _Recorder() as recorder, torch.inference_mode():
        call()
    whole, alone = [], []
    with torch.inference_mode():
        for _ in range(repeats):
            whole.append(_cpu_seconds(call))
            alone.append(_cpu_seconds(recorder.again))
    gflop = counted.get_total_flops() / 1e9
    return MatrixShare(gflop, gflop / min(alone), gflop / min(whole))


class _Recorder(TorchDispatchMode):
    """Keeps what every matrix product was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function.overloadpacket.__name__ in PRODUCTS:
            self.calls.append((function, args, kwargs or {}))
        return function(*args, **(kwargs or {}))

    def again(self) -> None:
        """The products alone."""
        for function, args, kwargs in self.calls:
            function(*args, **kwargs)


def _cpu_seconds(call: Callable[[], object]) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began
