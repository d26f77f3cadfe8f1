"""The simulator's step: everyone drives by IDM and MOBIL along routes, except the ego, row 0, who does as told."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from wmplan.scene import STEP_S, Light
from wmplan.simulator import idm, noise
from wmplan.simulator.ego import OnRoutes, drive, on_routes, travel
from wmplan.simulator.lane_change import Change, consider, stay, target
from wmplan.simulator.network import Network, lookup
from wmplan.simulator.perception import View, lights, look
from wmplan.simulator.state import State

MAX_BRAKE_MPS2 = 8.0
MAX_ACCEL_MPS2 = 3.0
SIDEWAYS_MPS, SIDEWAYS_SHARE, SIDEWAYS_PER_S = 1.3, 0.25, 1.2
"""A lane change: at most this fast sideways, at most this share of the speed, approaching the new lane at this rate."""


class Moment(NamedTuple):
    """What a world is seen to be at one step: boxes, who is there, the lights; where the ego is along its route, and
    whether its front passed a red line in the step that led here."""

    x: Float[Array, "*B A"]
    y: Float[Array, "*B A"]
    cos: Float[Array, "*B A"]
    sin: Float[Array, "*B A"]
    speed: Float[Array, "*B A"]
    active: Bool[Array, "*B A"]
    route: Int[Array, "*B"]
    s: Float[Array, "*B"]
    lateral: Float[Array, "*B"]
    red: Bool[Array, "*B"]


def step(network: Network, worlds: State, actions: Float[Array, "B 2"]) -> State:
    """B worlds `STEP_S` later, when the egos do `actions`: acceleration (m/s2) and curvature (1/m), clipped to the
    bicycle's bounds. Row-wise: a world alone is the same as in any batch."""
    return go_on(network, worlds, observe(network, worlds), actions)


class Observed(NamedTuple):
    """What everyone in B worlds sees, and wishes to do as an IDM driver (m/s2, before delay, noise and bounds; row 0 as
    if the ego were one too)."""

    view: View
    wanted: Float[Array, "B A"]


def observe(network: Network, worlds: State) -> Observed:
    """What everyone sees and wishes."""

    def one(state: State) -> Observed:
        view = look(network, state)
        return Observed(view, reactions(state, view))

    return jax.vmap(one)(worlds)


def go_on(network: Network, worlds: State, observed: Observed, actions: Float[Array, "B 2"]) -> State:
    """The worlds `STEP_S` later, given what everyone sees in them now."""
    targets = jax.vmap(target, in_axes=(None, 0))(network, worlds)
    # Nobody is near another lane in most steps, and then this costs nothing.
    change = jax.lax.cond(
        jnp.any(targets >= 0),
        lambda: consider(network, worlds, observed.view, targets),
        lambda: stay(worlds),
    )
    return jax.vmap(advance, in_axes=(None, 0, 0, 0, 0))(network, worlds, change, observed.wanted, actions)


def rollout(network: Network, worlds: State, actions: Float[Array, "B T 2"]) -> tuple[State, Moment]:
    """The worlds after all actions, and every moment on the way, time first: the present and T more."""

    def one(now: State, action: Array) -> tuple[State, Moment]:
        after = step(network, now, action)
        return after, moment(now, after, ran_red(network, now, after))

    none = jnp.zeros(worlds.steps.shape, dtype=bool)
    last, rest = jax.lax.scan(one, worlds, jnp.moveaxis(actions, 1, 0))
    first = moment(worlds, worlds, none)
    return last, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)


def alone(network: Network, state: State, action: Float[Array, "2"]) -> State:
    """One world `STEP_S` later."""
    several = jax.tree.map(lambda leaf: leaf[None], state)
    return jax.tree.map(lambda leaf: leaf[0], step(network, several, action[None]))


def reactions(state: State, view: View) -> Float[Array, "A"]:
    """What every row wishes to do as an IDM driver, m/s2, before delay, noise and bounds; row 0 as if the ego were one
    too."""
    follow = idm.acceleration(state.speed, state.speed - view.leader_speed, view.gap, view.desired, state.drivers)
    halt = idm.acceleration(state.speed, state.speed, view.to_line, view.desired, state.drivers)
    return jnp.where(view.halt, jnp.minimum(follow, halt), follow)


