"""MOBIL: lanes are changed when that helps oneself more than it hurts the others, and never into somebody's way.

References:
    Kesting, Treiber, Helbing (2007), General lane-changing model MOBIL for car-following models, equations 1 to 3.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from wmplan.scene import Kind
from wmplan.simulator import idm
from wmplan.simulator.drivers import Drivers
from wmplan.simulator.network import FAR_M, Network, lookup
from wmplan.simulator.overlap import unpack
from wmplan.simulator.perception import View, ahead, behind, everyone_on, place
from wmplan.simulator.state import State

EVERY_STEPS = 5
"""Lanes are considered twice a second: to the left, then to the right, so that two never meet in one gap."""
SAFE_DECEL_MPS2 = 3.0
"""What the new follower may be made to brake, at most."""
ENDING_BIAS_MPS2 = 1.5
"""The wish to leave a lane that ends."""
TOGETHER = 8
"""So many rows of a world are compared with everybody at a time."""
SETTLED_M = 0.6
"""Who is farther from the own lane's centre than this is still changing."""


class Change(NamedTuple):
    """Where each row is after it may have begun to change lanes: the new route, and the old place seen from it."""

    route: Int[Array, "A"]
    s: Float[Array, "A"]
    lateral: Float[Array, "A"]


def target(network: Network, state: State) -> Int[Array, "A"]:
    """The route beside each row's own that it may consider at this moment; -1 where there is none."""
    left = jnp.mod(state.steps, 2 * EVERY_STEPS) < EVERY_STEPS
    beside = jnp.where(left, network.left[state.road], network.right[state.road])
    window = lookup(network.change, state.road, state.route)
    may = state.active & (state.kind == int(Kind.VEHICLE)) & (jnp.arange(state.s.shape[0]) > 0)
    may &= (jnp.abs(state.lateral - state.rest) < SETTLED_M) & (state.s > window[:, 0]) & (state.s < window[:, 1])
    due = jnp.mod(state.steps, EVERY_STEPS) == 0
    return jnp.where(due & may, lookup(beside, state.route), -1)


def stay(state: State) -> Change:
    """Everyone keeps to the own route."""
    return Change(state.route, state.s, state.lateral)


