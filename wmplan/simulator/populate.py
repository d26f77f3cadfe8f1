"""The first state of a world on a synthetic map: who is where, drawn from one key."""

from __future__ import annotations

from enum import IntEnum

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from wmplan.scene import Kind, Light
from wmplan.simulator import behaviour, noise
from wmplan.simulator.drivers import draw
from wmplan.simulator.ego import on_routes
from wmplan.simulator.network import Network
from wmplan.simulator.perception import look
from wmplan.simulator.state import CYCLISTS, DELAYS, ROWS, VEHICLES, WALKERS, State
from wmplan.simulator.traffic import boxes, go_on, observe

SLOTS = 8
"""Places to start on each spawn."""
WARM_UP_STEPS = 50
"""Steps that everyone drives by IDM before a world is handed out, so that queues and gaps are settled."""
FEWEST_VEHICLES = 8
TRUCK_SHARE = 0.1
EGO_SIZE_M = (4.6, 1.9)
GREEN_SHARE, GREEN_SOON_S = 0.75, 4.0
KINDS = np.repeat(np.array([Kind.VEHICLE, Kind.CYCLIST, Kind.PEDESTRIAN], np.int32), [VEHICLES, CYCLISTS, WALKERS])


class Purpose(IntEnum):
    """What numbers are drawn for; `wmplan.simulator.drivers.DRIVERS` is 1."""

    REST = 2
    SPEED = 3
    CLOCK = 4
    ORDER = 5
    COUNT = 6
    DENSITY = 7
    GAPS = 8
    TURN = 9
    SIZE = 10
    NOISE = 11


SPACE_M = {Kind.VEHICLE: (17.0, 42.0), Kind.CYCLIST: (12.0, 60.0), Kind.PEDESTRIAN: (1.5, 8.0)}
"""Range of the distance between two that start on one spawn."""


def reset(network: Network, roads: Int[Array, "B"], keys: Array) -> State:
    """B settled worlds on these maps: `FEWEST_VEHICLES` to `VEHICLES` vehicles around the ego (row 0), people and
    cyclists where the map has ways for them."""
    return warm_up(network, place(network, roads, keys))


def place(network: Network, roads: Int[Array, "B"], keys: Array) -> State:
    """B worlds as drawn, before anyone has moved."""
    return jax.vmap(_place_one, in_axes=(None, 0, 0))(network, roads, jax.vmap(jax.random.bits)(keys))


def warm_up(network: Network, worlds: State) -> State:
    """The same worlds `WARM_UP_STEPS` later, the egos IDM drivers too."""
    plain = jax.tree.map(lambda x: x[0], behaviour.plain(1))

    def one(now: State, _: None) -> tuple[State, None]:
        seen = observe(network, now)
        return go_on(network, now, seen, behaviour.act_all(network, now, seen, plain)), None

    return jax.lax.scan(one, worlds, None, WARM_UP_STEPS)[0]


def _place_one(network: Network, road: Array, seed: Array) -> State:
    route, s, used = _everyone(seed, network, road)
    length, width = _sizes(seed)
    drivers = draw(seed, jnp.asarray(KINDS))
    rest = 0.5 * (noise.uniform(seed, Purpose.REST, ROWS) - 0.5)
    rest = jnp.where((jnp.arange(ROWS) > 0) & (int(Kind.VEHICLE) == KINDS), rest, 0.0)
    zero = jnp.zeros(ROWS)
    x, y, cos, sin = boxes(network, road, route, s, length, rest, zero)
    state = State(
        road=road,
        steps=jnp.int32(0),
        clock=_clock(seed, network, road, route[0]),
        route=route,
        s=s,
        lateral=rest,
        rest=rest,
        x=x,
        y=y,
        cos=cos,
        sin=sin,
        speed=zero,
        length=length,
        width=width,
        kind=jnp.asarray(KINDS),
        active=used,
        drivers=drivers,
        wanted=jnp.zeros((DELAYS, ROWS)),
        noise=zero,
        seed=noise.mix(seed ^ noise.mix(jnp.arange(ROWS, dtype=jnp.uint32) + jnp.uint32(Purpose.NOISE))),
        ego=on_routes(network, road, x[0], y[0], cos[0], sin[0]),
    )
    view = look(network, state)
    # Nobody starts too fast to halt gently at the line, or behind whoever is ahead.
    room = jnp.minimum(jnp.where(view.to_line > 0.0, view.to_line, jnp.inf), view.gap)
    share = 0.75 + 0.25 * noise.uniform(seed, Purpose.SPEED, 1)[0]
    speed = jnp.minimum(share * view.desired, jnp.sqrt(4.0 * jnp.maximum(room - 2.0, 0.0)))
    return state._replace(speed=speed)


