"""How the ego drives in logs: an IDM driver that now and then does something else, so that logs hold many actions.

Blocks of about two seconds follow each other; in half of them the acceleration is drawn from -5 to 2 m/s2 (denser
towards 2, or every car would soon stand), in some the car drives beside its lane's centre, and on roads with lanes
beside each other it may change lane once. Whatever it does, it never gives up the gap that a hurried driver would still
keep.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from wmplan import bicycle
from wmplan.scene import STEP_S
from wmplan.simulator import idm
from wmplan.simulator.drivers import Drivers
from wmplan.simulator.network import Network
from wmplan.simulator.perception import View, everyone_on
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Observed, pose

BLOCK_S = 2.0
FREE_SHARE, OFFSET_SHARE, CHANGE_SHARE = 0.5, 0.2, 0.4
ACCEL_RANGE_MPS2 = (-5.0, 2.0)
OFFSET_RANGE_M = (-0.8, 0.8)
CLEAR_M, CLEAR_GAP_S = 10.0, 1.0
"""A lane change begins only if nobody's centre in the other lane is closer than this, in metres and in time."""
HURRIED_GAP_S, HURRIED_STANDSTILL_M, HURRIED_SPEED = 0.6, 1.5, 1.2


class Schedule(NamedTuple):
    """What the ego has in mind at each of T steps: whether it accelerates freely, how much (m/s2), its offset from the
    lane's centre (m), and the lane it wants: 0 its own, 1 left, -1 right."""

    free: Bool[Array, "T"]
    accel: Float[Array, "T"]
    offset: Float[Array, "T"]
    lane: Int[Array, "T"]


def schedule(key: Array, steps: int) -> Schedule:
    """A random schedule of this many steps of `STEP_S`."""
    block = round(BLOCK_S / STEP_S)
    count = steps // block + 2
    phase, free, accel, beside, offset, change, when = jax.random.split(key, 7)
    index = (jnp.arange(steps) + jax.random.randint(phase, (), 0, block)) // block
    offsets = jax.random.uniform(offset, (count,), minval=OFFSET_RANGE_M[0], maxval=OFFSET_RANGE_M[1])
    offsets = jnp.where(jax.random.uniform(beside, (count,)) < OFFSET_SHARE, offsets, 0.0)
    draw = jax.random.uniform(change, ())
    low, high = ACCEL_RANGE_MPS2
    side = jnp.where(draw < 0.5 * CHANGE_SHARE, 1, jnp.where(draw < CHANGE_SHARE, -1, 0))
    return Schedule(
        free=(jax.random.uniform(free, (count,)) < FREE_SHARE)[index],
        accel=(high - (high - low) * jax.random.uniform(accel, (count,)) ** 2)[index],
        offset=offsets[index],
        lane=jnp.where(jnp.arange(steps) >= jax.random.randint(when, (), 0, steps), side, 0),
    )


def plain(steps: int) -> Schedule:
    """The schedule of an ego that only follows its lane as an IDM driver."""
    zero = jnp.zeros(steps)
    return Schedule(jnp.zeros(steps, dtype=bool), zero, zero, jnp.zeros(steps, dtype=jnp.int32))


def act_all(network: Network, worlds: State, seen: Observed, now: Schedule) -> Float[Array, "B 2"]:
    """The egos' actions when all have the same `now` in mind (one step of a schedule)."""
    one = jax.vmap(act, in_axes=(None, 0, 0, 0, None))
    return one(network, worlds, seen.view, seen.wanted, now)


def act_each(network: Network, worlds: State, seen: Observed, now: Schedule) -> Float[Array, "B 2"]:
    """The egos' actions when each has its own `now` in mind."""
    return jax.vmap(act, in_axes=(None, 0, 0, 0, 0))(network, worlds, seen.view, seen.wanted, now)


def act(network: Network, state: State, view: View, wanted: Float[Array, "A"], now: Schedule) -> Float[Array, "2"]:
    """The ego's action, acceleration (m/s2) and curvature (1/m), when it has `now` (one step of a schedule) in mind."""
    speed = state.speed[0]
    own = Drivers(*(field[0] for field in state.drivers))
    hurried = own._replace(time_gap=jnp.asarray(HURRIED_GAP_S), standstill=jnp.asarray(HURRIED_STANDSTILL_M))
    fast = HURRIED_SPEED * view.desired[0]
    cap = idm.acceleration(speed, speed - view.leader_speed[0], view.gap[0], fast, hurried)
    halt = idm.acceleration(speed, speed, view.to_line[0], fast, hurried)
    cap = jnp.where(view.halt[0], jnp.minimum(cap, halt), cap)
    accel = jnp.where(now.free, jnp.minimum(now.accel, cap), jnp.minimum(wanted[0], 2.5))
    bound = bicycle.MAX_ACCEL_MPS2
    ends = network.dead_end[state.road, state.route[0]]
    offset = now.offset + _lane_offset(network, state, jnp.where(ends, 1, now.lane))
    return jnp.stack([jnp.clip(accel, -bound, bound), steer(network, state, offset)])


def steer(network: Network, state: State, offset: Float[Array, ""]) -> Float[Array, ""]:
    """The curvature (1/m) of the arc to a point of the route ahead, `offset` metres to its left.

    References:
        Coulter (1992), Implementation of the Pure Pursuit Path Tracking Algorithm.
    """
    ahead = jnp.clip(0.9 * state.speed[0], 4.0, 25.0)
    x, y, _, _ = pose(network, state.road, state.route[0], state.s[0] + ahead, offset, jnp.zeros(()))
    dx, dy = x - state.x[0], y - state.y[0]
    left = -state.sin[0] * dx + state.cos[0] * dy
    bound = jnp.minimum(bicycle.MAX_CURVATURE_PM, 4.0 / jnp.maximum(state.speed[0], 1.0) ** 2)
    return jnp.clip(2.0 * left / jnp.maximum(dx**2 + dy**2, 1.0), -bound, bound)


def _lane_offset(network: Network, state: State, lane: Int[Array, ""]) -> Float[Array, ""]:
    """Where the wanted lane lies (m to the left), if there is one and it is free or the change has already begun."""
    route, width = state.route[0], network.lane_width[state.road]
    exists = jnp.where(lane > 0, network.left[state.road, route], network.right[state.road, route]) >= 0
    window = network.change[state.road, route]
    exists &= (state.s[0] > window[0]) & (state.s[0] < window[1])
    offset = lane * width
    placed = everyone_on(network, state, route)
    away = placed.arc - state.s[0]
    beside = state.active & (jnp.abs(placed.lateral - offset) < 0.5 * width) & (placed.arc > -1e3)
    own = state.speed[0]
    close = jnp.abs(away) < CLEAR_M + CLEAR_GAP_S * jnp.where(away > 0.0, own, jnp.maximum(own, state.speed))
    taken = jnp.any((beside & close).at[0].set(False))
    begun = jnp.abs(state.lateral[0]) > 0.3 * width
    return jnp.where(exists & (~taken | begun), offset, 0.0)
