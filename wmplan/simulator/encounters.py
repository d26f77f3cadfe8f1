"""Who the ego meets under each candidate: contacts and whose fault they are, times to collision.

Most pairs are never near each other. A compiled pass over all of them, with circles around the boxes, finds those that
may be; the boxes themselves are compared for these alone, in double precision. A pair's answer depends on nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8
from numpy import ndarray

from wmplan.labels import TTC_CAP_S
from wmplan.rules import STOPPED_MPS, TTC_STOPPED_MPS
from wmplan.scene import STEP_S
from wmplan.simulator.contacts import Boxes, between, touching, touching_while, within_step
from wmplan.simulator.executed import Executed
from wmplan.simulator.road_geometry import RoadGeometry
from wmplan.traffic_contacts import AHEAD_RAD, BEHIND_RAD, REAR_AXLE

NUPLAN_TICKS = 9
"""nuPlan looks every 0.1 s; a time to collision of more than 0.95 s passes."""
NAVSIM_AHEAD = (3, 6, 9)
"""NAVSIM looks 0, 0.3, 0.6 and 0.9 s ahead, in steps."""
SLACK_M = 0.05
"""Circles are this much wider than the boxes, for they are compared in single precision."""
STEP_BIT, TTC_BIT, NAVSIM_BITS = 1, 2, (4, 8, 16)


class Encounters(NamedTuple):
    """What happens between the ego and rows 1 to A - 1 under K candidates; those in contact at t0 are left out.

    `step` is the one in which a row is touched first, -1 for none; `at_start` those touched at t0. The TTC verdicts are
    true where a candidate fails. `min_ttc` is at most `TTC_CAP_S`.
    """

    step: Int[ndarray, "K N"]
    at_fault: Bool[ndarray, "K N"]
    at_start: Bool[ndarray, "K N"]
    ttc_nuplan: Bool[ndarray, "K"]
    ttc_navsim: Bool[ndarray, "K"]
    min_ttc: Float[ndarray, "K"]


def encounters(executed: Executed, geometry: RoadGeometry) -> Encounters:
    """Contacts and times to collision by the rules of `wmplan.traffic_contacts`, but without gaps in time.

    Contact is looked for all the way between two steps (`contacts.within_step`), the time to collision solved for; the
    verdicts still look at the published moments (nuPlan 0.1 to 0.9 s, NAVSIM 0 to 0.9 s), so that they compare.
    """
    view = _View(executed.numpy(), np.asarray(_near(*executed[:8])))
    step, fault, at_start = _contacts(view, geometry)
    nuplan, shortest = _constant_velocity(view)
    navsim = _recorded(view)
    fails = _counted(view, geometry, [nuplan, navsim])
    shortest = np.where((step >= 0).any(axis=1), 0.0, shortest)
    return Encounters(step, fault, at_start, fails[0], fails[1], shortest)


class Pairs(NamedTuple):
    """Moments t at which, under candidate k, something is between the ego and row n + 1."""

    t: Int[ndarray, "P"]
    k: Int[ndarray, "P"]
    n: Int[ndarray, "P"]

    def only(self, chosen: Bool[ndarray, "P"]) -> Pairs:
        """Those of them."""
        return Pairs(self.t[chosen], self.k[chosen], self.n[chosen])


class _View:
    """Boxes of pairs, in double precision."""

    def __init__(self, executed: Executed, near: UInt8[ndarray, "S K N"]) -> None:
        self.executed = executed
        self.flat = np.flatnonzero(near)
        self.bits = near.ravel()[self.flat]
        self.steps, self.candidates, self.others = near.shape

    def pairs(self, bit: int) -> Pairs:
        """Pairs that may be near each other, by time."""
        t, rest = np.divmod(self.flat[(self.bits & bit) > 0], self.candidates * self.others)
        return Pairs(t, *np.divmod(rest, self.others))

    def boxes(self, t: Int[ndarray, "P"], k: Int[ndarray, "P"], row: Int[ndarray, "P"]) -> Boxes:
        """Boxes of rows (0 the ego)."""
        ex = self.executed
        flat = (t * self.candidates + k) * (self.others + 1) + row
        x, y, cos, sin = (np.take(field, flat).astype(np.float64) for field in (ex.x, ex.y, ex.cos, ex.sin))
        return Boxes(x, y, cos, sin, 0.5 * ex.length[row].astype(np.float64), 0.5 * ex.width[row].astype(np.float64))

    def both(self, pairs: Pairs) -> tuple[Boxes, Boxes]:
        """The ego and the other."""
        return self.boxes(pairs.t, pairs.k, np.zeros_like(pairs.n)), self.boxes(*pairs._replace(n=pairs.n + 1))

    def speeds(self, pairs: Pairs) -> tuple[Float[ndarray, "P"], Float[ndarray, "P"]]:
        """The ego's and the other's."""
        flat = (pairs.t * self.candidates + pairs.k) * (self.others + 1)
        speed = self.executed.speed
        return np.take(speed, flat).astype(np.float64), np.take(speed, flat + pairs.n + 1).astype(np.float64)


def _contacts(view: _View, geometry: RoadGeometry) -> tuple[ndarray, ndarray, ndarray]:
    shape = (view.candidates, view.others)
    step, at_fault, at_start = np.full(shape, -1), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    pairs = view.pairs(STEP_BIT)
    first = pairs.only(pairs.t == 0)
    met = touching(*view.both(first))
    at_start[first.k[met], first.n[met]] = True
    pairs = pairs.only((pairs.t > 0) & ~at_start[pairs.k, pairs.n])
    active = view.executed.active
    ego, other = view.both(pairs)
    was_there = active[pairs.t - 1, pairs.k, pairs.n + 1]
    ego_before, before = view.both(pairs._replace(t=pairs.t - 1))
    found = within_step((ego_before, ego), (before, other))
    # Who was not there a step ago has not come from where its row was.
    hit = np.where(was_there, found.touch, touching(ego, other))
    share = np.where(was_there, found.share, 1.0)[hit]
    pairs = pairs.only(hit)
    _, earliest = np.unique(pairs.k * view.others + pairs.n, return_index=True)
    ends = (ego_before, ego, before, other)
    ego_before, ego, before, other = (Boxes(*(field[hit][earliest] for field in boxes)) for boxes in ends)
    pairs, share = Pairs(*(field[earliest] for field in pairs)), share[earliest]
    there = between(ego_before, ego, share), between(before, other, share)
    speed, other_speed = view.speeds(pairs)
    # Whoever comes to rest in this very step did not stand when they met.
    speed = np.maximum(speed, view.speeds(pairs._replace(t=pairs.t - 1))[0])
    counts = (speed > STOPPED_MPS) & ~_behind(*there)
    sure = (speed > STOPPED_MPS) & (other_speed <= STOPPED_MPS) | counts & touching(there[0].fronts, there[1])
    ask = counts & ~sure
    sure[ask] = ~geometry.within_lane(_rows(Boxes(*(field[ask] for field in there[0]))))
    step[pairs.k, pairs.n], at_fault[pairs.k, pairs.n] = pairs.t, sure
    return step, at_fault, at_start


def _constant_velocity(view: _View) -> tuple[Pairs, ndarray]:
    """Moments at which nuPlan's time to collision is too short if it counts, and each candidate's least."""
    pairs = view.pairs(TTC_BIT)
    ego, other = view.both(pairs)
    speed, other_speed = view.speeds(pairs)
    move_x, move_y = other_speed * other.cos - speed * ego.cos, other_speed * other.sin - speed * ego.sin
    begin, end = touching_while(ego, other, move_x, move_y)
    ahead = begin <= end
    tick = np.maximum(np.ceil(np.where(ahead, np.clip(begin, 0.0, 10.0), 10.0) / STEP_S - 1e-9), 1.0)
    short = ahead & (tick <= NUPLAN_TICKS) & (tick * STEP_S <= end + 1e-9)
    shortest = np.full(view.candidates, TTC_CAP_S)
    real = ahead & (end >= 0.0) & (begin < TTC_CAP_S) & ~_behind(ego, other)
    np.minimum.at(shortest, pairs.k[real], np.maximum(begin[real], 0.0))
    return pairs.only(short), shortest


def _recorded(view: _View) -> Pairs:
    """Moments at which the ego, moved on, touches where another will be (NAVSIM)."""
    found = []
    for ahead, bit in zip((0, *NAVSIM_AHEAD), (STEP_BIT, *NAVSIM_BITS)):
        pairs = view.pairs(bit)
        last = view.steps - 1 - max(NAVSIM_AHEAD)
        pairs = pairs.only((pairs.t > 0) & (pairs.t <= last) & (view.speeds(pairs)[0] > TTC_STOPPED_MPS))
        ego, _ = view.both(pairs)
        other = view.boxes(pairs.t + ahead, pairs.k, pairs.n + 1)
        speed, _ = view.speeds(pairs)
        found.append(pairs.only(np.asarray(touching(ego.ahead(speed * (ahead * STEP_S)), other))))
    return Pairs(*(np.concatenate(parts) for parts in zip(*found)))


def _counted(view: _View, geometry: RoadGeometry, verdicts: list[Pairs]) -> list[Bool[ndarray, "K"]]:
    """Which candidates fail: by what is ahead, and, while the ego is not within one lane, by what is not behind."""
    every = Pairs(*(np.concatenate(parts) for parts in zip(*verdicts)))
    verdict = np.repeat(np.arange(len(verdicts)), [len(pairs.t) for pairs in verdicts])
    ego, other = view.both(every)
    fails = np.zeros((len(verdicts), view.candidates), dtype=bool)
    ahead = _within(ego, other, AHEAD_RAD)
    fails[verdict[ahead], every.k[ahead]] = True
    ask = ~_behind(ego, other) & ~fails[verdict, every.k]
    moments, back = np.unique(every.t[ask] * view.candidates + every.k[ask], return_inverse=True)
    t, k = np.divmod(moments, view.candidates)
    sideways = ~geometry.within_lane(_rows(view.boxes(t, k, np.zeros_like(t))))[back]
    fails[verdict[ask][sideways], every.k[ask][sideways]] = True
    return list(fails)


def _behind(ego: Boxes, other: Boxes) -> Bool[ndarray, "P"]:
    return ~_within(ego, other, BEHIND_RAD)


def _within(ego: Boxes, other: Boxes, angle: float) -> Bool[ndarray, "P"]:
    """Whose centre lies less than this angle off the ego's heading, seen from its rear axle."""
    rear = ego.ahead(-2.0 * REAR_AXLE * ego.half_length)
    dx, dy = other.x - rear.x, other.y - rear.y
    return dx * ego.cos + dy * ego.sin > np.cos(angle) * np.hypot(dx, dy)


