"""The yardstick: hand-written minimal JAX programs, one jit each, that do nothing but the algorithm."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from numpy import ndarray

from experiments.bench.peers.peer import ROUNDS, Entry, Planner, elites
from experiments.bench.planning_task import STD, STEPS, jax_costs

NAME_CEM, NAME_ICEM, NAME_MPPI = "plain JAX CEM", "plain JAX iCEM", "plain JAX MPPI"


def entries() -> list[Entry]:
    """CEM with white noise that returns its mean, iCEM that returns its best sample, MPPI that returns its mean."""
    return [
        Entry(NAME_CEM, "CEM", "JAX", _cem, "white noise, elite mean"),
        Entry(NAME_ICEM, "CEM", "JAX", _icem, "red noise, 4 kept, best sample"),
        Entry(NAME_MPPI, "MPPI", "JAX", _mppi, "white noise, temperature 1"),
    ]


def _cem(n: int) -> Planner:
    std = jnp.asarray(STD, jnp.float32)[None] + jnp.zeros((STEPS, 2))

    @jax.jit
    def program(seed: Array, start: Array) -> Array:
        def round_(carry: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], None]:
            mean, std = carry
            controls = mean[:, :, None] + std[:, :, None] * jax.random.normal(key, (STEPS, 2, n))
            controls = controls.at[:, :, 0].set(mean)
            best = jax.lax.top_k(-jax_costs(start, controls), elites(n))[1]
            kept = controls[:, :, best]
            return (kept.mean(axis=2), kept.std(axis=2)), None

        keys = jax.random.split(jax.random.key(seed), ROUNDS)
        return jax.lax.scan(round_, (jnp.zeros((STEPS, 2)), std), keys)[0][0]

    return _cold(program)


def _icem(n: int) -> Planner:
    std = jnp.asarray(STD, jnp.float32)[None] + jnp.zeros((STEPS, 2))
    shape = jnp.asarray(red())

    @jax.jit
    def program(seed: Array, start: Array) -> Array:
        def round_(carry: Any, key: Array) -> tuple[Any, None]:
            mean, std, kept, kept_costs = carry
            noise = (shape @ jax.random.normal(key, (STEPS, 2 * n))).reshape(STEPS, 2, n)
            controls = mean[:, :, None] + std[:, :, None] * noise
            pool = jnp.concatenate([controls, kept], axis=2)
            costs = jnp.concatenate([jax_costs(start, controls), kept_costs])
            negative, best = jax.lax.top_k(-costs, elites(n))
            chosen = pool[:, :, best]
            mean = 0.1 * mean + 0.9 * chosen.mean(axis=2)
            std = 0.1 * std + 0.9 * chosen.std(axis=2)
            return (mean, std, chosen[:, :, :4], -negative[:4]), None

        keys = jax.random.split(jax.random.key(seed), ROUNDS)
        first = (jnp.zeros((STEPS, 2)), std, jnp.zeros((STEPS, 2, 4)), jnp.full(4, jnp.inf))
        return jax.lax.scan(round_, first, keys)[0][2][:, :, 0]

    return _cold(program)


def _mppi(n: int) -> Planner:
    std = jnp.asarray(STD, jnp.float32)

    @jax.jit
    def program(seed: Array, start: Array, mean: Float[Array, "T 2"]) -> Array:
        noise = jax.random.normal(jax.random.key(seed), (STEPS, 2, n))
        controls = mean[:, :, None] + std[None, :, None] * noise
        return jnp.einsum("tuk,k->tu", controls, jax.nn.softmax(-jax_costs(start, controls)))

    mean = [jnp.zeros((STEPS, 2))]

    def plan(start: tuple[float, ...], seed: int, fresh: bool) -> ndarray:
        before = jnp.zeros((STEPS, 2)) if fresh else mean[0]
        mean[0] = program(_seed(seed), np.asarray(start, np.float32), before)
        return np.asarray(mean[0])

    return plan


def red() -> Float32[ndarray, "T T"]:
    """A root of the covariance of noise with power 1 / frequency^2, a quarter of that at zero; rows of norm 1."""
    frequency = np.fft.rfftfreq(STEPS)
    frequency[0] = 2.0 * frequency[1]
    row = np.fft.irfft(1.0 / frequency, STEPS)
    matrix = row[np.subtract.outer(np.arange(STEPS), np.arange(STEPS)) % STEPS]
    return (matrix / np.linalg.norm(row)).astype(np.float32)


def _cold(program: Any) -> Planner:
    def plan(start: tuple[float, ...], seed: int, fresh: bool) -> ndarray:
        return np.asarray(program(_seed(seed), np.asarray(start, np.float32)))

    return plan


def _seed(seed: int) -> np.uint32:
    return np.uint32(seed & 0xFFFFFFFF)
