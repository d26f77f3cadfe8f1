"""What really happens when candidates are executed: one state, K candidates, the same drivers' noise for all.

The seam of the evaluation: no critic and no planner may import it. It will grow the scores of `wmplan.scores`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from wmplan.scene import Light
from wmplan.simulator.signals import light_states
from wmplan.simulator.traffic import State, step


class Outcomes(NamedTuple):
    """K candidates executed for T steps.

    `boxes` are x, y, yaw, speed of every row (m, rad, m/s, world frame), the first is the present; `active` whether the
    row is still on the road; `contact` whether the ego's box overlaps another's; `red` whether the ego's front passed
    its stop line in this step while its light was red.
    """

    boxes: Float[Array, "K T+1 A 4"]
    active: Bool[Array, "K T+1 A"]
    contact: Bool[Array, "K T+1"]
    red: Bool[Array, "K T"]


@jax.jit
def outcomes(state: State, controls: Float[Array, "K T 2"]) -> Outcomes:
    """Executes every candidate's controls (acceleration m/s2, curvature 1/m; clipped to the bicycle's bounds)."""

    def one(plan: Array) -> tuple[Array, Array, Array, Array]:
        def move(now: State, action: Array) -> tuple[State, tuple[Array, Array, Array, Array]]:
            after = step(now, action)
            return after, (after.box, after.active, ego_contact(after), _ran_red(now, after))

        _, (boxes, active, contact, red) = jax.lax.scan(move, state, plan)
        return (
            jnp.concatenate([state.box[None], boxes]),
            jnp.concatenate([state.active[None], active]),
            jnp.concatenate([ego_contact(state)[None], contact]),
            red,
        )

    return Outcomes(*jax.vmap(one)(controls))


def ego_contact(state: State) -> Bool[Array, ""]:
    """Whether the ego's box overlaps that of any other row on the road.

    Two boxes are apart if and only if one of their four axes separates them.
    """
    box, size = state.box, state.size
    axes = jnp.stack([jnp.cos(box[:, 2]), jnp.sin(box[:, 2]), -jnp.sin(box[:, 2]), jnp.cos(box[:, 2])], -1)
    axes = axes.reshape(-1, 2, 2)
    between = box[:, :2] - box[:1, :2]
    turned = jnp.einsum("aij,kj->aik", axes, axes[0])  # cosines between each box's axes and the ego's
    on_own = jnp.abs(jnp.einsum("aij,aj->ai", axes, between))
    on_ego = jnp.abs(jnp.einsum("ij,aj->ai", axes[0], between))
    reach_own = 0.5 * (size + jnp.einsum("aik,k->ai", jnp.abs(turned), size[0]))
    reach_ego = 0.5 * (size[:1] + jnp.einsum("aik,ai->ak", jnp.abs(turned), size))
    apart = jnp.any(on_own >= reach_own, axis=1) | jnp.any(on_ego >= reach_ego, axis=1)
    return jnp.any((~apart & state.active).at[0].set(False))


def _ran_red(before: State, after: State) -> Bool[Array, ""]:
    network, route = before.network, before.route[0]
    line = network.stop[route] - 0.5 * before.size[0, 0]
    passed = (before.s[0] <= line) & (after.s[0] > line)
    light = light_states(network, before.time)[jnp.maximum(network.group[route], 0)]
    return passed & (network.group[route] >= 0) & (light == int(Light.RED))
