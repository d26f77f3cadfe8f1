"""What everyone on the road sees: who is ahead, where to halt, how fast one may be."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from wmplan.scene import Kind, Light
from wmplan.simulator.network import FAR_M, Network, lookup
from wmplan.simulator.overlap import Placed, unpack
from wmplan.simulator.state import State

STRIP_M = {Kind.VEHICLE: 1.25, Kind.PEDESTRIAN: 1.3, Kind.CYCLIST: 0.6}
"""Half the strip that a road user sweeps, half the own width and a margin included."""
GENTLE_MPS2, FIRM_MPS2 = 3.0, 5.0
"""Who would have to brake harder goes on: at yellow, and for those with right of way."""

STARTING_MPS = 2.0
"""Speed that those who stand and may start are taken to have, when they have right of way."""
WALKING_MPS, SPARE_S = 1.3, 3.0
"""People cross where the gap is as long as their way at this speed takes, and so many seconds more (Highway Capacity
Manual: critical headway of pedestrians)."""


class View(NamedTuple):
    """What each row sees: the gap (m) to the next box on its way and that box's speed along the way (m/s), the distance
    to the stop line (m) and whether it has to halt there, the speed it would have on an empty road (m/s)."""

    gap: Float[Array, "A"]
    leader_speed: Float[Array, "A"]
    to_line: Float[Array, "A"]
    halt: Bool[Array, "A"]
    desired: Float[Array, "A"]


def look(network: Network, state: State) -> View:
    """What every row sees."""
    begins = state.s + jnp.where(state.kind == int(Kind.PEDESTRIAN), 0.5 * state.length, 0.0)
    placed = everyone_on(network, state, state.route)
    rows = jnp.arange(begins.shape[0])
    rear, leader = ahead(state, placed, rows, state.route, begins)
    cos = lookup(placed.cos, rows, leader)
    moving = jnp.maximum(lookup(state.speed, leader) * cos, 0.0)
    to_line = lookup(network.stop, state.road, state.route) - state.s - 0.5 * state.length
    free = lookup(network.limit, state.road, state.route, place(network, state))
    return View(
        rear - (state.s + 0.5 * state.length),
        jnp.where(rear < FAR_M, moving, state.speed),
        to_line,
        must_halt(network, state, to_line),
        free * state.drivers.speed_factor,
    )


def place(network: Network, state: State) -> Int[Array, "A"]:
    """The number of the place nearest to each row on its route."""
    number = jnp.round(state.s / network.spacing[state.road]).astype(jnp.int32)
    return jnp.clip(number, 0, network.x.shape[-1] - 1)


def everyone_on(network: Network, state: State, route: Int[Array, "*I"]) -> Placed:
    """Where everyone is on each of these routes, [*I, A]: looked up for those on routes, known for the ego."""
    number = place(network, state)
    # Whole rows of the table, then whole columns: copying runs is much faster than picking single entries.
    entries = lookup(network.overlap, state.road, state.route, number).T
    placed = unpack(lookup(entries, route))
    onward = state.s - number * network.spacing[state.road]
    is_ego = jnp.arange(state.s.shape[0]) == 0

    def joined(ego: Float[Array, "R"], others: Float[Array, "*I A"]) -> Float[Array, "*I A"]:
        return jnp.where(_like(is_ego, others), lookup(ego, route)[..., None], others)

    return Placed(
        joined(state.ego.arc, placed.arc + _like(onward, placed.cos) * placed.cos),
        joined(state.ego.lateral, placed.lateral + _like(state.lateral, placed.cos) * placed.cos),
        joined(state.ego.cos, placed.cos),
    )


def ahead(
    state: State, placed: Placed, rows: Int[Array, "M"], route: Int[Array, "M"], begins: Float[Array, "M"]
) -> tuple[Float[Array, "M"], Int[Array, "M"]]:
    """For each of these rows the arc length of the nearest rear in its way whose box has its middle beyond `begins`,
    and whose it is; `FAR_M` where there is none."""
    in_way, half = occupied(state, placed, rows, route)
    rear = jnp.where(in_way & (placed.arc > begins[:, None]), placed.arc - half, FAR_M)
    least = jnp.min(rear, axis=1)
    return least, _first(rear == least[:, None])


def behind(
    state: State, placed: Placed, rows: Int[Array, "M"], route: Int[Array, "M"], begins: Float[Array, "M"]
) -> tuple[Float[Array, "M"], Int[Array, "M"]]:
    """For each of these rows the arc length of the nearest front whose box has its middle not beyond `begins`, and
    whose it is; `-FAR_M` where there is none."""
    in_way, half = occupied(state, placed, rows, route)
    front = jnp.where(in_way & (placed.arc <= begins[:, None]), placed.arc + half, -FAR_M)
    most = jnp.max(front, axis=1)
    return most, _first(front == most[:, None])


def occupied(
    state: State, placed: Placed, rows: Int[Array, "M"], route: Int[Array, "M"]
) -> tuple[Bool[Array, "M A"], Float[Array, "M A"]]:
    """Who (columns) is in the way of each of these rows on `route`, where everyone was placed, and half the length of
    that route that its box takes up, metres. Who is changing to the route is in the way from the start."""
    strip = jnp.zeros(state.kind.shape)
    for kind, metres in STRIP_M.items():
        strip = jnp.where(state.kind == int(kind), metres, strip)
    along = jnp.abs(placed.cos)
    across = jnp.sqrt(jnp.maximum(1.0 - along**2, 0.0))
    length, width = state.length[None], state.width[None]
    reach = 0.5 * (along * width + across * length)
    near = (jnp.abs(placed.lateral) < lookup(strip, rows)[:, None] + reach) | (state.route[None] == route[:, None])
    in_way = near & state.active[None] & (placed.arc > -1e3)
    return in_way & (rows[:, None] != jnp.arange(len(strip))[None]), 0.5 * (along * length + across * width)


def must_halt(network: Network, state: State, to_line: Float[Array, "A"]) -> Bool[Array, "A"]:
    """Whether each row has to halt at its stop line: red; yellow, or others who have right of way, if it can without
    braking hard; green while vehicles of another group are still inside the crossing; the end of a lane."""
    group = lookup(network.group, state.road, state.route)
    light = lookup(lights(network, state), jnp.maximum(group, 0))
    needed = state.speed**2 / (2.0 * jnp.maximum(to_line, 0.01))
    drives = state.kind != int(Kind.PEDESTRIAN)
    rear = state.s - 0.5 * state.length
    inside = state.active & (group >= 0) & drives & (to_line < 0.0)
    inside &= rear < lookup(network.clear, state.road, state.route)
    bit = jnp.uint32(1) << jnp.maximum(group, 0).astype(jnp.uint32)
    taken = jnp.bitwise_or.reduce(jnp.where(inside, bit, jnp.uint32(0)))
    blocked = ((taken & ~bit) != 0) & drives
    ruled = (group >= 0) & ((light == int(Light.RED)) | ((light == int(Light.YELLOW)) & (needed < GENTLE_MPS2)))
    waits = (group >= 0) & blocked | others_first(network, state)
    ends = lookup(network.dead_end, state.road, state.route)
    return (to_line > 0.0) & (ruled | ends | (waits & (needed < FIRM_MPS2)))


def others_first(network: Network, state: State) -> Bool[Array, "A"]:
    """Whether somebody with right of way will be in a zone on each row's way within its critical gap."""
    enter = lookup(network.enter, state.road, state.route)
    leave = lookup(network.leave, state.road, state.route)
    front, rear = state.s + 0.5 * state.length, state.s - 0.5 * state.length
    # Who stands at a line of its own may start at any moment; who stands at a light is told when.
    unlit = lookup(network.group, state.road, state.route) < 0
    speed = jnp.maximum(state.speed, jnp.where(unlit, STARTING_MPS, 0.1))
    away = jnp.maximum(enter - front[:, None], 0.0) / speed[:, None]
    arrival = jnp.min(jnp.where((rear[:, None] < leave) & state.active[:, None], away, FAR_M), axis=0)
    zone = jnp.uint32(1) << jnp.arange(arrival.shape[0], dtype=jnp.uint32)
    way = lookup(network.clear, state.road, state.route) - lookup(network.stop, state.road, state.route)
    walks = state.kind == int(Kind.PEDESTRIAN)
    needed = jnp.where(walks, way / WALKING_MPS + SPARE_S, state.drivers.critical_gap)
    soon = arrival[None, :] < needed[:, None]
    taken = jnp.sum(jnp.where(soon, zone[None], jnp.uint32(0)), axis=1, dtype=jnp.uint32)
    return (taken & lookup(network.waits, state.road, state.route)) != 0


def lights(network: Network, state: State) -> Int[Array, "G"]:
    """The state (`Light`) of every group now."""
    period = network.period[state.road]
    now = state.steps + state.clock
    now = jnp.where(network.periodic[state.road], jnp.mod(now, period), jnp.minimum(now, period - 1))
    return network.light[state.road, :, now].astype(jnp.int32)


def _like(row: Array, wide: Array) -> Array:
    """The row with leading axes of size 1."""
    return row.reshape((1,) * (wide.ndim - row.ndim) + row.shape)


def _first(found: Bool[Array, "M A"]) -> Int[Array, "M"]:
    """The first column that is true in each row; comparisons vectorise where argmin does not."""
    columns = found.shape[1]
    return jnp.min(jnp.where(found, jnp.arange(columns)[None], columns - 1), axis=1)
