"""The Frenet frame of the route: polynomials along it and across it, and the way back to the plane."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from optimizers.limits import MOVING_M
from optimizers.motion import Motion, nearest_to_ego, place
from wmplan.scene import STEP_S

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

    s: Float[Array, "T K"]
    speed: Float[Array, "T K"]
    accel: Float[Array, "T K"]


class Across(NamedTuple):
    """Offset to the left of the route and its first two derivatives by the polynomial's argument."""

    offset: Float[Array, "T K"]
    slope: Float[Array, "T K"]
    bend: Float[Array, "T K"]


def seen_from_route(motion: Motion) -> FrenetStart:
    """The ego's position, motion and curvature in the Frenet frame.

    References:
        Werling et al. (2010), "Optimal trajectory generation for dynamic street scenarios in a Frenet frame", I.1; the
        slope of the route's curvature is neglected.
    """
    s = nearest_to_ego(motion.route)
    at = place(motion.route, s)
    offset = at.x * jnp.sin(at.yaw) - at.y * jnp.cos(at.yaw)
    angle = jnp.arctan2(jnp.sin(-at.yaw), jnp.cos(-at.yaw))
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
    speed: Float[Array, ""], accel: Float[Array, ""], end_speed: Float[Array, "1 K"], end: Float[Array, "1 K"],
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


def braking(speed: Float[Array, ""], decel: Float[Array, "1 K"], time: Float[Array, "T 1"]) -> Along:
    """Constant deceleration to standstill, then standing."""
    tau = jnp.minimum(time, speed / decel)
    v = jnp.maximum(speed - decel * time, 0.0)
    return Along(speed * tau - 0.5 * decel * tau**2, v, jnp.where(v > 0.0, -decel, 0.0))


def quintic(
    offset: Float[Array, "..."], slope: Float[Array, "..."], bend: Float[Array, "..."],
    end_offset: Float[Array, "1 K"], end: Float[Array, "1 K"], x: Float[Array, "T #K"],
) -> Across:  # fmt: skip
    """From the present offset, slope and bend to `end_offset` with neither at argument `end`, constant from there."""
    r = jnp.minimum(x, end) / end
    gap, m, c = offset - end_offset, end * slope, end**2 * bend
    value = (
        gap * (1 - 10 * r**3 + 15 * r**4 - 6 * r**5)
        + m * (r - 6 * r**3 + 8 * r**4 - 3 * r**5)
        + 0.5 * c * (r**2 - 3 * r**3 + 3 * r**4 - r**5)
    )
    first = (
        gap * (-30 * r**2 + 60 * r**3 - 30 * r**4)
        + m * (1 - 18 * r**2 + 32 * r**3 - 15 * r**4)
        + 0.5 * c * (2 * r - 9 * r**2 + 12 * r**3 - 5 * r**4)
    )
    second = (
        gap * (-60 * r + 180 * r**2 - 120 * r**3)
        + m * (-36 * r + 96 * r**2 - 60 * r**3)
        + 0.5 * c * (2 - 18 * r + 36 * r**2 - 20 * r**3)
    )
    return Across(end_offset + value, first / end, second / end**2)


def to_plane(
    motion: Motion, start: FrenetStart, along: Along, offset: Float[Array, "T K"], by_time: Float[Array, "T K"],
    by_route: Float[Array, "T K"], timed: Bool[Array, "1 K"],
) -> tuple[Float[Array, "T 4 K"], Bool[Array, "K"]]:  # fmt: skip
    """States x, y, yaw, v of Frenet candidates, and where the projection holds all along.

    The heading comes from the offset's derivative by time where `timed`, else from the one along the route: at
    walking pace the former over the speed is noise.
    """
    # Without the barriers XLA fuses the route's look-up into every consumer and repeats it there: 20 times slower.
    at = jax.lax.optimization_barrier(place(motion.route, start.s + along.s))
    narrow = 1.0 - at.curvature * offset
    stretch = at.slope * jnp.maximum(narrow, NARROWEST)
    sideways = jnp.where(timed, by_time, by_route * along.speed)
    angle = jnp.where(
        timed, jnp.arctan2(by_time, jnp.maximum(along.speed * stretch, 0.1)), jnp.arctan2(by_route, stretch)
    )
    x = at.x - offset * jnp.sin(at.yaw)
    y = at.y + offset * jnp.cos(at.yaw)
    speed = jnp.hypot(along.speed * stretch, sideways)
    states = jax.lax.optimization_barrier(jnp.stack([x, y, at.yaw + angle, speed], axis=1))
    holds = (narrow > NARROWEST).all(axis=0) & jnp.isfinite(states).all(axis=(0, 1)) & start.valid
    return states, holds


def controls_along(states: Float[Array, "T 4 K"]) -> Float[Array, "S U K"]:
    """Acceleration and curvature that follow the states (inverse bicycle); curvature 0 where the car hardly moves."""
    speed = states[:, 3]
    accel = jnp.diff(speed, axis=0) / STEP_S
    distance = 0.5 * (speed[:-1] + speed[1:]) * STEP_S
    turn = jnp.diff(states[:, 2], axis=0)
    turn = jnp.arctan2(jnp.sin(turn), jnp.cos(turn))
    moving = distance > 0.1 * MOVING_M
    return jnp.stack([accel, jnp.where(moving, turn / jnp.where(moving, distance, 1.0), 0.0)], axis=1)
