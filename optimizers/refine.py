"""Finalists moved downhill: a few gradient steps through rollout and cost, kept only where the cost falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from optimizers.rollout import Rolled, Rollout, StageCost, WholeCost, roll
from optimizers.settings import require
from wmplan.risk import Risk

DECAY_1, DECAY_2, TINY = 0.9, 0.999, 1e-8
"""Adam's own constants."""


@dataclass(frozen=True)
class Refine:
    """Settings of `refined`."""

    steps: int = 20
    """Gradient steps; each costs about three rollouts of three candidates."""
    rate: float = 0.05
    """Largest change of a control in a step, in standard deviations of the first candidates."""

    def __post_init__(self) -> None:
        require("Refine", "steps", self.steps, self.steps >= 1, "1 or more")
        require("Refine", "rate", self.rate, self.rate > 0.0, "a positive number")


def refined(
    config: Refine, rollout: Rollout, cost: StageCost | WholeCost, risk: Risk, first: tuple[Array, ...], scene: Any,
    rolled: Rolled, std: Float[Array, "T U"],
) -> Rolled:  # fmt: skip
    """The candidates after projected Adam steps, each at the cheapest point it passed, so never dearer than before.

    Controls are moved in units of `std` and projected by the vehicle's own bounds after every step. A gradient that is
    not finite counts as zero.

    References:
        Kingma and Ba (2015), "Adam: a method for stochastic optimization", Algorithm 1.
    """

    def price(controls: Float[Array, "T U K"]) -> tuple[Array, Rolled]:
        after = roll(rollout, cost, risk, first, scene, controls, keep_states=True)
        # Candidates do not see each other, so the gradient of the sum holds each one's own.
        return jnp.where(jnp.isfinite(after.costs), after.costs, 0.0).sum(), after

    scale = std[:, :, None]
    slope = jax.value_and_grad(price, has_aux=True)

    def step(i: Array, carry: tuple[Array, Array, Array, Rolled]) -> tuple[Array, Array, Array, Rolled]:
        controls, momentum, power, best = carry
        (_, here), gradient = slope(controls)
        best = _cheaper(here, best)
        gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0) * scale
        momentum = DECAY_1 * momentum + (1.0 - DECAY_1) * gradient
        power = DECAY_2 * power + (1.0 - DECAY_2) * gradient**2
        count = (i + 1).astype(jnp.float32)
        ahead = momentum / (1.0 - DECAY_1**count)
        size = jnp.sqrt(power / (1.0 - DECAY_2**count)) + TINY
        return here.controls - config.rate * scale * ahead / size, momentum, power, best

    zero = jnp.zeros_like(rolled.controls)
    controls, _, _, best = jax.lax.fori_loop(0, config.steps, step, (rolled.controls, zero, zero, rolled))
    return _cheaper(price(controls)[1], best)


def _cheaper(a: Rolled, b: Rolled) -> Rolled:
    """Of each candidate the cheaper version, `b` where they tie."""
    falls = a.costs < b.costs
    return jax.tree.map(lambda x, y: jnp.where(falls.reshape(*[1] * (x.ndim - 1), -1), x, y), a, b)
