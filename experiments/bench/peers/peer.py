"""What an adapter gives: named planners on the benchmark's task, each a function that makes one plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from numpy import ndarray

ROUNDS = 5
"""Rounds of a CEM plan, and calls of MPPI in a row where quality is compared: the same imagined steps."""


def elites(candidates: int) -> int:
    """Elites of a round: 64 of 1,024, at least 12."""
    return max(12, candidates // 16)


@runtime_checkable
class Planner(Protocol):
    """One plan a call: controls (acceleration m/s2, steering rad) on the host. `fresh` starts from new; CEM always
    does, MPPI else goes on from its last plan, without a shift."""

    def __call__(self, start: tuple[float, ...], seed: int, fresh: bool) -> Float[ndarray, "T 2"]: ...


@dataclass(frozen=True)
class Entry:
    """A row of the table. `prepare(candidates)` gives the planner with that many candidates a round."""

    name: str
    family: Literal["CEM", "MPPI"]
    library: Literal["wmplan", "JAX", "torch"]
    prepare: Callable[[int], Planner]
    note: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return self.library == "wmplan"
