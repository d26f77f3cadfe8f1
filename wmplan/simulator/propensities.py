"""How likely logged decisions were, under the behaviour that made them and under any other policy."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.scene import Driven
from wmplan.simulator.policies.mixture import Mixture, each_density, log_densities
from wmplan.simulator.policies.protocol import Policy, Situation, WithDensity
from wmplan.simulator.recording import Chunk
from wmplan.simulator.source import Source


def driven(chunk: Chunk, row: int) -> Driven | None:
    """The decisions of one world's ego with their densities, the component that of the log's end; None where the
    behaviour has none."""
    behaviour = chunk.behaviour
    if behaviour is None or not behaviour.has_density:
        return None
    steps, situation, actions = chunk.decisions(row)
    log_density = log_densities(behaviour, steps, _each(behaviour, situation, actions))
    return Driven(behaviour.names[int(chunk.component[row, -1])], steps.astype(np.int32), actions, log_density)


def densities(policy: WithDensity | Mixture, log_id: str, logged: Driven, first: int = 0) -> Float[ndarray, "N"]:
    """The logarithm of the density of each logged decision of a simulated log if `policy` had decided, in the very
    situations in which they were made; for a mixture given all decisions before it. `first` is the log's step from
    which `logged.steps` count: 0 for a log's, t0 for a future's. Ask for all policies of a log before the next log:
    worlds that were simulated again are kept for a while.

    Raises:
        InputError: no simulated log, or other decisions than those of this world (another version made them).
    """
    source, index = Source.of_log(log_id)
    steps, situation, actions = _decisions(*source.world(index))
    wanted = np.searchsorted(steps, first + logged.steps)
    if (wanted >= len(steps)).any() or not np.array_equal(actions[wanted], logged.actions):
        raise InputError(
            f"log {log_id}: decisions differ from its world's, expected those of this version: simulate again"
        )
    if isinstance(policy, Mixture):
        return log_densities(policy, steps, _each(policy, situation, actions))[wanted]
    return np.asarray(_density(policy, situation, actions), np.float64)[wanted]


@lru_cache(maxsize=8)
def _decisions(chunk: Chunk, row: int) -> tuple[Int[ndarray, "N"], Situation, Float[ndarray, "N 2"]]:
    return chunk.decisions(row)


@jax.jit
def _density(policy: Policy, situation: Situation, actions: Float[Array, "N 2"]) -> Float[Array, "N"]:
    return cast(WithDensity, policy).log_density(situation, actions)


def _each(behaviour: Mixture, situation: Situation, actions: Float[ndarray, "N 2"]) -> Float[ndarray, "M N"]:
    return np.asarray(each_density(behaviour.stacked, len(behaviour.weights), situation, actions), np.float64)