def _clock(seed: Array, network: Network, road: Array, route: Array) -> Array:
    """The lights' phase in steps: often such that the ego's light is green soon after the warm-up, for a fixed-time
    light is red most of the time, and standing cars are poor logs."""
    any_time, soon, which, pick = noise.uniform(seed, Purpose.CLOCK, 4)
    period, group = network.period[road], network.group[road, route]
    green = network.light[road, jnp.maximum(group, 0)] == int(Light.GREEN)
    # The moment of green that a random number picks; 0 where the ego has no light.
    moment = jnp.argmax(jnp.where(green, jnp.mod(jnp.arange(green.shape[0]) * 0.618034 + pick, 1.0) + 1.0, 0.0))
    begin = moment - WARM_UP_STEPS - (10.0 * GREEN_SOON_S * soon).astype(jnp.int32)
    return jnp.where(
        (group >= 0) & (which < GREEN_SHARE), jnp.mod(begin, period), (any_time * period).astype(jnp.int32)
    ).astype(jnp.int32)


def _everyone(
    seed: Array, network: Network, road: Array
) -> tuple[Int[Array, "A"], Float[Array, "A"], Bool[Array, "A"]]:
    """Routes, places and use of all rows: the ego first, then vehicles near it, cyclists and people near it."""
    route, s, usable, kind, leads = _slots(seed, network, road)
    draw, near, ego_draw = noise.uniform(seed, Purpose.ORDER, s.shape[0], 3).T
    many = noise.uniform(seed, Purpose.COUNT, 3)
    ego = jnp.argmax(jnp.where(usable & leads, ego_draw, -1.0))
    index = jnp.clip(jnp.round(s / network.spacing[road]).astype(jnp.int32), 0, network.x.shape[-1] - 1)
    x, y = network.x[road, route, index], network.y[road, route, index]
    distance = jnp.hypot(x - x[ego], y - y[ego]) + 25.0 * near
    counts = {
        Kind.VEHICLE: (VEHICLES, _whole(many[0], FEWEST_VEHICLES, VEHICLES + 1)),
        Kind.CYCLIST: (CYCLISTS, _whole(many[1], 0, CYCLISTS + 1)),
        Kind.PEDESTRIAN: (WALKERS, _whole(many[2], 1, WALKERS + 1)),
    }
    rows, used = [], []
    for which, (most, count) in counts.items():
        far = distance if which != Kind.PEDESTRIAN else 25.0 * draw + distance
        key_of = jnp.where(usable & (kind == int(which)), far, jnp.inf)
        if which == Kind.VEHICLE:
            key_of = key_of.at[ego].set(-1.0)
        chosen = jnp.argsort(key_of)[:most]
        rows.append(chosen)
        used.append(jnp.isfinite(key_of[chosen]) & (jnp.arange(most) < count))
    picked = jnp.concatenate(rows)
    return route[picked], s[picked], jnp.concatenate(used)


def _slots(
    seed: Array, network: Network, road: Array
) -> tuple[Int[Array, "_N"], Float[Array, "_N"], Bool[Array, "_N"], Int[Array, "_N"], Bool[Array, "_N"]]:
    """Places where somebody may start: route, arc length, whether it is one, kind, whether the ego may be there."""
    spawns = network.spawn_kind.shape[-1]
    low, high = jnp.zeros(spawns), jnp.ones(spawns)
    for which, (least, most) in SPACE_M.items():
        of_kind = network.spawn_kind[road] == int(which)
        low, high = jnp.where(of_kind, least, low), jnp.where(of_kind, most, high)
    density = 0.8 + 0.6 * noise.uniform(seed, Purpose.DENSITY, 1)[0]
    share = noise.uniform(seed, Purpose.GAPS, spawns, SLOTS)
    gap = density * (low[:, None] + share * (high - low)[:, None])
    gap = gap.at[:, 0].multiply(0.5)
    reach = network.spawn_range[road]
    s = reach[:, :1] + jnp.cumsum(gap, axis=1)
    choice = _whole(noise.uniform(seed, Purpose.TURN, spawns, SLOTS), 0, network.spawn_route.shape[-1])
    route = jnp.take_along_axis(network.spawn_route[road], choice, axis=1)
    usable = (s <= reach[:, 1:]).reshape(-1)
    kind = jnp.repeat(network.spawn_kind[road], SLOTS)
    return route.reshape(-1), s.reshape(-1), usable, kind, jnp.repeat(network.spawn_ego[road], SLOTS)


def _whole(share: Array, low: int, high: int) -> Array:
    """A whole number from `low` to `high - 1`."""
    return low + jnp.floor(share * (high - low)).astype(jnp.int32)


def _sizes(seed: Array) -> tuple[Float[Array, "A"], Float[Array, "A"]]:
    """Lengths and widths of all rows, metres."""
    length, width, truck = noise.uniform(seed, Purpose.SIZE, ROWS, 3).T
    lorry = truck < TRUCK_SHARE
    long = jnp.where(lorry, 7.0 + 4.0 * length, 4.1 + length)
    wide = jnp.where(lorry, 2.3 + 0.2 * width, 1.7 + 0.3 * width)
    foot, bike = int(Kind.PEDESTRIAN) == KINDS, int(Kind.CYCLIST) == KINDS
    long = jnp.where(foot, 0.6, jnp.where(bike, 1.8, long))
    wide = jnp.where(foot, 0.6, jnp.where(bike, 0.6, wide))
    return long.at[0].set(EGO_SIZE_M[0]), wide.at[0].set(EGO_SIZE_M[1])
