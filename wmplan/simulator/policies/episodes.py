"""Drives of a policy on the simulator, many at once."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from wmplan.scene import STEP_S
from wmplan.simulator.ego_view import see
from wmplan.simulator.network import Network
from wmplan.simulator.policies.protocol import Policy, Situation
from wmplan.simulator.task import EPISODE_STEPS, Seat, drive


class Drives(NamedTuple):
    """What B drives came to: the sum of rewards until they were over or time was; the sum of the progress' shares,
    times the step, in seconds; whether they ended in a contact or off the lanes; whether a red line was passed."""

    value: Float[Array, "B"]
    progress: Float[Array, "B"]
    contact: Bool[Array, "B"]
    lost: Bool[Array, "B"]
    red: Bool[Array, "B"]


@partial(jax.jit, static_argnames="steps")
def play(network: Network, seat: Seat, policy: Policy, key: Array, steps: int = EPISODE_STEPS) -> Drives:
    """What B drives of the policy from these worlds came to."""

    def one(carry: tuple[Seat, Drives], key: Array) -> tuple[tuple[Seat, Drives], None]:
        seat, so_far = carry
        actions = policy.act(Situation(network, *seat, see(network, *seat)), key)
        seat, brought = drive(network, seat, actions)
        on = ~(so_far.contact | so_far.lost)
        return (
            seat,
            Drives(
                so_far.value + jnp.where(on, brought.reward, 0.0),
                so_far.progress + jnp.where(on, STEP_S * brought.progress, 0.0),
                so_far.contact | (on & brought.contact),
                so_far.lost | (on & brought.lost & ~brought.contact),
                so_far.red | (on & brought.red),
            ),
        ), None

    zero = jnp.zeros(seat.worlds.steps.shape)
    none = zero.astype(bool)
    first = Drives(zero, zero, none, none, none)
    return jax.lax.scan(one, (seat, first), jax.random.split(key, steps))[0][1]