def advance(
    network: Network, state: State, change: Change, wanted: Float[Array, "A"], action: Float[Array, "2"]
) -> State:
    """The state `STEP_S` later when everyone goes on from `change`, drivers want these accelerations (from now on) and
    the ego does `action`."""
    rows = jnp.arange(len(wanted))
    wishes = jnp.concatenate([wanted[None], state.wanted[:-1]])
    delayed = lookup(wishes, state.drivers.reaction, rows)
    shaken = noise.after(state.noise, state.seed, state.steps)
    # Noise never pushes a driver who is braking: it may wander in free traffic, not into the car ahead.
    noisy = delayed + jnp.where(delayed < -1.0, jnp.minimum(shaken, 0.0), shaken)
    speed, distance = travel(state.speed, jnp.clip(noisy, -MAX_BRAKE_MPS2, MAX_ACCEL_MPS2))
    stands = state.drivers.speed_factor == 0.0
    speed, distance = jnp.where(stands, 0.0, speed), jnp.where(stands, 0.0, distance)
    s = change.s + distance
    back = state.rest - change.lateral
    most = jnp.minimum(SIDEWAYS_MPS, SIDEWAYS_SHARE * speed)
    sideways = jnp.clip(SIDEWAYS_PER_S * back, -most, most)
    lateral = change.lateral + STEP_S * sideways
    slip = sideways / jnp.maximum(speed, 1.0)
    x, y, cos, sin = boxes(network, state.road, change.route, s, state.length, lateral, slip)
    ego = drive((state.x[0], state.y[0], state.cos[0], state.sin[0], state.speed[0]), action)
    placed = on_routes(network, state.road, *ego[:4])
    ego_route, ego_s, ego_lateral = follow_ego(network, state, placed)
    first = rows == 0
    return state._replace(
        steps=state.steps + 1,
        route=jnp.where(first, ego_route, change.route),
        s=jnp.where(first, ego_s, s),
        lateral=jnp.where(first, ego_lateral, lateral),
        x=jnp.where(first, ego[0], x),
        y=jnp.where(first, ego[1], y),
        cos=jnp.where(first, ego[2], cos),
        sin=jnp.where(first, ego[3], sin),
        speed=jnp.where(first, ego[4], speed),
        active=first | (state.active & (s < lookup(network.length, state.road, change.route) - 0.5 * state.length)),
        wanted=wishes,
        noise=shaken,
        ego=placed,
    )


AXLE_SHARE = 0.3
"""Both axles are this share of the length from the middle, and follow the route."""


def boxes(
    network: Network,
    road: Int[Array, "..."],
    route: Int[Array, "*A"],
    s: Float[Array, "*A"],
    length: Float[Array, "*A"],
    lateral: Float[Array, "*A"],
    slip: Float[Array, "*A"],
) -> tuple[Float[Array, "*A"], ...]:
    """x, y, cos, sin of boxes whose axles follow their routes `lateral` to the left, and which move `slip` to the left
    for each metre ahead: a long box cuts the corner instead of swinging its tail out."""
    half = AXLE_SHARE * length
    front_x, front_y = _points(network, road, route, s + half)
    rear_x, rear_y = _points(network, road, route, s - half)
    dx, dy = front_x - rear_x, front_y - rear_y
    unit = 1.0 / jnp.sqrt(jnp.maximum(dx**2 + dy**2, 1e-9))
    return _aside(0.5 * (front_x + rear_x), 0.5 * (front_y + rear_y), dx * unit, dy * unit, lateral, slip)


def pose(
    network: Network,
    road: Int[Array, "..."],
    route: Int[Array, "*A"],
    s: Float[Array, "*A"],
    lateral: Float[Array, "*A"],
    slip: Float[Array, "*A"],
) -> tuple[Float[Array, "*A"], ...]:
    """x, y, cos, sin of places `s` along routes and `lateral` to the left, turned by `slip` to the left."""
    cos, sin = _between(network, network.cos, road, route, s), _between(network, network.sin, road, route, s)
    unit = 1.0 / jnp.sqrt(cos**2 + sin**2)
    x, y = _points(network, road, route, s)
    return _aside(x, y, cos * unit, sin * unit, lateral, slip)


def _points(network: Network, road: Array, route: Array, s: Array) -> tuple[Array, Array]:
    return _between(network, network.x, road, route, s), _between(network, network.y, road, route, s)


def _between(network: Network, table: Array, road: Array, route: Array, s: Array) -> Array:
    """What the table says at `s` metres along the routes; straight on beyond its ends."""
    share = s / network.spacing[road]
    low = jnp.clip(jnp.floor(share).astype(jnp.int32), 0, table.shape[-1] - 2)
    before, after = lookup(table, road, route, low), lookup(table, road, route, low + 1)
    return before + (share - low) * (after - before)


def _aside(x: Array, y: Array, cos: Array, sin: Array, lateral: Array, slip: Array) -> tuple[Array, ...]:
    turned = 1.0 / jnp.sqrt(1.0 + slip**2)
    return x - lateral * sin, y + lateral * cos, (cos - slip * sin) * turned, (sin + slip * cos) * turned


def follow_ego(network: Network, state: State, placed: OnRoutes) -> tuple[Array, Array, Array]:
    """The ego's route and where it is on it; the lane beside becomes its route when it is mostly there."""
    route = state.route[0]
    away = placed.lateral[route] / network.lane_width[state.road]
    left, right = network.left[state.road, route], network.right[state.road, route]
    new = jnp.where(away > 0.55, left, jnp.where(away < -0.55, right, route))
    new = jnp.where(new >= 0, new, route)
    s = placed.arc[new]
    return new, jnp.where(s > -1e3, s, state.s[0]), placed.lateral[new]


def moment(before: State, after: State, red: Bool[Array, "*B"]) -> Moment:
    """What `after` is seen to be."""
    return Moment(
        after.x,
        after.y,
        after.cos,
        after.sin,
        after.speed,
        after.active,
        after.route[..., 0],
        after.s[..., 0],
        after.lateral[..., 0],
        red,
    )


def ran_red(network: Network, before: State, after: State) -> Bool[Array, "B"]:
    """In which worlds the ego's front passed its stop line in this step while its light was red."""

    def one(before: State, after: State) -> Array:
        route = before.route[0]
        line = network.stop[before.road, route] - 0.5 * before.length[0]
        group = network.group[before.road, route]
        passed = (before.s[0] <= line) & (after.s[0] > line) & (group >= 0)
        return passed & (lights(network, before)[jnp.maximum(group, 0)] == int(Light.RED))

    return jax.vmap(one)(before, after)
