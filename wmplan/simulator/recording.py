"""Worlds simulated for logs, a chunk at a time: every state on the way, so that a log can be written or gone on with.

Log i of a seed is always made in the chunk `i // CHUNK` by the same program, whatever it is wanted for: the same bytes
however many others are made, and a world that is resumed is the logged one bit for bit. All behaviours begin in the
same worlds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from wmplan import bicycle
from wmplan.randomness import fold_in
from wmplan.simulator import behaviour, maps
from wmplan.simulator.choices import to_actions, to_choices
from wmplan.simulator.ego_view import see
from wmplan.simulator.network import Network, stack
from wmplan.simulator.packing import pack
from wmplan.simulator.perception import lights
from wmplan.simulator.policies import mixture
from wmplan.simulator.policies.mixture import Mixture
from wmplan.simulator.policies.protocol import Policy, Situation
from wmplan.simulator.populate import WARM_UP_STEPS, place
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Observed, go_on, observe

LOG_STEPS = 121
"""States of a log: 12 s."""
CHUNK = 32
"""Worlds simulated together."""
LOGS_PER_MAP = 4
"""Logs that share a map (and are one group, so that a split never parts them): a map costs more than a log."""
EXPLORE = "explore"
"""The behaviour of `wmplan.simulator.behaviour`; all others are those of `wmplan.simulator.policies.mixture.named`."""
KEPT = 2
"""Chunks that are kept, the latest: whoever reads or resumes in order makes each once."""


class Recorded(NamedTuple):
    """T moments of B worlds: the state, the lights, what everyone saw, and what the ego then did. On the host, once
    they are in a `Chunk`."""

    states: State
    lights: Int[Array, "*T B G"]
    observed: Observed
    actions: Float[Array, "*T B 2"]


class AtWheel(NamedTuple):
    """Who drives B worlds: policies with an axis of components, which of them in each world at first and from each of
    the steps `redrawn` on, the steps that a decision is held."""

    policies: Policy
    component: Int[Array, "B S"]
    redrawn: Int[Array, "R"]
    hold: Int[Array, ""]


@dataclass(frozen=True, eq=False)
class Chunk:
    """`CHUNK` worlds from beginning to end. `behaviour` is None where the ego explores; `component` says which of its
    policies drove each world, at first and from each step on at which one was drawn anew."""

    roads: tuple[maps.SimMap, ...]
    networks: tuple[Network, ...]
    behaviour: Mixture | None
    recorded: Recorded
    component: Int[np.ndarray, "B S"]

    def world(self, row: int) -> Recorded:
        """One world's T moments, on its map alone (N = 1)."""
        one: Recorded = jax.tree.map(lambda leaf: leaf[:, row], self.recorded)
        return one._replace(states=one.states._replace(road=0 * one.states.road))

    def decisions(self, row: int) -> tuple[Int[np.ndarray, "N"], Situation, Float[np.ndarray, "N 2"]]:
        """The steps at which one world's ego decided, what the worlds were like then, and the decisions."""
        hold = self.behaviour.hold if self.behaviour else 1
        steps = np.arange(0, LOG_STEPS - 1, hold)
        then = jax.tree.map(lambda leaf: leaf[steps], self.world(row))
        network = self.networks[row // LOGS_PER_MAP]
        seen = _see(network, then.states, then.observed)
        return steps, Situation(network, then.states, then.observed, seen), then.actions


@lru_cache(maxsize=KEPT)
def simulate(kind: str, name: str, seed: int, chunk: int) -> Chunk:
    """Worlds `chunk * CHUNK` to `chunk * CHUNK + CHUNK - 1` of a seed on this kind of map (or `mixed`), the egos
    driving with the behaviour of this name.

    Raises:
        InputError: no such behaviour.
    """
    driver = None if name == EXPLORE else mixture.named(name)
    first = chunk * CHUNK // LOGS_PER_MAP
    roads = tuple(_road(seed, kind, first + i) for i in range(CHUNK // LOGS_PER_MAP))
    networks = tuple(pack(road) for road in roads)
    which = jnp.arange(CHUNK, dtype=jnp.int32) // LOGS_PER_MAP
    keys = _keys(seed, kind, range(chunk * CHUNK, (chunk + 1) * CHUNK))
    if driver is None:
        component = jnp.zeros((CHUNK, 1), dtype=jnp.int32)
        recorded = _explore(stack(list(networks)), which, keys)
    else:
        drawn = [mixture.draw(driver.weights, _fold(keys, jnp.int32(draw))) for draw in range(len(driver.redrawn) + 1)]
        component = jnp.stack(drawn, axis=1)
        at_wheel = AtWheel(driver.stacked, component, jnp.asarray(driver.redrawn, jnp.int32), jnp.int32(driver.hold))
        recorded = _drive(stack(list(networks)), which, keys, at_wheel)
    return Chunk(roads, networks, driver, jax.device_get(recorded), np.asarray(component))


def _road(seed: int, kind: str, number: int) -> maps.SimMap:
    """The map that a group of logs shares."""
    drawn, names = fold_in(seed, "simulator map", kind, number), list(maps.MAPS)
    return maps.MAPS[names[(drawn >> 8) % len(names)] if kind == "mixed" else kind](drawn)


def _keys(seed: int, kind: str, indices: range) -> Array:
    drawn = [fold_in(seed, "simulator", kind, index) for index in indices]
    return jnp.asarray([[s >> 32, s & 0xFFFFFFFF] for s in drawn], dtype=jnp.uint32)


@jax.jit
def _fold(keys: Array, draw: Int[Array, ""]) -> Array:
    """The keys that components are drawn with, the first time (0) and again."""
    return jax.vmap(lambda key: jax.random.fold_in(_split(key)[1], LOG_STEPS + draw))(keys)


def _split(key: Array) -> Array:
    """A world's two keys: for who is where, and for what the ego does."""
    return jax.random.split(jax.random.wrap_key_data(key))


@jax.jit
def _see(network: Network, worlds: State, observed: Observed) -> Float[Array, "N O"]:
    return see(network, worlds, observed)


@jax.jit
def _explore(network: Network, roads: Int[Array, "B"], keys: Array) -> Recorded:
    """B worlds, the egos exploring."""
    start, mind = jnp.moveaxis(jax.vmap(_split)(keys), 1, 0)
    plain = jax.vmap(lambda _: behaviour.plain(WARM_UP_STEPS))(start)
    parts = plain, jax.vmap(lambda key: behaviour.schedule(key, LOG_STEPS))(mind)
    minds = jax.tree.map(lambda *x: jnp.moveaxis(jnp.concatenate(x, axis=1), 1, 0), *parts)

    def one(worlds: State, now: behaviour.Schedule) -> tuple[State, Recorded]:
        observed = observe(network, worlds)
        actions = behaviour.act_each(network, worlds, observed, now)
        return _go_on(network, worlds, observed, actions)

    return _of_log(jax.lax.scan(one, place(network, roads, start), minds)[1])


@jax.jit
def _drive(network: Network, roads: Int[Array, "B"], keys: Array, at_wheel: AtWheel) -> Recorded:
    """B worlds, each ego with a policy of its own."""
    start, mind = jnp.moveaxis(jax.vmap(_split)(keys), 1, 0)
    calm = jax.tree.map(lambda leaf: leaf[0], behaviour.plain(1))

    def one(carry: tuple[State, Array], step: Array) -> tuple[tuple[State, Array], Recorded]:
        worlds, held = carry
        observed = observe(network, worlds)

        def warm_up() -> tuple[Array, Array]:
            return behaviour.act_all(network, worlds, observed, calm), held

        def decide() -> tuple[Array, Array]:
            situation = Situation(network, worlds, observed, see(network, worlds, observed))
            who = at_wheel.component[:, jnp.sum(step >= at_wheel.redrawn)]
            policies = jax.tree.map(lambda leaf: leaf[who], at_wheel.policies)
            actions = mixture.decide(policies, situation, jax.vmap(partial(jax.random.fold_in, data=step))(mind))
            return actions, to_choices(network, worlds, actions)

        def go_on_with() -> tuple[Array, Array]:
            bound = jnp.array([[bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM]])
            return jnp.clip(to_actions(network, worlds, held), -bound, bound), held

        what = jnp.where(step < 0, 0, jnp.where(step % at_wheel.hold == 0, 1, 2))
        actions, held = jax.lax.switch(what, (warm_up, decide, go_on_with))
        after, recorded = _go_on(network, worlds, observed, actions)
        return (after, held), recorded

    first = place(network, roads, start), jnp.zeros((*roads.shape, 2))
    return _of_log(jax.lax.scan(one, first, jnp.arange(-WARM_UP_STEPS, LOG_STEPS))[1])


def _go_on(network: Network, worlds: State, observed: Observed, actions: Array) -> tuple[State, Recorded]:
    shown = jax.vmap(lights, in_axes=(None, 0))(network, worlds)
    return go_on(network, worlds, observed, actions), Recorded(worlds, shown, observed, actions)


def _of_log(recorded: Recorded) -> Recorded:
    """What follows the warm-up of `populate.reset`, which is in one loop with it: compiling the world twice takes
    twice as long."""
    log: Recorded = jax.tree.map(lambda leaf: leaf[WARM_UP_STEPS:], recorded)
    return log
