"""Where drives begin: settled worlds on many maps, prepared once, since settling one costs half a drive."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from wmplan.errors import InputError
from wmplan.randomness import fold_in
from wmplan.simulator import noise
from wmplan.simulator.maps import MAPS
from wmplan.simulator.network import Network, stack
from wmplan.simulator.packing import Sizes, pack
from wmplan.simulator.populate import reset
from wmplan.simulator.task import Seat, sit

CHUNK = 256
"""Worlds that are settled at once, so that one compilation serves all."""
ALL = "all"
"""Maps of every kind in turn."""
EVERY_MAP = Sizes()
MERGE = Sizes(routes=4, points=24, spawns=8, zones=1, groups=1, moments=1)
"""Tables that hold every map, and smaller ones that hold merges, in which there is less to compute."""


def atlas(kind: str, worlds: int, seed: int, sizes: Sizes = EVERY_MAP) -> Network:
    """Maps of one kind, or of all in turn (`ALL`), seeds `seed` on, as one network.

    Raises:
        InputError: no such kind of map.
    """
    kinds = tuple(MAPS) if kind == ALL else (kind,)
    if not set(kinds) <= set(MAPS):
        raise InputError(f"kind: {kind!r}, expected one of {', '.join(MAPS)} or {ALL}")
    return stack([pack(MAPS[kinds[i % len(kinds)]](seed + i), sizes) for i in range(worlds)])


def settled(network: Network, count: int, seed: int) -> Seat:
    """`count` settled worlds on the maps of a network in turn, a multiple of `CHUNK`.

    Raises:
        InputError: no such multiple.
    """
    if count < 1 or count % CHUNK:
        raise InputError(f"starts: {count}, expected a multiple of {CHUNK}")
    roads = np.arange(count, dtype=np.int32) % network.length.shape[0]
    keys = jax.random.split(jax.random.key(fold_in(seed, "settled") % 2**32), count)
    parts = [_settle(network, jnp.asarray(roads[i : i + CHUNK]), keys[i : i + CHUNK]) for i in range(0, count, CHUNK)]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def with_ending(network: Network, starts: Seat, share: float) -> Seat:
    """As many starts, at least this share of them with the ego in a lane that ends, if any is: those are repeated in
    the place of others."""
    ends = np.asarray(network.dead_end)[np.asarray(starts.worlds.road), np.asarray(starts.worlds.route)[:, 0]]
    those, others = np.flatnonzero(ends), np.flatnonzero(~ends)
    missing = min(round(share * len(ends)) - len(those), len(others))
    if not len(those) or missing <= 0:
        return starts
    which = np.arange(len(ends))
    # Spread over the others, whose maps come in turn.
    replaced = others[np.linspace(0, len(others) - 1, missing).astype(int)]
    which[replaced] = np.resize(those, missing)
    return jax.tree.map(lambda leaf: leaf[which], starts)


def draw(key: Array, size: int) -> tuple[Array, Array]:
    """Which start, and what shakes the noise there."""
    which, shake = jax.random.split(key)
    return jax.random.randint(which, (), 0, size), jax.random.bits(shake)


def taken(starts: Seat, which: Int[Array, "B"], shake: Array) -> Seat:
    """These starts, with other noise for each `shake`."""
    seat: Seat = jax.tree.map(lambda leaf: leaf[which], starts)
    return seat._replace(worlds=seat.worlds._replace(seed=noise.mix(seat.worlds.seed ^ shake[:, None])))


@jax.jit
def _settle(network: Network, roads: Array, keys: Array) -> Seat:
    return sit(network, reset(network, roads, keys))
