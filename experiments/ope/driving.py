"""Policies at the wheel: on the road, or in worlds that were read from occupancy and go on for half a second.

Both run the same policies through the same observation (`traffic.observe`, `ego_view.see`) of the same kind of state;
what differs is only where the others' places come from.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from experiments.ope.fleet import Fleet
from wmplan import bicycle
from wmplan.scene import STEP_S, Kind
from wmplan.simulator.drivers import RANGES, Drivers
from wmplan.simulator.ego import drive, on_routes
from wmplan.simulator.ego_view import see
from wmplan.simulator.network import FAR_M, Network, lookup
from wmplan.simulator.policies.protocol import Situation
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Moment, follow_ego, go_on, moment, observe, ran_red

KEEPS_M = 0.5
"""A road user is taken to stay on its route unless another fits its place and heading by so much better."""
TURNED_M = 4.0
"""A heading at right angles to a route counts as so many metres beside it."""
SIZES_M = {Kind.VEHICLE: (4.6, 1.9), Kind.PEDESTRIAN: (0.6, 0.6), Kind.CYCLIST: (1.8, 0.6)}
"""Length and width of those who come into view later: occupancy tells their place better than their size."""


@partial(jax.jit, static_argnames="steps")
def on_road(network: Network, worlds: State, fleet: Fleet, keys: Array, steps: int) -> Moment:
    """`steps` steps of B egos among traffic that reacts: every moment [steps + 1, B], the present first."""

    def one(carry: tuple[State, Array], step: Array) -> tuple[tuple[State, Array], Moment]:
        now, held = carry
        observed = observe(network, now)
        situation = Situation(network, now, observed, see(network, now, observed))
        action, held = fleet.drive(situation, drawn(keys, step), step, held)
        after = go_on(network, now, observed, action)
        return (after, held), moment(now, after, ran_red(network, now, after))

    _, rest = jax.lax.scan(one, (worlds, nothing_held(worlds)), jnp.arange(steps))
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), present(worlds), rest)


@partial(jax.jit, static_argnames="steps")
def glide(
    network: Network,
    worlds: State,
    fleet: Fleet,
    keys: Array,
    begin: Int[Array, ""],
    held: Float[Array, "B 2"],
    steps: int,
) -> tuple[State, Float[Array, "B 2"], Moment, Float[Array, "T B 2"]]:
    """Steps `begin`, `begin + 1` and so on of a drive, in which the others keep speed and heading: the worlds then and
    what the egos hold, every moment after the present one, and what the egos did. Lights stay as they are: nobody knows
    at t0 when they change."""

    def one(carry: tuple[State, Array], step: Array) -> tuple[tuple[State, Array], tuple[Moment, Array]]:
        now, held = carry
        observed = observe(network, now)
        situation = Situation(network, now, observed, see(network, now, observed))
        action, held = fleet.drive(situation, drawn(keys, step), step, held)
        after = jax.vmap(_drift, in_axes=(None, 0, 0))(network, now, action)
        return (after, held), (moment(now, after, ran_red(network, now, after)), action)

    (last, held), (moments, actions) = jax.lax.scan(one, (worlds, held), begin + jnp.arange(steps))
    return last, held, moments, actions


def drawn(keys: Array, step: Int[Array, ""]) -> Array:
    """The policies' keys of a step of their drives."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, step)


@jax.jit
def known(network: Network, state: State, visible: Bool[Array, "A"]) -> State:
    """The world as far as it can be seen: `visible` rows, on the routes that their places suggest, with drivers,
    wishes and noise that say nothing of theirs; free rows have the usual sizes of their kinds."""
    rows = jnp.arange(len(state.kind))
    middle = Drivers(*(jnp.asarray(0.5 * (r[0] + r[1])) for r in RANGES))  # type: ignore[index]
    drivers = Drivers(
        *(
            jnp.where(rows == 0, own, value.astype(own.dtype))
            for own, value in zip(state.drivers, middle._replace(speed_factor=jnp.asarray(1.0)))
        )
    )
    length, width = state.length, state.width
    for kind, (long, wide) in SIZES_M.items():
        free = (state.kind == int(kind)) & ~visible
        length, width = jnp.where(free, long, length), jnp.where(free, wide, width)
    seen = state._replace(
        drivers=drivers,
        length=length,
        width=width,
        active=visible,
        wanted=jnp.zeros_like(state.wanted),
        noise=jnp.zeros_like(state.noise),
        seed=jnp.where(rows == 0, state.seed, jnp.zeros_like(state.seed)),
        rest=jnp.zeros_like(state.rest),
    )
    return _settle(network, seen, jnp.zeros((), bool))


