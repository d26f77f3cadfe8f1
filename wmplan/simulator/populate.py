"""The first state of a world: who is where, drawn from one key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wmplan.scene import STEP_S
from wmplan.simulator import behaviour, idm
from wmplan.simulator.network import ROUTES, SPAWN_ROUTES, SPAWNS, Network, allowed_speed, pose
from wmplan.simulator.traffic import AGENTS, VEHICLES, WALKERS, State, advance, look, reactions

SLOTS = 8
"""Places to start on each spawn."""
WARM_UP_STEPS = 50
"""Steps that everyone drives by IDM before a world is handed out, so that queues and gaps are settled."""
FEWEST_VEHICLES = 8
TRUCK_SHARE = 0.1
WALKER_SHARE = 0.7
EGO_SIZE_M = (4.6, 1.9)
GREEN_SHARE, GREEN_SOON_S = 0.75, 4.0


def reset(key: Array, network: Network) -> State:
    """A settled world: `FEWEST_VEHICLES` to `VEHICLES` vehicles around the ego (row 0), people at the crosswalks."""
    return warm_up(place(key, network))


def place(key: Array, network: Network) -> State:
    """A world as drawn, before anyone has moved."""
    where, who, when, noise, walk = jax.random.split(key, 5)
    route, s, used = _vehicles(where, network)
    walk_route, walk_s, walking = _walkers(walk, network)
    route, s = jnp.concatenate([route, walk_route]), jnp.concatenate([s, walk_s])
    size, drivers = _people(who)
    lateral = jnp.where(jnp.arange(AGENTS) == 0, 0.0, jax.random.uniform(jax.random.fold_in(who, 1), (AGENTS,)) - 0.5)
    placed = jax.vmap(pose)(network.points[route], network.arc[route], s, 0.5 * lateral, size[:, 0])
    limit = jax.vmap(allowed_speed)(network.arc[route], network.speeds[route], s)
    share = 0.75 + 0.25 * jax.random.uniform(when, ())
    to_line = jnp.where(network.group[route] >= 0, network.stop[route] - s - 0.5 * size[:, 0], jnp.inf)
    stoppable = jnp.where(to_line > 0.0, jnp.sqrt(4.0 * jnp.maximum(to_line - 2.0, 0.0)), jnp.inf)
    speed = jnp.minimum(share * limit, stoppable)
    return State(
        network=network,
        time=_time(jax.random.fold_in(when, 1), network, route[0]),
        steps=jnp.int32(0),
        route=route,
        s=s,
        lateral=0.5 * lateral,
        box=jnp.concatenate([placed, speed[:, None]], axis=-1),
        size=size,
        active=jnp.concatenate([used, walking]),
        drivers=drivers,
        noise=jnp.zeros(AGENTS),
        keys=jax.vmap(lambda row: jax.random.key_data(jax.random.fold_in(noise, row)))(jnp.arange(AGENTS)),
    )


def warm_up(state: State) -> State:
    """The same world `WARM_UP_STEPS` later, the ego an IDM driver too."""
    plain = jax.tree.map(lambda x: x[0], behaviour.plain(1))

    def one(state: State, _: None) -> tuple[State, None]:
        view = look(state)
        wanted = reactions(state, view)
        return advance(state, wanted, behaviour.act(state, view, wanted, plain)), None

    return jax.lax.scan(one, state, None, WARM_UP_STEPS)[0]


def _time(key: Array, network: Network, route: Array) -> Array:
    """The clock at which a world begins, seconds: often such that the ego's light is green soon after the warm-up, for
    a fixed-time light is red most of the time, and standing cars are poor logs."""
    any_time, soon, which = jax.random.uniform(key, (3,))
    group = network.group[route]
    since = -GREEN_SOON_S + (GREEN_SOON_S + network.green[group]) * soon
    green = jnp.mod(network.start[group] + since - WARM_UP_STEPS * STEP_S, network.cycle)
    return jnp.where((group >= 0) & (which < GREEN_SHARE), green, any_time * network.cycle)


def _vehicles(key: Array, network: Network) -> tuple[Array, Array, Array]:
    """Routes, places and use of the vehicle rows: the ego first, then those near it."""
    gaps, turn, pick, near, many, dense = jax.random.split(key, 6)
    density = jax.random.uniform(dense, (), minval=0.8, maxval=1.4)
    gap = density * jax.random.uniform(gaps, (SPAWNS, SLOTS), minval=17.0, maxval=42.0)
    gap = gap.at[:, 0].multiply(0.5)
    s = network.spawn_range[:, :1] + jnp.cumsum(gap, axis=1)
    choice = jax.random.randint(turn, (SPAWNS, SLOTS), 0, SPAWN_ROUTES)
    route = jnp.take_along_axis(network.spawn_route, choice, axis=1)
    usable = (s <= network.spawn_range[:, 1:]).reshape(-1)
    s, route = s.reshape(-1), route.reshape(-1)
    may_lead = usable & jnp.repeat(network.spawn_ego, SLOTS)
    draw = jax.random.uniform(pick, (SPAWNS * SLOTS,))
    ego = jnp.argmax(jnp.where(may_lead, draw, -1.0))
    at = jax.vmap(pose)(network.points[route], network.arc[route], s, jnp.zeros_like(s), jnp.full_like(s, 4.0))
    distance = jnp.linalg.norm(at[:, :2] - at[ego, :2][None], axis=-1)
    distance += 25.0 * jax.random.uniform(near, distance.shape)
    order = jnp.argsort(jnp.where(usable, distance, jnp.inf).at[ego].set(-1.0))[:VEHICLES]
    count = jax.random.randint(many, (), FEWEST_VEHICLES, VEHICLES + 1)
    return route[order], s[order], usable[order] & (jnp.arange(VEHICLES) < count)


def _walkers(key: Array, network: Network) -> tuple[Array, Array, Array]:
    """Routes, places and use of the rows of people on foot; no two start on one route."""
    order, far, use = jax.random.split(key, 3)
    draw = jax.random.uniform(order, (ROUTES,))
    route = jnp.argsort(jnp.where(network.walk, draw, jnp.inf))[:WALKERS]
    s = jax.random.uniform(far, (WALKERS,)) * jnp.maximum(network.stop[route] - 0.5, 0.0)
    return route, s, network.walk[route] & (jax.random.uniform(use, (WALKERS,)) < WALKER_SHARE)


def _people(key: Array) -> tuple[Float[Array, "A 2"], idm.Drivers]:
    """Sizes and driver parameters of all rows."""
    length, width, truck, drive = jax.random.split(key, 4)
    rows = jnp.arange(AGENTS)
    is_truck = (jax.random.uniform(truck, (AGENTS,)) < TRUCK_SHARE) & (rows > 0)
    a = jax.random.uniform(length, (AGENTS,))
    b = jax.random.uniform(width, (AGENTS,))
    car = jnp.stack([4.1 + 1.0 * a, 1.7 + 0.3 * b], axis=-1)
    lorry = jnp.stack([7.0 + 4.0 * a, 2.3 + 0.2 * b], axis=-1)
    size = jnp.where(is_truck[:, None], lorry, car)
    size = jnp.where((rows >= VEHICLES)[:, None], jnp.array([[0.6, 0.6]]), size)
    size = size.at[0].set(jnp.array(EGO_SIZE_M))
    drivers = idm.draw(drive, AGENTS)
    walks = rows >= VEHICLES
    return size, drivers._replace(
        time_gap=jnp.where(walks, 0.3, drivers.time_gap), standstill=jnp.where(walks, 0.3, drivers.standstill)
    )
