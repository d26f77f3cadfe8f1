"""What the lanes promise an ego that learns: a potential that tells at once what a change of lanes will be worth."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from wmplan.simulator.ego_view import CLOSING_MPS, END_SIGHT_M, LANE, OWN, SIGHT_M, SPEED_MPS

FOLLOW_S, END_S = 4.0, 8.0
"""Gaps to who is ahead, and to the end of the lane, are taken to be made up or used up in so much time."""


def promised(seen: Float[Array, "B O"]) -> Float[Array, "B"]:
    """The speed, as a share of the allowed one (0 to 1), that the lanes let the ego have in the next seconds: its own
    and, the farther it is aside, the one on that side if it may change to it. A function of what the ego sees
    (`wmplan.simulator.ego_view`), continuous where one of two lanes, each open to the other, becomes the own one."""
    speed, limit = SPEED_MPS * seen[:, 0], SPEED_MPS * seen[:, 1]

    def share(near: Array, closing: Array) -> Array:
        return jnp.clip((speed + CLOSING_MPS * closing + SIGHT_M * (1.0 - near) / FOLLOW_S) / limit, 0.0, 1.0)

    own, end = share(seen[:, 5], seen[:, 6]), END_SIGHT_M * (1.0 - seen[:, 8]) / END_S / limit
    # Beyond sight it is not known whether the lane ends.
    own = jnp.where(seen[:, 8] > 0.0, jnp.minimum(own, end), own)
    left = seen[:, 3] > 0.0
    lanes = seen[:, OWN : OWN + 2 * LANE].reshape(-1, 2, LANE)
    beside = jnp.where(left[:, None], lanes[:, 0], lanes[:, 1])
    may = jnp.where(left, seen[:, 12], seen[:, 13]) * beside[:, 0] > 0.0
    other = jnp.where(may, share(beside[:, 1], beside[:, 2]), own)
    aside = jnp.clip(seen[:, 4], 0.0, 1.0)
    return (1.0 - aside) * own + aside * other
