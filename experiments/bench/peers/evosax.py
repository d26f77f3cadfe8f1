"""evosax: separable natural evolution strategy and separable CMA-ES, the whole plan one jitted scan."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from evosax.algorithms import SNES, Sep_CMA_ES
from jaxtyping import Array
from numpy import ndarray

from experiments.bench.peers.peer import ROUNDS, Entry, Planner
from experiments.bench.planning_task import STD, STEPS, jax_costs


def entries() -> list[Entry]:
    """Both plan in units of the first standard deviation; the best solution of their archive is the plan."""
    return [
        Entry("evosax SNES", "CEM", "JAX", functools.partial(_planner, SNES), "ask/tell in one jit(scan)"),
        Entry("evosax Sep_CMA_ES", "CEM", "JAX", functools.partial(_planner, Sep_CMA_ES), "ask/tell in one jit(scan)"),
    ]


def _planner(algorithm: Any, n: int) -> Planner:
    strategy = algorithm(population_size=n, solution=jnp.zeros(STEPS * 2))
    params = strategy.default_params.replace(std_init=1.0)
    scale = jnp.asarray(STD, jnp.float32)

    @jax.jit
    def program(seed: Array, start: Array) -> Array:
        def round_(state: Any, key: Array) -> tuple[Any, None]:
            ask, tell = jax.random.split(key)
            population, state = strategy.ask(ask, state, params)
            controls = population.reshape(n, STEPS, 2).transpose(1, 2, 0) * scale[None, :, None]
            state, _ = strategy.tell(tell, population, jax_costs(start, controls), state, params)
            return state, None

        begin, rest = jax.random.split(jax.random.key(seed))
        state = strategy.init(begin, jnp.zeros(STEPS * 2), params)
        state, _ = jax.lax.scan(round_, state, jax.random.split(rest, ROUNDS))
        return state.best_solution.reshape(STEPS, 2) * scale[None]

    def plan(start: tuple[float, ...], seed: int, fresh: bool) -> ndarray:
        return np.asarray(program(np.uint32(seed & 0xFFFFFFFF), np.asarray(start, np.float32)))

    return plan
