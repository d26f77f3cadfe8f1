"""What the car can do: the bounds, why a candidate breaks them, and the nearest candidate that does not."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32
from numpy import ndarray

from optimizers.motion import Motion
from wmplan.contracts import Infeasible
from wmplan.scene import STEP_S

MOVING_M = 0.03
"""Below this distance in a step the path says nothing of curvature, so its rate is not judged."""


@dataclass(frozen=True)
class Limits:
    """Bounds of a drivable plan. Steering bounds curvature at low speed, lateral acceleration above."""

    max_speed_mps: float = 40.0
    """Highest speed, m/s."""
    min_accel_mps2: float = -6.0
    """Hardest braking, m/s2; the bicycle's own bound."""
    max_accel_mps2: float = 4.0
    """Hardest acceleration, m/s2."""
    max_curvature_pm: float = 0.2
    """Tightest turn, 1/m: a radius of 5 m."""
    max_curvature_rate_pmps: float = 0.4
    """Fastest change of curvature, 1/(m s): about one radian a second at the front wheels of a car."""
    max_lateral_accel_mps2: float = 4.0
    """Largest speed squared times curvature, m/s2."""

    def __post_init__(self) -> None:
        if not self.min_accel_mps2 < 0.0 < self.max_accel_mps2:
            raise ValueError(
                f"Limits: min_accel_mps2 {self.min_accel_mps2} and max_accel_mps2 {self.max_accel_mps2}, expected "
                "a negative and a positive number"
            )
        for name in ("max_speed_mps", "max_curvature_pm", "max_curvature_rate_pmps", "max_lateral_accel_mps2"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"Limits.{name} is {getattr(self, name)}, expected a positive number")


def curvature_bound(speed: Float[Array, "..."], limits: Limits) -> Float[Array, "..."]:
    """Largest curvature at this speed, 1/m."""
    by_speed = limits.max_lateral_accel_mps2 / jnp.maximum(speed, 0.1) ** 2
    return jnp.minimum(limits.max_curvature_pm, by_speed)


def drivable(
    speed: Float[Array, "K"],
    before: Float[Array, "K"],
    accel: Float[Array, "K"],
    curvature: Float[Array, "K"],
    limits: Limits,
) -> tuple[Float[Array, "K"], Float[Array, "K"], Float[Array, "K"]]:
    """The speed after one step, and the acceleration and curvature that the car can drive in it.

    Acceleration first (its bounds, then the speed limit), then curvature: its rate from the step `before`, then the
    bound at the faster end of the step, which therefore wins where the two disagree.
    """
    accel = jnp.minimum(accel, (limits.max_speed_mps - speed) / STEP_S)
    accel = jnp.clip(accel, limits.min_accel_mps2, limits.max_accel_mps2)
    speed_next = jnp.maximum(speed + accel * STEP_S, 0.0)
    reach = limits.max_curvature_rate_pmps * STEP_S
    bound = curvature_bound(jnp.maximum(speed, speed_next), limits)
    return speed_next, accel, jnp.clip(jnp.clip(curvature, before - reach, before + reach), -bound, bound)


def project(controls: Float[Array, "T U K"], motion: Motion, limits: Limits) -> Float[Array, "T U K"]:
    """The controls, clipped step by step (`drivable`) until the car can drive them from where it is."""
    k = controls.shape[-1]

    def step(carry: tuple[Array, Array], control: Array) -> tuple[tuple[Array, Array], Array]:
        speed, accel, curvature = drivable(*carry, control[0], control[1], limits)
        return (speed, curvature), jnp.stack([accel, curvature])

    carry = (jnp.full(k, motion.speed), jnp.full(k, present_curvature(motion, limits)))
    return jax.lax.scan(step, carry, controls)[1]


def present_curvature(motion: Motion, limits: Limits) -> Float[Array, ""]:
    """Curvature that the first step changes from: the present one, within its bound at the present speed."""
    bound = curvature_bound(motion.speed, limits)
    return jnp.clip(motion.curvature, -bound, bound)


def speeds(controls: Float[Array, "T U K"], motion: Motion) -> Float[Array, "T+1 K"]:
    """Speeds that the accelerations lead to, m/s; the first is the present one."""

    def step(speed: Array, accel: Array) -> tuple[Array, Array]:
        after = jnp.maximum(speed + accel * STEP_S, 0.0)
        return after, after

    first = jnp.full(controls.shape[-1], motion.speed)
    return jnp.concatenate([first[None], jax.lax.scan(step, first, controls[:, 0])[1]])


def reasons(
    controls: Float[Array, "T U K"], speed: Float[Array, "T+1 K"], limits: Limits, slack: float = 1e-4
) -> Int32[Array, "K"]:
    """Why each candidate cannot be driven, bits of `Infeasible`; 0 where it can. `slack` is relative, for rounding."""
    accel, curvature = controls[:, 0], controls[:, 1]
    moving = 0.5 * (speed[:-1] + speed[1:]) * STEP_S > MOVING_M
    change = jnp.where(moving[:-1] & moving[1:], jnp.diff(curvature, axis=0), 0.0)
    change = jnp.concatenate([jnp.zeros_like(curvature[:1]), change])
    bits = step_reasons(accel, curvature, change, jnp.maximum(speed[:-1], speed[1:]), limits, slack)
    return jax.lax.reduce(bits, jnp.int32(0), jax.lax.bitwise_or, (0,))


def step_reasons(
    accel: Float[Array, "*S"],
    curvature: Float[Array, "*S"],
    change: Float[Array, "*S"],
    faster: Float[Array, "*S"],
    limits: Limits,
    slack: float = 1e-4,
) -> Int32[Array, "*S"]:
    """Why single steps cannot be driven; `change` is the curvature's since the step before, `faster` the higher of
    the speeds at both ends. A number that is not finite keeps no bound."""
    more = 1.0 + slack
    bend = jnp.abs(curvature)
    kept = (
        (Infeasible.SPEED, faster <= limits.max_speed_mps * more),
        (Infeasible.ACCEL, (accel <= limits.max_accel_mps2 * more) & (accel >= limits.min_accel_mps2 * more)),
        (Infeasible.CURVATURE, bend <= limits.max_curvature_pm * more),
        (Infeasible.CURVATURE_RATE, jnp.abs(change) <= limits.max_curvature_rate_pmps * STEP_S * more),
        (Infeasible.LATERAL_ACCEL, faster**2 * bend <= limits.max_lateral_accel_mps2 * more),
    )
    bits = jnp.zeros(accel.shape, jnp.int32)
    for reason, where in kept:
        bits = bits | jnp.where(where, 0, jnp.int32(reason))
    return bits


def tally(infeasible: Int32[ndarray, "K"]) -> tuple[tuple[Infeasible, int], ...]:
    """Each reason with the number of candidates that it rules out; a candidate counts under all of its reasons."""
    return tuple((reason, int(((infeasible & int(reason)) != 0).sum())) for reason in Infeasible)
