"""This project's planners on the benchmark's task, each plan one compiled program."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy import ndarray

from experiments.bench.peers.peer import ROUNDS, Entry, Planner, elites
from experiments.bench.planning_task import COST, STD, STEPS, Car
from optimizers import Cem, CemConfig, Mppi, MppiConfig
from optimizers.compiled import program, round_keys
from optimizers.motion import motion_of
from optimizers.refine import Refine
from optimizers.sampler import Sampler
from wmplan.plans import ROUTE_POINTS, Start


def entries() -> list[Entry]:
    """CEM as it is meant, CEM and MPPI with the algorithm of the plain programs, MPPI as it is meant."""
    return [
        Entry("wmplan CEM", "CEM", "wmplan", lambda n: planner(cem(n)), "iCEM, best of three re-scored"),
        Entry("wmplan CEM, refined", "CEM", "wmplan", lambda n: planner(cem(n), Refine()), "20 gradient steps"),
        Entry("wmplan CEM, plain setting", "CEM", "wmplan", lambda n: planner(plain_cem(n)), "as plain JAX"),
        Entry("wmplan MPPI", "MPPI", "wmplan", lambda n: planner(mppi(n)), "red noise, temperature by sample size"),
        Entry("wmplan MPPI, plain setting", "MPPI", "wmplan", lambda n: planner(plain_mppi(n)), "as plain JAX"),
    ]


def cem(candidates: int) -> Cem:
    """iCEM's form: exponent 2, four elites kept, a tenth of the old mean, best of mean, best sample and nominal."""
    return Cem(
        CemConfig(ROUNDS * candidates, ROUNDS, STEPS, elites=elites(candidates), keep=4, momentum=0.1, std_floor=0.0)
    )


def plain_cem(candidates: int) -> Cem:
    """White noise, nothing kept: the algorithm of the minimal program, and the best of three on top."""
    return Cem(replace(cem(candidates).config, keep=0, momentum=0.0, noise_exponent=0.0))


def mppi(candidates: int) -> Mppi:
    """Red noise, temperature set for an effective sample size of 8 in 1,024."""
    return Mppi(MppiConfig(candidates, 1, STEPS, effective_samples=max(4.0, candidates / 128), std_decay=0.85))


def plain_mppi(candidates: int) -> Mppi:
    """White noise of fixed size, temperature 1: the algorithm of the minimal program."""
    return Mppi(MppiConfig(candidates, 1, STEPS, temperature=1.0, noise_exponent=0.0, std_decay=1.0))


def planner(sampler: Sampler, refine: Refine | None = None) -> Planner:
    """A plan a call."""
    run = program(sampler, Car(), COST, refine=refine)
    fresh_search = search_of(sampler)
    last: list[Any] = [fresh_search]

    def plan(start: tuple[float, ...], seed: int, fresh: bool) -> ndarray:
        search = fresh_search if fresh or isinstance(sampler, Cem) else last[0]
        found = run(round_keys(sampler, seed), search, tuple(np.asarray(start, np.float32)), None)
        last[0] = found.search
        return np.asarray(found.controls)

    return plan


def search_of(sampler: Sampler) -> Any:
    """The state from which the task searches: mean zero, its own standard deviation."""
    route = np.stack([np.arange(ROUTE_POINTS), np.zeros(ROUTE_POINTS)], axis=1).astype(np.float32)
    motion = motion_of(Start(8.0, 0.0, 0.0, 4.8, 2.0, 10.0, route))
    std = jnp.asarray(np.tile(STD, (STEPS, 1)), jnp.float32)
    return jax.device_put(sampler.begin(motion, jnp.zeros((STEPS, 2)), std))
