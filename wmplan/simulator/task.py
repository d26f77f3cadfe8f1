"""The task of an ego among traffic: what it is paid for in a step, and when its drive is over."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from wmplan.scene import STEP_S
from wmplan.simulator.contacts import Boxes, touching
from wmplan.simulator.ego_view import allowed, may_leave
from wmplan.simulator.network import Network, lookup
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Observed, go_on, observe, ran_red

EPISODE_STEPS = 100
"""Ten seconds."""
CONTACT, LOST, RED = 10.0, 5.0, 5.0
"""Taken off for touching somebody, leaving the lanes, passing a red line."""
COMFORT, COMFORT_MPS2 = 0.05, 3.0
"""Taken off per second for an acceleration of so much in either direction, growing with its square."""
TOO_FAST, SPEEDING = 1.1, 2.0
"""Above this multiple of the allowed speed, this is taken off per second for each whole multiple more."""
ARRIVED_M = 10.0
"""So near to its route's end the ego has arrived."""


class Seat(NamedTuple):
    """B worlds, and what everyone in them sees; seen once, used by who decides and by the step."""

    worlds: State
    observed: Observed


class Step(NamedTuple):
    """What a step brought: the reward and what it is made of; whether the drive is over."""

    reward: Float[Array, "B"]
    progress: Float[Array, "B"]
    contact: Bool[Array, "B"]
    lost: Bool[Array, "B"]
    red: Bool[Array, "B"]

    @property
    def over(self) -> Bool[Array, "B"]:
        """A contact or the loss of the road ends a drive."""
        return self.contact | self.lost


def sit(network: Network, worlds: State) -> Seat:
    """The worlds with what everyone sees in them."""
    return Seat(worlds, observe(network, worlds))


def drive(network: Network, seat: Seat, actions: Float[Array, "B 2"]) -> tuple[Seat, Step]:
    """The worlds `STEP_S` later, and what the step brought, when the egos do `actions` (m/s2, 1/m).

    The reward is, per second, the progress along the route divided by what the allowed speed would make of it (at most
    1), minus discomfort and speeding; a contact costs `CONTACT`, leaving the lanes `LOST`, a red line `RED`. So a drive
    of ten seconds is worth at most 10. Who has arrived at the end of its route is paid as at the allowed speed, and
    nothing can happen to it any more.
    """
    before = seat.worlds
    after = go_on(network, before, seat.observed, actions)
    red = ran_red(network, before, after)
    judged = jax.vmap(_judge, in_axes=(None, 0, 0, 0, 0))(network, before, after, actions, red)
    return sit(network, after), judged


def _judge(network: Network, before: State, after: State, action: Array, red: Array) -> Step:
    speed, limit = after.speed[0], allowed(network, after)
    same = before.route[0] == after.route[0]
    metres = jnp.where(same, after.s[0] - before.s[0], speed * STEP_S)
    progress = jnp.clip(metres / (STEP_S * limit), -1.0, 1.0)
    sideways = action[1] * speed**2
    comfort = COMFORT * (action[0] ** 2 + sideways**2) / COMFORT_MPS2**2
    speeding = SPEEDING * jnp.maximum(speed / limit - TOO_FAST, 0.0)
    here = arrived(network, before)
    contact, lost, red = touches(after) & ~here, off(network, after) & ~here, red & ~here
    rate = jnp.where(here, 1.0, progress - comfort - speeding)
    reward = STEP_S * rate - CONTACT * contact - LOST * (lost & ~contact) - RED * red
    return Step(reward, jnp.where(here, 1.0, progress), contact, lost, red)


def touches(state: State) -> Bool[Array, ""]:
    """Whether the ego's box touches that of any other row on the road."""
    boxes = Boxes(state.x, state.y, state.cos, state.sin, 0.5 * state.length, 0.5 * state.width)
    ego = Boxes(*(jnp.broadcast_to(field[0], field.shape) for field in boxes))
    others = state.active & (jnp.arange(state.x.shape[0]) > 0)
    return jnp.any(touching(ego, boxes) & others)


def off(network: Network, state: State) -> Bool[Array, ""]:
    """Whether the ego's middle has left its lane where there is no lane to change to, or a lane that ended."""
    route, aside = state.route[0], state.lateral[0]
    bound = 0.5 * network.lane_width[state.road]
    left, right = may_leave(network, state)
    ended = network.dead_end[state.road, route] & (state.s[0] > lookup(network.clear, state.road, route))
    return ((aside > bound) & ~left) | ((aside < -bound) & ~right) | ended


def arrived(network: Network, state: State) -> Bool[Array, ""]:
    """Whether the ego is at the end of its route; the simulator leaves it there, whatever it does."""
    return state.s[0] > network.length[state.road, state.route[0]] - ARRIVED_M
