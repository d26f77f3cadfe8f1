"""The Intelligent Driver Model: how fast a driver speeds up, given the gap to what is ahead."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Drivers(NamedTuple):
    """Parameters of A drivers: time gap (s), standstill gap (m), acceleration and comfortable deceleration (m/s2),
    and the factor by which each likes to exceed the speed limit."""

    time_gap: Float[Array, "A"]
    standstill: Float[Array, "A"]
    accel: Float[Array, "A"]
    decel: Float[Array, "A"]
    speed_factor: Float[Array, "A"]


EXPONENT = 4.0
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


def draw(key: Array, count: int) -> Drivers:
    """Parameters of `count` drivers, uniform around the values published for urban and motorway traffic.

    References:
        Treiber and Kesting, Traffic Flow Dynamics, table 11.2 (city: T 1 s, a 1 m/s2, b 1.5 m/s2, s0 2 m).
    """
    low = jnp.array([1.0, 1.5, 1.0, 1.5, 0.85])
    high = jnp.array([2.0, 3.0, 2.0, 3.0, 1.1])
    share = jax.random.uniform(key, (count, 5))
    return Drivers(*jnp.moveaxis(low[None] + share * (high - low)[None], 1, 0))
