"""What an ego that learns to drive sees: numbers of order one, in its own frame."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from wmplan.scene import Kind
from wmplan.simulator.network import FAR_M, Network, lookup
from wmplan.simulator.perception import STRIP_M, View, everyone_on, place
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Observed, pose

NEAREST = 4
"""Other road users that are seen wherever they are; those in the own lane and the lanes beside it are seen anyway."""
AHEAD_M = (0.0, 8.0, 16.0, 30.0)
"""Where the route's direction is looked at."""
SIGHT_M, END_SIGHT_M = 60.0, 150.0
"""How far road users and lines, and the end of the lane, are seen."""
SPEED_MPS, CLOSING_MPS = 15.0, 10.0
"""Divide speeds and differences of speeds."""
OWN, LANE, OTHER = 14 + len(AHEAD_M), 7, 6
OBSERVATION = OWN + 2 * LANE + OTHER * NEAREST


def see(network: Network, worlds: State, observed: Observed) -> Float[Array, "B O"]:
    """What the egos of B worlds see: themselves, their routes, the lanes beside, the road users nearby."""
    return jax.vmap(_see, in_axes=(None, 0, 0))(network, worlds, observed.view)


def allowed(network: Network, state: State) -> Float[Array, ""]:
    """The speed that the ego's route allows where it is, m/s."""
    return lookup(network.limit, state.road, state.route, place(network, state))[0]


def may_leave(network: Network, state: State) -> Bool[Array, "2"]:
    """Whether there is a lane to change to: left, right."""
    route = state.route[0]
    window = network.change[state.road, route]
    inside = (state.s[0] > window[0]) & (state.s[0] < window[1])
    return inside & (_beside(network, state) >= 0)


def _see(network: Network, state: State, view: View) -> Float[Array, "O"]:
    lanes = _lanes(network, state)
    return jnp.concatenate([_own(network, state, view), lanes.reshape(-1), _others(state).reshape(-1)])


def _own(network: Network, state: State, view: View) -> Float[Array, "F"]:
    speed, limit, width = state.speed[0], allowed(network, state), network.lane_width[state.road]
    to_end = jnp.where(network.dead_end[state.road, state.route[0]], view.to_line[0], FAR_M)
    gap, line = view.gap[0], jnp.where(view.halt[0], view.to_line[0], FAR_M)
    closing = jnp.where(gap < SIGHT_M, view.leader_speed[0] - speed, 0.0) / CLOSING_MPS
    stop = (0.5 * speed**2) / jnp.maximum(jnp.stack([gap, line, to_end]), 1.0)
    scalars = jnp.stack(
        [
            speed / SPEED_MPS,
            limit / SPEED_MPS,
            speed / limit - 1.0,
            state.lateral[0] / width,
            jnp.abs(state.lateral[0]) / width,
            _near(gap),
            closing,
            _near(line),
            _near(to_end, END_SIGHT_M),
        ]
    )
    # Deceleration (m/s2, a tenth) that a halt there would take.
    needed = jnp.clip(0.1 * stop, 0.0, 1.0)
    may = may_leave(network, state).astype(jnp.float32)
    return jnp.concatenate([scalars, needed, may, _headings(network, state)])


def _headings(network: Network, state: State) -> Float[Array, "J"]:
    """Direction of the route at places ahead, relative to the ego's heading, rad."""
    ahead = jnp.asarray(AHEAD_M)
    road, route = (jnp.broadcast_to(x, ahead.shape) for x in (state.road, state.route[0]))
    zero = jnp.zeros(ahead.shape)
    _, _, cos, sin = pose(network, road, route, state.s[0] + ahead, zero, zero)
    c, s = state.cos[0], state.sin[0]
    return 2.0 * jnp.arctan2(sin * c - cos * s, cos * c + sin * s)


def _lanes(network: Network, state: State) -> Float[Array, "2 F"]:
    """Who is ahead and behind in the lanes to the left and to the right."""
    beside = _beside(network, state)
    lane = jnp.maximum(beside, 0)
    s = lookup(state.ego.arc, lane)
    exists = (beside >= 0) & (s > -1e3)
    placed = everyone_on(network, state, lane)
    along = jnp.abs(placed.cos)
    across = jnp.sqrt(jnp.maximum(1.0 - along**2, 0.0))
    length, width = state.length[None], state.width[None]
    strip = STRIP_M[Kind.VEHICLE]
    there = jnp.abs(placed.lateral) < strip + 0.5 * (along * width + across * length)
    there &= state.active[None] & exists[:, None] & (placed.arc > -1e3)
    there = there.at[:, 0].set(False)
    half = 0.5 * (along * length + across * width)
    away, ahead = placed.arc - s[:, None], placed.arc > s[:, None]
    own = 0.5 * state.length[0]
    speeds = jnp.broadcast_to(state.speed[None], away.shape)

    def nearest(distance: Float[Array, "2 A"]) -> tuple[Array, Array]:
        least = jnp.min(distance, axis=1)
        speed = jnp.max(jnp.where(distance == least[:, None], speeds, 0.0), axis=1)
        return least, jnp.where(least < SIGHT_M, speed - state.speed[0], 0.0) / CLOSING_MPS

    front, front_closing = nearest(jnp.where(there & ahead, away - half - own, FAR_M))
    rear, rear_closing = nearest(jnp.where(there & ~ahead, -away - half - own, FAR_M))
    limit = lookup(network.limit, state.road, lane, jnp.broadcast_to(place(network, state)[0], lane.shape))
    faster = jnp.where(exists, limit / SPEED_MPS, 0.0)
    present = exists.astype(jnp.float32)
    # Below zero the boxes lie beside each other.
    touching = jnp.clip(jnp.minimum(front, rear) / 10.0, -1.0, 1.0) * present
    return jnp.stack([present, _near(front), front_closing, _near(rear), rear_closing, touching, faster], axis=-1)


def _others(state: State) -> Float[Array, "N F"]:
    """The nearest road users: place, velocity, whether they drive; zeros where there is nobody."""
    x, y = state.x[1:] - state.x[0], state.y[1:] - state.y[0]
    distance = jnp.where(state.active[1:], x**2 + y**2, FAR_M**2)
    _, nearest = jax.lax.top_k(-distance, NEAREST)
    rows = nearest + 1
    c, s = state.cos[0], state.sin[0]
    near_x, near_y, speed = lookup(x, nearest), lookup(y, nearest), lookup(state.speed, rows)
    their_c, their_s = lookup(state.cos, rows), lookup(state.sin, rows)
    features = jnp.stack(
        [
            (c * near_x + s * near_y) / 30.0,
            (c * near_y - s * near_x) / 10.0,
            (speed * (their_c * c + their_s * s) - state.speed[0]) / CLOSING_MPS,
            speed * (their_s * c - their_c * s) / CLOSING_MPS,
            jnp.ones(NEAREST),
            (lookup(state.kind, rows) != int(Kind.VEHICLE)).astype(jnp.float32),
        ],
        axis=-1,
    )
    return jnp.where((lookup(distance, nearest) < SIGHT_M**2)[:, None], features, 0.0)


def _beside(network: Network, state: State) -> Array:
    route = state.route[0]
    return jnp.stack([network.left[state.road, route], network.right[state.road, route]])


def _near(metres: Array, sight: float = SIGHT_M) -> Array:
    """1 at no distance, 0 out of sight."""
    return 1.0 - jnp.clip(metres, 0.0, sight) / sight
