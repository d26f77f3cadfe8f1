"""Where sampling starts: a driver who follows the route, and how far around it to look."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optimizers.limits import Limits, curvature_bound
from optimizers.motion import Motion, nearest, nearest_to_ego, place
from wmplan.scene import STEP_S

NOMINALS = ("route", "keep", "zero")
COMFORT_ACCEL_MPS2 = 1.5
COMFORT_BRAKE_MPS2 = 2.0
REACTION_S = 1.0
"""Time in which the present acceleration gives way to the one wanted."""
APPROACH_S = 2.0
"""Time constant of the approach to the speed wanted."""
LOOKAHEAD_S = 1.0
LOOKAHEAD_M = 5.0
"""The point aimed at lies this far ahead on the route: the larger of the two."""
CURVE_ACCEL_MPS2 = 2.0
"""Lateral acceleration at which curves ahead are meant to be taken."""


def nominal_controls(motion: Motion, steps: int, limits: Limits, kind: str) -> Float[Array, "T U"]:
    """Controls around which the first candidates are drawn.

    `route`: pure pursuit of a point ahead on the route; the present acceleration fades into one that approaches the
    target speed, lower before curves. `keep`: the present acceleration fades out, the present curvature is kept.
    `zero`: straight on at constant speed. None of them sees the traffic.
    """
    if kind == "zero":
        return jnp.zeros((steps, 2))
    fade = jnp.exp(-jnp.arange(steps) * STEP_S / REACTION_S)
    bound = curvature_bound(motion.speed, limits)
    if kind == "keep":
        curvature = jnp.full(steps, jnp.clip(motion.curvature, -bound, bound))
        return jnp.stack([motion.accel * fade, curvature], axis=1)
    return _follow_route(motion, fade, limits)


def initial_std(
    motion: Motion, nominal: Float[Array, "T U"], accel_std: float, lateral_std: float, curvature_std: float
) -> Float[Array, "T U"]:
    """Standard deviation of the first candidates: of acceleration, and of the curvature that gives `lateral_std`
    (m/s2) at the nominal's speed, at most `curvature_std` (1/m)."""
    speed = jnp.maximum(motion.speed + jnp.cumsum(nominal[:, 0]) * STEP_S, 0.5)
    curvature = jnp.minimum(curvature_std, lateral_std / speed**2)
    return jnp.stack([jnp.full(len(speed), accel_std), curvature], axis=1)


def _follow_route(motion: Motion, fade: Float[Array, "T"], limits: Limits) -> Float[Array, "T U"]:
    route = motion.route
    count = route.points.shape[0]
    at = place(route, jnp.arange(count) * route.spacing)
    curve_speed = jnp.sqrt(CURVE_ACCEL_MPS2 / jnp.maximum(jnp.abs(at.curvature), 1e-3))
    along = jnp.arange(count) * route.spacing

    def step(carry: Any, weight: Array) -> tuple[Any, Array]:
        x, y, yaw, speed, before, guess = carry
        s = nearest(route, x, y, guess)
        ahead = jnp.maximum(along - s, 0.0)
        allowed = jnp.where(along >= s, jnp.sqrt(curve_speed**2 + 2.0 * COMFORT_BRAKE_MPS2 * ahead), jnp.inf)
        wanted = jnp.minimum(motion.target_speed, allowed.min())
        approach = jnp.clip((wanted - speed) / APPROACH_S, -COMFORT_BRAKE_MPS2, COMFORT_ACCEL_MPS2)
        accel = jnp.clip(
            weight * motion.accel + (1.0 - weight) * approach, limits.min_accel_mps2, limits.max_accel_mps2
        )
        speed_next = jnp.maximum(speed + accel * STEP_S, 0.0)
        aim = place(route, s + jnp.maximum(LOOKAHEAD_M, LOOKAHEAD_S * speed))
        dx, dy = aim.x - x, aim.y - y
        left = -dx * jnp.sin(yaw) + dy * jnp.cos(yaw)
        reach = limits.max_curvature_rate_pmps * STEP_S
        bound = curvature_bound(jnp.maximum(speed, speed_next), limits)
        pursuit = 2.0 * left / jnp.maximum(dx**2 + dy**2, 1.0)
        curvature = jnp.clip(jnp.clip(pursuit, before - reach, before + reach), -bound, bound)
        distance = 0.5 * (speed + speed_next) * STEP_S
        middle = yaw + 0.5 * curvature * distance
        carry = (
            x + distance * jnp.cos(middle),
            y + distance * jnp.sin(middle),
            yaw + curvature * distance,
            speed_next,
            curvature,
            s + distance,
        )
        return carry, jnp.stack([accel, curvature])

    bound = curvature_bound(motion.speed, limits)
    zero = jnp.float32(0.0)
    first = (zero, zero, zero, motion.speed, jnp.clip(motion.curvature, -bound, bound), nearest_to_ego(route))
    return jax.lax.scan(step, first, fade)[1]
