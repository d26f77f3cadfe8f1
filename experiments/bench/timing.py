"""Timing compiled functions: what a call costs, whether it compiles again, how a cost grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import jax
import numpy as np

ROUNDS = 9
"""Calls timed, after the one that compiles."""


@dataclass(frozen=True)
class Timed:
    """Seconds of CPU time and by the clock of one call: the median of several, and compilations during these."""

    cpu: float
    clock: float
    recompiled: int


def timed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Timed:
    """What a call costs once it is compiled, over `ROUNDS` calls of which none should compile again."""
    jax.block_until_ready(function(*arguments))
    cpu, clock = [], []
    with Compilations() as compiled:
        for _ in range(ROUNDS):
            began = time.process_time(), time.perf_counter()
            jax.block_until_ready(function(*arguments))
            cpu.append(time.process_time() - began[0])
            clock.append(time.perf_counter() - began[1])
    return Timed(median(cpu), median(clock), compiled.count)


class Compilations:
    """Counts what JAX compiles while it is entered."""

    _event = "/jax/core/compile/backend_compile_duration"
    _all = 0
    _listens = False

    def __enter__(self) -> Compilations:
        if not Compilations._listens:
            jax.monitoring.register_event_duration_secs_listener(Compilations._heard)
            Compilations._listens = True
        self._before = Compilations._all
        return self

    def __exit__(self, *_: object) -> None:
        self.count = Compilations._all - self._before

    @staticmethod
    def _heard(event: str, duration_secs: float, **_: str | int) -> None:
        Compilations._all += event == Compilations._event


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """The power of the size with which the cost grows, by least squares in logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
