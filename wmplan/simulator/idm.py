"""The Intelligent Driver Model: how fast a driver speeds up, given the gap to what is ahead."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from wmplan.simulator.drivers import Drivers

EXPONENT = 4
"""The free-road exponent delta of the model."""
SMALLEST_GAP = 0.1
"""Gaps are floored here, metres, so that a touch brakes hard instead of dividing by zero."""


def acceleration(
    speed: Float[Array, "*A"],
    closing: Float[Array, "*A"],
    gap: Float[Array, "*A"],
    desired: Float[Array, "*A"],
    drivers: Drivers,
) -> Float[Array, "*A"]:
    """Acceleration in m/s2, unclipped. `closing` is own speed minus the leader's; `gap` is bumper to bumper.

    References:
        Treiber, Hennecke, Helbing (2000), equations 2 and 3; Treiber and Kesting, Traffic Flow Dynamics, 11.3.
    """
    dynamic = speed * drivers.time_gap + speed * closing / (2.0 * jnp.sqrt(drivers.accel * drivers.decel))
    wanted = drivers.standstill + jnp.maximum(dynamic, 0.0)
    free = (speed / jnp.maximum(desired, 0.1)) ** EXPONENT
    return drivers.accel * (1.0 - free - (wanted / jnp.maximum(gap, SMALLEST_GAP)) ** 2)


def equilibrium_gap(speed: Float[Array, "*A"], desired: Float[Array, "*A"], drivers: Drivers) -> Float[Array, "*A"]:
    """The gap in metres at which a driver keeps the speed of the leader.

    References:
        Treiber, Hennecke, Helbing (2000), equation 8.
    """
    return (drivers.standstill + speed * drivers.time_gap) / jnp.sqrt(1.0 - (speed / desired) ** EXPONENT)
