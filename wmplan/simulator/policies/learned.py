"""A policy that a network decides: normal in what is unbounded, squashed by tanh into choices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from wmplan.simulator.choices import log_volume, to_actions, to_choices
from wmplan.simulator.policies.protocol import Situation

LEAST_STD = 1e-3
"""Added to the softplus of what the network says, as brax's distribution does."""
EDGE = 1.0 - 1e-6
"""Choices nearer to -1 or 1 are taken for this, where single precision cannot tell them apart any more."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learned:
    """Sees `Situation.seen`, normalised by `mean` and `std`; dense layers with swish between them give the mean and the
    spread of two choices. `greedy`: the mean instead of a draw; there is no density then."""

    mean: Float[Array | ndarray, "O"]
    std: Float[Array | ndarray, "O"]
    kernels: tuple[Float[Array | ndarray, "_I _J"], ...]
    biases: tuple[Float[Array | ndarray, "_J"], ...]
    greedy: Float[Array | ndarray, ""]

    @property
    def deterministic(self) -> bool:
        """Whether it is greedy; False in compiled code, which does not know (a check of types asks there)."""
        return not isinstance(self.greedy, jax.core.Tracer) and bool(self.greedy)

    def act(self, situation: Situation, key: Array) -> Float[Array, "B 2"]:
        """A draw, or the mode."""
        middle, spread = self._normal(situation)
        noise = jax.random.normal(key, middle.shape)
        choices = jnp.tanh(middle + (1.0 - self.greedy) * spread * noise)
        return to_actions(situation.network, situation.worlds, choices)

    def log_density(self, situation: Situation, actions: Float[Array, "B 2"]) -> Float[Array, "B"]:
        """Of the draw, also for the greedy twin."""
        middle, spread = self._normal(situation)
        choices = to_choices(situation.network, situation.worlds, actions)
        inside = jnp.all(jnp.abs(choices) <= 1.0 + 1e-4, axis=-1)
        choices = jnp.clip(choices, -EDGE, EDGE)
        share = (jnp.arctanh(choices) - middle) / spread
        each = -0.5 * share**2 - jnp.log(spread) - 0.5 * jnp.log(2.0 * jnp.pi) - jnp.log1p(-(choices**2))
        density = jnp.sum(each, axis=-1) - log_volume(situation.network, situation.worlds)
        return jnp.where(inside, density, -jnp.inf)

    def most_likely(self) -> Learned:
        """The same network, without the draw."""
        return replace(self, greedy=np.ones((), np.float32))

    def _normal(self, situation: Situation) -> tuple[Float[Array, "B 2"], Float[Array, "B 2"]]:
        x = (situation.seen - self.mean[None]) / self.std[None]
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1]):
            x = jax.nn.swish(x @ kernel + bias[None])
        out = x @ self.kernels[-1] + self.biases[-1][None]
        return out[:, :2], jax.nn.softplus(out[:, 2:]) + LEAST_STD