def _rows(boxes: Boxes) -> Float[ndarray, "P 5"]:
    yaw = np.arctan2(boxes.sin, boxes.cos)
    return np.stack([boxes.x, boxes.y, yaw, 2.0 * boxes.half_length, 2.0 * boxes.half_width], axis=-1)


@jax.jit
def _near(
    x: Array, y: Array, cos: Array, sin: Array, speed: Array, active: Array, length: Array, width: Array
) -> UInt8[Array, "S K N"]:
    """Bits of what may be between the ego and each other: contact in the step that ends here, contact within
    `TTC_CAP_S` at constant velocity, contact with where another will be."""
    radius = 0.5 * jnp.sqrt(length**2 + width**2)
    reach = ((radius[:1] + radius[1:] + SLACK_M) ** 2)[None, None]
    dx, dy = x[:, :, 1:] - x[:, :, :1], y[:, :, 1:] - y[:, :, :1]
    there = active[:, :, 1:]

    def closest(dx: Array, dy: Array, vx: Array, vy: Array, horizon: float) -> Array:
        """Squared distance of the closest approach up to the horizon."""
        time = jnp.clip(-(dx * vx + dy * vy) / jnp.maximum(vx**2 + vy**2, 1e-9), 0.0, horizon)
        return (dx + time * vx) ** 2 + (dy + time * vy) ** 2

    moved = [jnp.concatenate([jnp.zeros_like(d[:1]), d[:-1] - d[1:]]) for d in (dx, dy)]
    step = closest(dx, dy, moved[0], moved[1], 1.0) <= reach
    vx, vy = speed * cos, speed * sin
    meet = closest(dx, dy, vx[:, :, 1:] - vx[:, :, :1], vy[:, :, 1:] - vy[:, :, :1], TTC_CAP_S) <= reach
    moving = speed[:, :, :1] > TTC_STOPPED_MPS
    later = jnp.arange(len(x))[:, None, None] > 0
    bits = jnp.where(step, STEP_BIT, 0) | jnp.where(meet & moving & later, TTC_BIT, 0)
    for ahead, bit in zip(NAVSIM_AHEAD, NAVSIM_BITS):
        rest = max(len(x) - ahead, 0)
        seconds = ahead * STEP_S
        gone_x = x[ahead:, :, 1:] - x[:rest, :, :1] - seconds * vx[:rest, :, :1]
        gone_y = y[ahead:, :, 1:] - y[:rest, :, :1] - seconds * vy[:rest, :, :1]
        hit = (gone_x**2 + gone_y**2 <= reach) & there[ahead:]
        bits = bits | jnp.pad(jnp.where(hit, bit, 0), ((0, len(x) - rest), (0, 0), (0, 0)))
    return jnp.where(there, bits, 0).astype(jnp.uint8)
