"""The planning benchmark's task: a car on a straight road past two parked cars, its cost, and the float64 referee.

References:
    `docs/planner_benchmark.md` has the equations; they are those of the project's survey of planners.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from optimizers.rollout import StageCost
from wmplan.plans import Start

STEPS, STEP_S, WHEELBASE_M = 40, 0.1, 2.7
LOW, HIGH = np.array([-4.0, -0.35]), np.array([3.0, 0.35])
"""Bounds of acceleration (m/s2) and steering angle (rad); controls are clipped to them."""
STD = np.array([1.2, 0.08])
"""First standard deviation of both."""
CARS = ((26.0, -0.6, 2.2), (44.0, 1.8, 2.2))
"""Parked cars: x, y, radius in m."""
STARTS = {"A": (0.0, 0.2, 0.0, 8.0), "B": (12.0, -2.5, 0.15, 9.0), "C": (0.0, 0.0, 0.0, 12.0)}
"""x, y, heading, speed. A is the speed task; B can be passed on two sides; C comes fast."""


def stage(positive: Callable[[Any], Any], state: tuple[Any, ...], a: Any, delta: Any) -> Any:
    """Cost of one step, of NumPy, JAX or torch arrays; `positive` is max(0, .) of the library."""
    x, y, psi, v = state
    cost = 0.05 * (v - 10.0) ** 2 + 0.15 * y**2 + 0.5 * psi**2 + 0.02 * a**2 + 2.0 * delta**2
    for ox, oy, r in CARS:
        cost = cost + 30.0 * positive(1.0 - ((x - ox) ** 2 + (y - oy) ** 2) / r**2)
    return cost


def referee(start: tuple[float, ...], controls: Float[ndarray, "*K T 2"]) -> Float[ndarray, "*K"]:
    """What a plan really costs, in float64: the only judge of quality here, whatever a planner reports."""
    exact = np.clip(np.asarray(controls, dtype=np.float64), LOW, HIGH)
    x, y, psi, v = (np.full(exact.shape[:-2], value) for value in start)
    total = np.zeros(exact.shape[:-2])
    for t in range(STEPS):
        a, delta = exact[..., t, 0], exact[..., t, 1]
        x, y = x + STEP_S * v * np.cos(psi), y + STEP_S * v * np.sin(psi)
        psi, v = psi + STEP_S * v * np.tan(delta) / WHEELBASE_M, np.maximum(v + STEP_S * a, 0.0)
        total = total + stage(lambda z: np.maximum(z, 0.0), (x, y, psi, v), a, delta)
    return np.asarray(total)


@dataclass(frozen=True)
class Car:
    """The task's car for compiled plans: explicit Euler, right-hand sides at the old state."""

    def first(self, start: Start) -> tuple[float | Array, ...]:
        """On the reference line with the start's speed."""
        return (0.0, 0.0, 0.0, start.speed)

    def step(
        self, state: tuple[Array, ...], control: Float[Array, "U K"]
    ) -> tuple[tuple[Array, ...], Float[Array, "U K"]]:
        """The state one step later, and the controls within their bounds."""
        x, y, psi, v = state
        a, delta = jnp.clip(control[0], LOW[0], HIGH[0]), jnp.clip(control[1], LOW[1], HIGH[1])
        x, y = x + STEP_S * v * jnp.cos(psi), y + STEP_S * v * jnp.sin(psi)
        psi, v = psi + STEP_S * v * jnp.tan(delta) / WHEELBASE_M, jnp.maximum(v + STEP_S * a, 0.0)
        return (x, y, psi, v), jnp.stack([a, delta])


def _price(scene: Any, t: Array, state: tuple[Array, ...], control: Float[Array, "U K"]) -> Float[Array, "K"]:
    return stage(lambda z: jnp.maximum(z, 0.0), state, control[0], control[1])


COST = StageCost(_price)
"""The task's cost for compiled plans."""


def jax_costs(start: Float[Array, "4"], controls: Float[Array, "T 2 K"]) -> Float[Array, "K"]:
    """Costs of controls laid out `(T, 2, K)`, for the adapters of JAX libraries: one scan over time."""
    import jax

    car, k = Car(), controls.shape[2]

    def step(carry: tuple[tuple[Array, ...], Array], control: Array) -> tuple[tuple[tuple[Array, ...], Array], None]:
        state, applied = car.step(carry[0], control)
        return (state, carry[1] + _price(None, jnp.int32(0), state, applied)), None

    first = tuple(jnp.full(k, start[i]) for i in range(4))
    return jax.lax.scan(step, (first, jnp.zeros(k)), controls)[0][1]


def torch_step(state: tuple[Any, ...], a: Any, delta: Any) -> tuple[Any, ...]:
    """One step in torch, of controls that are within their bounds."""
    import torch

    x, y, psi, v = state
    return (
        x + STEP_S * v * torch.cos(psi),
        y + STEP_S * v * torch.sin(psi),
        psi + STEP_S * v * torch.tan(delta) / WHEELBASE_M,
        torch.clamp(v + STEP_S * a, min=0.0),
    )


def torch_costs(start: tuple[float, ...], controls: Any) -> Any:
    """Costs of controls `(K, T, 2)` in torch, for the adapters of torch libraries."""
    import torch

    k = controls.shape[0]
    state = tuple(torch.full((k,), value, dtype=controls.dtype) for value in start)
    accel = controls[:, :, 0].clamp(LOW[0], HIGH[0])
    steer = controls[:, :, 1].clamp(LOW[1], HIGH[1])
    total = torch.zeros(k, dtype=controls.dtype)
    for t in range(STEPS):
        state = torch_step(state, accel[:, t], steer[:, t])
        total = total + stage(lambda z: torch.clamp(z, min=0.0), state, accel[:, t], steer[:, t])
    return total
