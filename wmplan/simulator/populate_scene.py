"""The first state of a road made of a real scene: everybody where the log has them."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy import ndarray

from wmplan.randomness import fold_in
from wmplan.scene import Kind
from wmplan.simulator.drivers import draw
from wmplan.simulator.ego import on_routes
from wmplan.simulator.network import Network
from wmplan.simulator.packing import Sizes, pack
from wmplan.simulator.scene_road import SceneRoad
from wmplan.simulator.state import DELAYS, State
from wmplan.simulator.traffic import observe


def of_scene(found: SceneRoad, seed: int) -> tuple[Network, State]:
    """The scene's road and its state at t0 (no batch axis); drivers' parameters are drawn for `seed` and each agent's
    id, so that they do not depend on who else takes part.

    Wishes for speed are in the routes, so nobody likes to exceed them; who stands for good has a wish of 0.
    """
    network = pack(found.road, replace(Sizes(), routes=found.rows))
    return network, state_of(found, network, seed)


def state_of(found: SceneRoad, network: Network, seed: int) -> State:
    """The state alone, on the scene's road as `of_scene` gives it."""
    start, rows = found.start, found.rows
    used = len(start.ids)

    def padded(values: ndarray, empty: float) -> Array:
        full = np.full(rows, empty, dtype=np.int32 if values.dtype.kind == "i" else np.float32)
        full[:used] = values
        return jnp.asarray(full)

    x, y, yaw = (padded(values, 0.0) for values in (start.x, start.y, start.yaw))
    # Padded rows stand on routes that do not exist, far from everything.
    x, y = jnp.where(jnp.arange(rows) < used, x, 1e4), jnp.where(jnp.arange(rows) < used, y, 1e4)
    kind = padded(np.where(start.kind == Kind.OTHER, Kind.VEHICLE, start.kind), float(Kind.VEHICLE))
    seeds = np.zeros(rows, np.uint32)
    seeds[:used] = [fold_in(seed, found.road.name, name) & 0xFFFFFFFF for name in start.ids]
    return _settled(
        network,
        jnp.asarray(seeds),
        kind,
        padded(start.stands.astype(np.float64), 0.0),
        jnp.stack([x, y, yaw, *(padded(v, 0.0) for v in (start.s, start.lateral, start.speed))]),
        jnp.stack([padded(start.length, 1.0), padded(start.width, 1.0)]),
        jnp.arange(rows) < used,
    )


@jax.jit
def _settled(
    network: Network, seeds: Array, kind: Array, stands: Array, places: Array, sizes: Array, used: Array
) -> State:
    x, y, yaw, s, lateral, speed = places
    rows, road = len(kind), jnp.int32(0)
    drivers = jax.vmap(lambda row, of: jax.tree.map(lambda leaf: leaf[0], draw(row, of[None])))(seeds, kind)
    state = State(
        road=road,
        steps=jnp.int32(0),
        clock=jnp.int32(0),
        route=jnp.arange(rows, dtype=jnp.int32),
        s=s,
        lateral=lateral,
        rest=lateral,
        x=x,
        y=y,
        cos=jnp.cos(yaw),
        sin=jnp.sin(yaw),
        speed=speed,
        length=sizes[0],
        width=sizes[1],
        kind=kind,
        active=used,
        drivers=drivers._replace(speed_factor=1.0 - stands),
        wanted=jnp.zeros((DELAYS, rows)),
        noise=jnp.zeros(rows),
        seed=seeds,
        ego=on_routes(network, road, x[0], y[0], jnp.cos(yaw[0]), jnp.sin(yaw[0])),
    )
    # What they wish for now they have wished for all along, or the slow to react would coast at first.
    wished = observe(network, jax.tree.map(lambda leaf: leaf[None], state)).wanted[0]
    return state._replace(wanted=jnp.broadcast_to(wished, (DELAYS, rows)))
