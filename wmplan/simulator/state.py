"""One world at one moment, as arrays with a row for each road user; row 0 is the ego."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from wmplan.simulator.drivers import MOST_REACTION_STEPS, Drivers
from wmplan.simulator.ego import OnRoutes

VEHICLES, CYCLISTS, WALKERS = 25, 3, 4
"""Rows of a world on a synthetic map: the ego and other vehicles, then cyclists, then people on foot."""
ROWS = VEHICLES + CYCLISTS + WALKERS
DELAYS = MOST_REACTION_STEPS + 2
"""Steps that a driver's wishes are remembered."""


class State(NamedTuple):
    """A world. Metres, m/s, radians, map frame.

    `road` is the map's number in the network, `steps` counts from the reset, `clock` is the lights' phase in steps.
    `s` and `lateral` are along and to the left of the own route, `rest` the offset that one keeps to; `x`, `y`, `cos`,
    `sin` place the box's centre and heading. `wanted[d]` is the acceleration wished for d steps ago; `noise` (m/s2) is
    drawn from `seed` and `steps`. `ego` is where row 0 is on every route.
    """

    road: Int[Array, ""]
    steps: Int[Array, ""]
    clock: Int[Array, ""]
    route: Int[Array, "A"]
    s: Float[Array, "A"]
    lateral: Float[Array, "A"]
    rest: Float[Array, "A"]
    x: Float[Array, "A"]
    y: Float[Array, "A"]
    cos: Float[Array, "A"]
    sin: Float[Array, "A"]
    speed: Float[Array, "A"]
    length: Float[Array, "A"]
    width: Float[Array, "A"]
    kind: Int[Array, "A"]
    active: Bool[Array, "A"]
    drivers: Drivers
    wanted: Float[Array, "D A"]
    noise: Float[Array, "A"]
    seed: UInt32[Array, "A"]
    ego: OnRoutes

    @property
    def box(self) -> Float[Array, "*B A 4"]:
        """x, y, yaw, speed of every row."""
        return jnp.stack([self.x, self.y, jnp.arctan2(self.sin, self.cos), self.speed], axis=-1)
