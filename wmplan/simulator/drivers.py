"""Who sits at the wheel: parameters of drivers, cyclists and people on foot, drawn from documented distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from wmplan.scene import Kind
from wmplan.simulator import noise

DRIVERS = 1
"""The purpose of the numbers that drivers are drawn with."""
MOST_REACTION_STEPS = 4
"""Longest reaction delay, in steps of 0.1 s."""


class Drivers(NamedTuple):
    """Parameters of A road users.

    IDM: time gap (s), standstill gap (m), acceleration and comfortable deceleration (m/s2), the factor by which each
    likes to exceed the speed limit (0: stands for good). `reaction`: delay in steps. MOBIL: `politeness`, `threshold`
    (m/s2).
    `critical_gap`: seconds that whoever has right of way must be away before one goes.
    """

    time_gap: Float[Array, "*A"]
    standstill: Float[Array, "*A"]
    accel: Float[Array, "*A"]
    decel: Float[Array, "*A"]
    speed_factor: Float[Array, "*A"]
    reaction: Int[Array, "*A"]
    politeness: Float[Array, "*A"]
    threshold: Float[Array, "*A"]
    critical_gap: Float[Array, "*A"]


@dataclass(frozen=True)
class Shift:
    """Factors on drivers' parameters: another population than the one that drove in the logs."""

    time_gap: float = 1.0
    decel: float = 1.0
    reaction: float = 1.0
    critical_gap: float = 1.0


ORIGINAL = Shift()
TWIN = Shift(time_gap=1.3, decel=0.7, reaction=1.3, critical_gap=1.3)
"""A population with the wrong parameters, to take truth from while logs came from the original."""

RANGES = Drivers(
    time_gap=(1.0, 2.0),  # type: ignore[arg-type]
    standstill=(1.5, 3.0),  # type: ignore[arg-type]
    accel=(1.0, 2.0),  # type: ignore[arg-type]
    decel=(1.5, 3.0),  # type: ignore[arg-type]
    speed_factor=(0.85, 1.1),  # type: ignore[arg-type]
    reaction=(0, MOST_REACTION_STEPS),  # type: ignore[arg-type]
    politeness=(0.0, 0.5),  # type: ignore[arg-type]
    threshold=(0.1, 0.3),  # type: ignore[arg-type]
    critical_gap=(3.0, 5.0),  # type: ignore[arg-type]
)
"""Uniform ranges of vehicle drivers.

IDM: around Treiber and Kesting, Traffic Flow Dynamics (2013), table 11.2 (city: T 1 s, a 1 m/s2, b 1.5 m/s2, s0 2 m).
Reaction: 0 to 0.4 s on top of the model's own inertia (ibid., chapter 12: delays below T/2 keep traffic stable). MOBIL:
Kesting, Treiber, Helbing (2007), politeness 0 to 0.5, threshold 0.1 m/s2 and more. Critical gap: around the 4.1 s
that the Highway Capacity Manual gives for left turns off a main road.
"""


def draw(seed: UInt32[Array, ""], kind: Int[Array, "A"]) -> Drivers:
    """Parameters of road users of these kinds (`Kind`); cyclists and people on foot keep shorter gaps, react at once
    and never change lanes of their own."""
    low, high = (jnp.array([r[i] for r in RANGES], dtype=jnp.float32) for i in (0, 1))
    value = low[None] + noise.uniform(seed, DRIVERS, kind.shape[0], len(RANGES)) * (high - low)[None]
    drawn = Drivers(*jnp.moveaxis(value, 1, 0))
    drawn = drawn._replace(reaction=jnp.round(drawn.reaction).astype(jnp.int32))
    foot, bike = kind == int(Kind.PEDESTRIAN), kind == int(Kind.CYCLIST)
    return drawn._replace(
        time_gap=jnp.where(foot, 0.3, jnp.where(bike, 0.8, drawn.time_gap)),
        standstill=jnp.where(foot, 0.3, jnp.where(bike, 1.0, drawn.standstill)),
        reaction=jnp.where(foot | bike, 0, drawn.reaction),
    )


def shifted(drivers: Drivers, shift: Shift) -> Drivers:
    """The same road users with the parameters of another population."""
    longer = jnp.round(drivers.reaction * shift.reaction).astype(jnp.int32)
    return drivers._replace(
        time_gap=drivers.time_gap * shift.time_gap,
        decel=drivers.decel * shift.decel,
        reaction=jnp.minimum(longer, MOST_REACTION_STEPS + 1),
        critical_gap=drivers.critical_gap * shift.critical_gap,
    )
