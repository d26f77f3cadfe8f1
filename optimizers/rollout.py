"""What a compiled plan is rolled and priced with: a vehicle that steps, a cost a step or a cost of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optimizers.limits import Limits, drivable, present_curvature
from optimizers.motion import motion_of
from wmplan.plans import ACCEL_GRID_MPS2, CURVATURE_GRID_PM, Start
from wmplan.risk import Risk
from wmplan.scene import STEP_S

Vehicle = tuple[Array, ...]
"""A vehicle's state, an array a quantity, one number a candidate."""


@runtime_checkable
class Rollout(Protocol):
    """A vehicle, for all candidates at once. Hashable: a program is compiled for each.

    `first` is its state at t0, a number a quantity. `step` gives the state one step later and the controls as applied,
    after the vehicle's own bounds: they are what is learned from and returned.
    """

    def first(self, start: Start) -> tuple[float | Array, ...]: ...

    def step(self, state: Vehicle, control: Float[Array, "U K"]) -> tuple[Vehicle, Float[Array, "U K"]]: ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class StageCost:
    """A cost summed over steps: `price(scene, t, state, control)` of the state after step `t` and the control that led
    there, `(K,)` or, for M imagined samples, `(M, K)`. Nothing of the rollout is kept, so memory does not grow with
    the horizon. `scene` is any pytree: other scenes and weights compile nothing.
    """

    price: Callable[[Any, Array, Vehicle, Float[Array, "U K"]], Array]


@dataclass(frozen=True)
class WholeCost:
    """A cost of the whole plan: `price(scene, states, controls)` of states `(T + 1, K)` a quantity and `(T, U, K)`."""

    price: Callable[[Any, Vehicle, Float[Array, "T U K"]], Array]


class Rolled(NamedTuple):
    """Candidates rolled and priced: states `(T + 1, K)` a quantity (none where only costs were asked for)."""

    controls: Float[Array, "T U K"]
    costs: Float[Array, "K"]
    states: tuple[Array, ...]


def roll(
    rollout: Rollout, cost: StageCost | WholeCost, risk: Risk, first: tuple[Array, ...], scene: Any,
    controls: Float[Array, "T U K"], keep_states: bool = False,
) -> Rolled:  # fmt: skip
    """Every candidate's controls as applied and its cost, +inf where that is not finite; one scan over time."""
    steps, _, k = controls.shape
    begin = tuple(jnp.full(k, value, jnp.float32) for value in first)
    whole = isinstance(cost, WholeCost)

    def step(carry: tuple[Vehicle, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Vehicle, Array], tuple]:
        state, total = carry
        control, t = inputs
        state, applied = rollout.step(state, control)
        if isinstance(cost, StageCost):
            total = total + cost.price(scene, t, state, applied)
        return (state, total), (applied, state if whole or keep_states else ())

    shape: tuple[int, ...] = ()
    if isinstance(cost, StageCost):
        shape = jax.eval_shape(cost.price, scene, jnp.int32(0), begin, controls[0]).shape
    (_, total), (applied, after) = jax.lax.scan(step, (begin, jnp.zeros(shape)), (controls, jnp.arange(steps)))
    states = tuple(jnp.concatenate([b[None], a]) for b, a in zip(begin, after))
    if isinstance(cost, WholeCost):
        total = cost.price(scene, states, applied)
    costs = risk(total) if total.ndim == 2 else total
    return Rolled(applied, jnp.where(jnp.isfinite(costs), costs, jnp.inf), states)


@dataclass(frozen=True)
class Bicycle:
    """The kinematic bicycle of `wmplan.bicycle` within the car's bounds. Its state: x, y, yaw, speed, and the curvature
    of the step before. With `rounded` controls fall on the grid that `Plans.from_controls` rounds to.
    """

    limits: Limits = field(default_factory=Limits)
    """What the car can do; controls are clipped to it step by step."""
    rounded: bool = False
    """Whether applied controls are rounded; not where a gradient is wanted, it is zero then."""

    def first(self, start: Start) -> tuple[float | Array, ...]:
        """At the origin of the scene frame with the start's speed and curvature."""
        motion = motion_of(start)
        return (0.0, 0.0, 0.0, motion.speed, present_curvature(motion, self.limits))

    def step(self, state: Vehicle, control: Float[Array, "U K"]) -> tuple[Vehicle, Float[Array, "U K"]]:
        """The state one step later, and the control that the car can drive."""
        x, y, yaw, speed, before = state
        speed_next, accel, curvature = drivable(speed, before, control[0], control[1], self.limits)
        if self.rounded:
            accel = jnp.round(accel / ACCEL_GRID_MPS2) * ACCEL_GRID_MPS2
            curvature = jnp.round(curvature / CURVATURE_GRID_PM) * CURVATURE_GRID_PM
            speed_next = jnp.maximum(speed + accel * STEP_S, 0.0)
        # Braking that reaches standstill within the step covers v^2 / (2 |a|), not the mean speed's distance.
        stops = speed + accel * STEP_S < 0.0
        braking = jnp.where(stops, -accel, 1.0)
        distance = jnp.where(stops, 0.5 * speed**2 / braking, 0.5 * (speed + speed_next) * STEP_S)
        half = 0.5 * curvature * distance
        # sin(half) / half to the seventh order: exact in float32 for the turns that a car can take in a step.
        square = half**2
        chord = distance * (1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0)))
        middle = yaw + half
        x, y = x + chord * jnp.cos(middle), y + chord * jnp.sin(middle)
        return (x, y, yaw + 2.0 * half, speed_next, curvature), jnp.stack([accel, curvature])
