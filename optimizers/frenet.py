"""The Frenet frame of the route: the ego seen from it, and polynomials along it and across it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from optimizers.motion import Motion, nearest_to_ego, place

STEEPEST_RAD = 1.2
"""Largest angle between ego and route for which the route says anything of where the ego may go."""
NARROWEST = 0.1
"""Smallest 1 - curvature x offset: nearer to the centre of the route's curvature the projection is not unique."""


class FrenetStart(NamedTuple):
    """The ego seen from the route: where, how fast along it; offset to the left with its derivatives along the route.

    `valid` is False where the ego cannot be projected (it stands across the route, or beyond its centre of curvature).
    """

    s: Float[Array, ""]
    speed: Float[Array, ""]
    accel: Float[Array, ""]
    offset: Float[Array, ""]
    slope: Float[Array, ""]
    bend: Float[Array, ""]
    valid: Bool[Array, ""]


class Along(NamedTuple):
    """Metres, speed and acceleration along the route over time."""

    s: Float[Array, "T P"]
    speed: Float[Array, "T P"]
    accel: Float[Array, "T P"]


class Across(NamedTuple):
    """Offset to the left of the route and its first two derivatives by the polynomial's argument."""

    offset: Float[Array, "T P"]
    slope: Float[Array, "T P"]
    bend: Float[Array, "T P"]


def seen_from_route(motion: Motion) -> FrenetStart:
    """The ego's position, motion and curvature in the Frenet frame.

    References:
        Werling et al. (2010), "Optimal trajectory generation for dynamic street scenarios in a Frenet frame", I.1; the
        slope of the route's curvature is neglected.
    """
    s = nearest_to_ego(motion.route)
    at = place(motion.route, s)
    offset = at.x * at.sin - at.y * at.cos
    angle = jnp.arctan2(-at.sin, at.cos)
    narrow = 1.0 - at.curvature * offset
    valid = (jnp.abs(angle) < STEEPEST_RAD) & (narrow > NARROWEST)
    angle = jnp.clip(angle, -STEEPEST_RAD, STEEPEST_RAD)
    stretch = at.slope * jnp.maximum(narrow, NARROWEST)
    slope = stretch * jnp.tan(angle)
    turn = motion.curvature * stretch / jnp.cos(angle) - at.curvature * at.slope
    bend = -at.slope * at.curvature * slope * jnp.tan(angle) + stretch * turn / jnp.cos(angle) ** 2
    share = jnp.cos(angle) / stretch
    return FrenetStart(s, motion.speed * share, motion.accel * share, offset, slope, bend, valid)


def quartic(
    speed: Float[Array, ""], accel: Float[Array, ""], end_speed: Float[Array, "1 P"], end: Float[Array, "1 P"],
    time: Float[Array, "T 1"],
) -> Along:  # fmt: skip
    """From the present speed and acceleration to `end_speed` without acceleration at time `end`, constant from there.

    The present deceleration is taken no harder than three times speed / end: beyond that the polynomial would reverse.
    """
    tau = jnp.minimum(time, end)
    r = tau / end
    pull = end * jnp.maximum(accel, -3.0 * speed / end)
    gain = end_speed - speed
    s = end * (speed * r + gain * (r**3 - 0.5 * r**4) + pull * (r**2 / 2 - 2 * r**3 / 3 + r**4 / 4))
    v = speed + gain * (3 * r**2 - 2 * r**3) + pull * (r - 2 * r**2 + r**3)
    a = (gain * (6 * r - 6 * r**2) + pull * (1 - 4 * r + 3 * r**2)) / end
    return Along(s + end_speed * (time - tau), jnp.maximum(v, 0.0), jnp.where(time < end, a, 0.0))


def braking(speed: Float[Array, ""], decel: Float[Array, "1 P"], time: Float[Array, "T 1"]) -> Along:
    """Constant deceleration to standstill, then standing."""
    tau = jnp.minimum(time, speed / decel)
    v = jnp.maximum(speed - decel * time, 0.0)
    return Along(speed * tau - 0.5 * decel * tau**2, v, jnp.where(v > 0.0, -decel, 0.0))


def quintic(
    slope: Float[Array, "1 #P"], bend: Float[Array, "1 #P"], end: Float[Array, "1 P"], x: Float[Array, "T #P"]
) -> tuple[Across, Across]:
    """`drift` and `fade`: from the present offset, slope and bend to `end_offset` with neither at argument `end`.

    The polynomial is linear in where it ends: offset = end_offset + drift + (present offset - end_offset) x fade, and
    the derivatives likewise. So one pair serves all end offsets of a profile.
    """
    r = jnp.minimum(x, end) / end
    m, c = end * slope, 0.5 * end**2 * bend
    fade = Across(
        1 - 10 * r**3 + 15 * r**4 - 6 * r**5,
        (-30 * r**2 + 60 * r**3 - 30 * r**4) / end,
        (-60 * r + 180 * r**2 - 120 * r**3) / end**2,
    )
    drift = Across(
        m * (r - 6 * r**3 + 8 * r**4 - 3 * r**5) + c * (r**2 - 3 * r**3 + 3 * r**4 - r**5),
        (m * (1 - 18 * r**2 + 32 * r**3 - 15 * r**4) + c * (2 * r - 9 * r**2 + 12 * r**3 - 5 * r**4)) / end,
        (m * (-36 * r + 96 * r**2 - 60 * r**3) + c * (2 - 18 * r + 36 * r**2 - 20 * r**3)) / end**2,
    )
    return drift, fade
