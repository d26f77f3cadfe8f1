"""How fast the simulator drives: whole worlds, its parts, and how the cost grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.road_crowd import crowd
from experiments.bench.timing import timed
from wmplan.simulator import lane_change, traffic
from wmplan.simulator.maps import MAPS
from wmplan.simulator.network import Network, stack
from wmplan.simulator.packing import pack
from wmplan.simulator.populate import reset
from wmplan.simulator.state import State

STEPS = 50
"""Steps of one timed rollout: 5 s."""
MAPS_EACH = 4
"""Maps of every kind that the worlds share."""


@dataclass(frozen=True)
class Rate:
    """Agent-steps a second in one process, padded rows included: by its CPU time, by the clock, medians over rounds.
    `active` is the share of rows that were somebody."""

    per_cpu_second: float
    per_second: float
    active: float
    recompiled: int


def job(largest: int) -> Callable[[str], Rate | dict[str, float]]:
    """A worker's handler: `rate <worlds>` or `parts <worlds>`, at most `largest` worlds."""
    network = atlas()
    everything = worlds_of(network, largest)

    def handle(task: str) -> Rate | dict[str, float]:
        what, count = task.split()[:2]
        worlds = jax.tree.map(lambda leaf: leaf[: int(count)], everything)
        return rate(network, worlds) if what == "rate" else parts(network, worlds)

    return handle


def crowd_job(worlds: int) -> Callable[[str], Rate]:
    """A worker's handler; the task is a number of road users in each of so many worlds."""
    return lambda task: rate(*crowd(int(task.split()[0]), worlds))


def atlas() -> Network:
    """The maps that all measurements share: every kind, with traffic rules, lights and people as they come."""
    return stack([pack(build(seed)) for build in MAPS.values() for seed in range(MAPS_EACH)])


def worlds_of(network: Network, count: int) -> State:
    """So many settled worlds, spread over the maps."""
    roads = jnp.arange(count) % network.length.shape[0]
    return jax.jit(reset)(network, roads, jax.random.split(jax.random.key(0), count))


def rate(network: Network, worlds: State) -> Rate:
    """The speed of `traffic.rollout` with everything on and every moment kept."""
    count = len(worlds.steps)
    cost = timed(jax.jit(traffic.rollout), (network, worlds, some_actions(count, STEPS)))
    agents = worlds.active.size * STEPS
    return Rate(agents / cost.cpu, agents / cost.clock, float(worlds.active.mean()), cost.recompiled)


def parts(network: Network, worlds: State) -> dict[str, float]:
    """CPU time of each part, compiled and timed alone, relative to that of a whole step."""
    count = len(worlds.steps)
    seen = jax.jit(traffic.observe)(network, worlds)
    targets = jax.vmap(lane_change.target, in_axes=(None, 0))(network, worlds)
    change = lane_change.stay(worlds)
    actions = some_actions(count, 1)[:, 0]
    calls: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "who is in whose way, right of way, lights, wishes": (jax.jit(traffic.observe), (network, worlds)),
        "lane changes": (jax.jit(lane_change.consider), (network, worlds, seen.view, targets)),
        "motion, poses, the ego on its routes": (
            jax.jit(jax.vmap(traffic.advance, in_axes=(None, 0, 0, 0, 0))),
            (network, worlds, change, seen.wanted, actions),
        ),
    }
    costs = {name: timed(function, arguments).cpu for name, (function, arguments) in calls.items()}
    costs["lane changes"] /= lane_change.EVERY_STEPS
    whole = timed(jax.jit(traffic.rollout), (network, worlds, some_actions(count, STEPS))).cpu / STEPS
    return {name: cost / whole for name, cost in costs.items()}


def some_actions(count: int, steps: int) -> jax.Array:
    """Gentle random actions for every ego."""
    draw = np.random.default_rng(0).standard_normal((count, steps, 2)).astype(np.float32)
    return jnp.asarray(draw * np.array([0.5, 0.002], np.float32))
