"""MOBIL: lanes are changed when that helps oneself more than it hurts the others, and never into somebody's way.

References:
    Kesting, Treiber, Helbing (2007), General lane-changing model MOBIL for car-following models, equations 1 to 3.
"""

from __future__ import annotations

from typing import NamedTuple

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


def consider(network: Network, state: State, view: View, target: Int[Array, "A"]) -> Change:
    """Who should, changes to the route `target`."""
    new = jnp.maximum(target, 0)
    number = place(network, state)
    beside = unpack(lookup(network.overlap, state.road, state.route, number, new))
    s = beside.arc + (state.s - number * network.spacing[state.road]) * beside.cos
    goes = (beside.arc > -1e3) & worthwhile(network, state, view, target, s)
    return Change(
        jnp.where(goes, new, state.route),
        jnp.where(goes, s, state.s),
        jnp.where(goes, beside.lateral + state.lateral * beside.cos, state.lateral),
    )


def worthwhile(
    network: Network, state: State, view: View, target: Int[Array, "A"], s: Float[Array, "A"]
) -> Bool[Array, "A"]:
    """Which rows should change to the route `target` (-1: there is none), on which they are at `s` metres."""
    rows = jnp.arange(len(target))
    new = jnp.maximum(target, 0)
    there, here = (everyone_on(network, state, route) for route in (new, state.route))
    rear, leader = ahead(state, there, new, s)
    front, follower = behind(state, there, new, s)
    own_front, own_follower = behind(state, here, state.route, state.s)
    leads = jnp.where(rear < FAR_M, lookup(state.speed, leader) * lookup(there.cos, rows, leader), state.speed)
    gap, gap_behind = rear - s - 0.5 * state.length, s - 0.5 * state.length - front
    own_gap_behind = state.s - 0.5 * state.length - own_front
    now = follow(state, rows, view.gap, view.leader_speed, view.desired)
    halted = idm.acceleration(state.speed, state.speed, view.to_line, view.desired, state.drivers)
    now = jnp.where(view.halt, jnp.minimum(now, halted), now)
    then = follow(state, rows, gap, leads, view.desired)
    theirs = lookup(view.desired, follower)
    passed = gap_behind + gap + state.length
    follower_then = follow(state, follower, gap_behind, state.speed, theirs)
    follower_now = follow(state, follower, passed, leads, theirs)
    left_behind = follow(state, own_follower, own_gap_behind, state.speed, lookup(view.desired, own_follower))
    wide = own_gap_behind + view.gap + state.length
    freed = follow(state, own_follower, wide, view.leader_speed, lookup(view.desired, own_follower))
    has_follower, had_follower = front > -FAR_M, own_front > -FAR_M
    change = jnp.where(has_follower, follower_then - follower_now, 0.0)
    change += jnp.where(had_follower, freed - left_behind, 0.0)
    ending = lookup(network.dead_end, state.road, state.route)
    gain = then - now + state.drivers.politeness * change + jnp.where(ending, ENDING_BIAS_MPS2, 0.0)
    safe = (gap > 0.5) & (then > -SAFE_DECEL_MPS2)
    safe &= ~has_follower | ((gap_behind > 0.5) & (follower_then > -SAFE_DECEL_MPS2))
    return (target >= 0) & safe & (gain > state.drivers.threshold)


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