@jax.jit
def settle(network: Network, worlds: State) -> State:
    """B worlds with everybody but the egos on the route that fits best to where they are."""
    return jax.vmap(_settle, in_axes=(None, 0, None))(network, worlds, jnp.ones((), bool))


@jax.jit
def decide(
    network: Network, worlds: State, fleet: Fleet, keys: Array, step: Int[Array, ""], held: Float[Array, "B 2"]
) -> tuple[Float[Array, "B 2"], Float[Array, "B 2"]]:
    """What the egos of B worlds do at this step of their drives, within the bicycle's bounds, and what they hold then.
    For roads that are not the simulator's: `put` shows what came of it."""
    observed = observe(network, worlds)
    situation = Situation(network, worlds, observed, see(network, worlds, observed))
    action, held = fleet.drive(situation, drawn(keys, step), step, held)
    bound = jnp.array([[bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM]])
    return jnp.clip(action, -bound, bound), held


@jax.jit
def put(network: Network, worlds: State, places: Float[Array, "B A 5"], active: Bool[Array, "B A"]) -> State:
    """B worlds a step later, with everybody, the egos too, at these places (x, y, cos, sin, speed)."""

    def one(state: State, place: Array, there: Array) -> State:
        x, y, cos, sin, speed = place.T
        placed = on_routes(network, state.road, x[0], y[0], cos[0], sin[0])
        route, s, lateral = follow_ego(network, state, placed)
        first = jnp.arange(len(state.kind)) == 0
        return state._replace(
            steps=state.steps + 1,
            clock=state.clock - 1,
            route=jnp.where(first, route, state.route),
            s=jnp.where(first, s, state.s),
            lateral=jnp.where(first, lateral, state.lateral),
            x=x,
            y=y,
            cos=cos,
            sin=sin,
            speed=speed,
            active=there,
            ego=placed,
        )

    return settle(network, jax.vmap(one)(worlds, places, active))


def present(worlds: State) -> Moment:
    """The present moment of B worlds."""
    return moment(worlds, worlds, jnp.zeros(worlds.steps.shape, dtype=bool))


def nothing_held(worlds: State) -> Float[Array, "B 2"]:
    """What the egos of B worlds hold before their first decision."""
    return jnp.zeros((*worlds.steps.shape, 2))


def several(state: State, count: int) -> State:
    """The same world so many times."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), state)


def _drift(network: Network, state: State, action: Float[Array, "2"]) -> State:
    ego = drive((state.x[0], state.y[0], state.cos[0], state.sin[0], state.speed[0]), action)
    placed = on_routes(network, state.road, *ego[:4])
    route, s, lateral = follow_ego(network, state, placed)
    first, metres = jnp.arange(len(state.kind)) == 0, STEP_S * state.speed
    return state._replace(
        steps=state.steps + 1,
        clock=state.clock - 1,
        route=jnp.where(first, route, state.route),
        s=jnp.where(first, s, state.s + metres),
        lateral=jnp.where(first, lateral, state.lateral),
        x=jnp.where(first, ego[0], state.x + metres * state.cos),
        y=jnp.where(first, ego[1], state.y + metres * state.sin),
        cos=jnp.where(first, ego[2], state.cos),
        sin=jnp.where(first, ego[3], state.sin),
        speed=jnp.where(first, ego[4], state.speed),
        ego=placed,
    )


def _settle(network: Network, state: State, keeps: Bool[Array, ""]) -> State:
    placed = jax.vmap(on_routes, in_axes=(None, None, 0, 0, 0, 0))(
        network, state.road, state.x, state.y, state.cos, state.sin
    )
    rows = jnp.arange(len(state.kind))
    fits = (placed.arc > -1e3) & (network.kind[state.road][None] == state.kind[:, None])
    apart = jnp.where(fits, jnp.abs(placed.lateral) + TURNED_M * (1.0 - placed.cos), FAR_M)
    best = jnp.argmin(apart, axis=1).astype(state.route.dtype)
    stays = keeps & (lookup(apart, rows, state.route) <= lookup(apart, rows, best) + KEEPS_M)
    route = jnp.where(stays, state.route, best)
    # Who is on no route is seen where it is, but in nobody's way.
    on = lookup(apart, rows, route) < FAR_M
    first = rows == 0
    return state._replace(
        route=jnp.where(first, state.route, route),
        s=jnp.where(first, state.s, jnp.where(on, lookup(placed.arc, rows, route), -FAR_M)),
        lateral=jnp.where(first, state.lateral, jnp.where(on, lookup(placed.lateral, rows, route), FAR_M)),
    )