def consider(network: Network, worlds: State, view: View, targets: Int[Array, "B A"]) -> Change:
    """Who should, changes to the route of `targets`, in B worlds.

    Few rows of a world have a lane beside them, and only those are compared with everybody: `TOGETHER` of each world at
    a time, as often as it takes. All decide upon what is now, so their order changes nothing.
    """
    size = min(TOGETHER, targets.shape[1])
    turns = -(-jnp.max(jnp.sum(targets >= 0, axis=1)) // size)
    some = jax.vmap(_some, in_axes=(None, 0, 0, 0, 0, 0))

    def turn(number: Array, change: Change) -> Change:
        rows = jax.vmap(partial(_those, size=size), in_axes=(0, None))(targets >= 0, number)
        return some(network, worlds, view, targets, rows, change)

    return jax.lax.fori_loop(0, turns, turn, stay(worlds))


def _some(
    network: Network, state: State, view: View, target: Int[Array, "A"], rows: Int[Array, "M"], change: Change
) -> Change:
    """`change` and what these rows do, whose routes to consider are in `target`."""
    target = lookup(target, rows)
    new, route, own_s = jnp.maximum(target, 0), lookup(state.route, rows), lookup(state.s, rows)
    number = lookup(place(network, state), rows)
    beside = unpack(lookup(network.overlap, state.road, route, number, new))
    s = beside.arc + (own_s - number * network.spacing[state.road]) * beside.cos
    goes = (beside.arc > -1e3) & worthwhile(network, state, view, rows, target, s)
    lateral = beside.lateral + lookup(state.lateral, rows) * beside.cos
    mine = (rows[:, None] == jnp.arange(state.s.shape[0])[None]) & goes[:, None]

    def put(values: Array, old: Array) -> Array:
        """The values of those who go in their places; each is named once."""
        return jnp.where(jnp.any(mine, axis=0), jnp.sum(jnp.where(mine, values[:, None], 0), axis=0), old)

    return Change(put(new, change.route), put(s, change.s), put(lateral, change.lateral))


def _those(chosen: Bool[Array, "A"], turn: Int[Array, ""], size: int) -> Int[Array, "M"]:
    """The numbers of the chosen rows whose turn it is, in order; then row 0, which is the ego and never chosen."""
    rank = jnp.cumsum(chosen) - 1 - turn * size
    here = chosen[None] & (rank[None] == jnp.arange(size)[:, None])
    return jnp.sum(jnp.where(here, jnp.arange(chosen.shape[0])[None], 0), axis=1)


def worthwhile(
    network: Network,
    state: State,
    view: View,
    rows: Int[Array, "M"],
    target: Int[Array, "M"],
    s: Float[Array, "M"],
) -> Bool[Array, "M"]:
    """Which of these rows should change to the route `target` (-1: there is none), on which they are at `s` metres."""
    new, route = jnp.maximum(target, 0), lookup(state.route, rows)
    own_s, speed, half = lookup(state.s, rows), lookup(state.speed, rows), 0.5 * lookup(state.length, rows)
    mine = View(*(lookup(field, rows) for field in view))
    there, here = (everyone_on(network, state, on) for on in (new, route))
    rear, leader = ahead(state, there, rows, new, s)
    front, follower = behind(state, there, rows, new, s)
    own_front, own_follower = behind(state, here, rows, route, own_s)
    along = lookup(there.cos, jnp.arange(rows.shape[0]), leader)
    leads = jnp.where(rear < FAR_M, lookup(state.speed, leader) * along, speed)
    gap, gap_behind = rear - s - half, s - half - front
    own_gap_behind = own_s - half - own_front
    now = follow(state, rows, mine.gap, mine.leader_speed, mine.desired)
    drivers = Drivers(*(lookup(field, rows) for field in state.drivers))
    halted = idm.acceleration(speed, speed, mine.to_line, mine.desired, drivers)
    now = jnp.where(mine.halt, jnp.minimum(now, halted), now)
    then = follow(state, rows, gap, leads, mine.desired)
    theirs = lookup(view.desired, follower)
    passed = gap_behind + gap + lookup(state.length, rows)
    follower_then = follow(state, follower, gap_behind, speed, theirs)
    follower_now = follow(state, follower, passed, leads, theirs)
    left_behind = follow(state, own_follower, own_gap_behind, speed, lookup(view.desired, own_follower))
    wide = own_gap_behind + mine.gap + lookup(state.length, rows)
    freed = follow(state, own_follower, wide, mine.leader_speed, lookup(view.desired, own_follower))
    has_follower, had_follower = front > -FAR_M, own_front > -FAR_M
    change = jnp.where(has_follower, follower_then - follower_now, 0.0)
    change += jnp.where(had_follower, freed - left_behind, 0.0)
    ending = lookup(network.dead_end, state.road, route)
    gain = then - now + drivers.politeness * change + jnp.where(ending, ENDING_BIAS_MPS2, 0.0)
    safe = (gap > 0.5) & (then > -SAFE_DECEL_MPS2)
    safe &= ~has_follower | ((gap_behind > 0.5) & (follower_then > -SAFE_DECEL_MPS2))
    return (target >= 0) & safe & (gain > drivers.threshold)


def follow(
    state: State,
    who: Int[Array, "A"],
    gap: Float[Array, "A"],
    leader_speed: Float[Array, "A"],
    desired: Float[Array, "A"],
) -> Float[Array, "A"]:
    """The acceleration that row `who` would wish for behind such a leader, m/s2, not below full braking."""
    drivers = Drivers(*(lookup(field, who) for field in state.drivers))
    speed = lookup(state.speed, who)
    return jnp.maximum(idm.acceleration(speed, speed - leader_speed, gap, desired, drivers), -9.0)
