"""An IDM driver with unsteady hands and foot: Gaussian noise at each step, on bounded actions, with its density."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.stats import truncnorm
from jaxtyping import Array, Float

from wmplan import bicycle
from wmplan.simulator.policies.following import Following
from wmplan.simulator.policies.protocol import Situation

MOST_PM = 0.05
"""Standard deviation of the curvature at walking pace, at most, 1/m."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shaky:
    """`driver`, with noise of `accel` (m/s2) along and `aside` (m/s2) across, both standard deviations, drawn anew at
    each step from normal laws that are cut off at the bicycle's bounds."""

    driver: Following
    accel: float | Array
    aside: float | Array

    @property
    def deterministic(self) -> bool:
        """It is not."""
        return False

    def act(self, situation: Situation, key: Array) -> Float[Array, "B 2"]:
        """What the driver does, shaken."""
        middle, spread, bound = self._normal(situation, key)
        low, high = (-bound - middle) / spread, (bound - middle) / spread
        return middle + spread * jax.random.truncated_normal(key, low, high, middle.shape)

    def log_density(self, situation: Situation, actions: Float[Array, "B 2"]) -> Float[Array, "B"]:
        """Of the cut normal laws."""
        middle, spread, bound = self._normal(situation, jax.random.key(0))
        low, high = (-bound - middle) / spread, (bound - middle) / spread
        return jnp.sum(truncnorm.logpdf(actions, low, high, middle, spread), axis=-1)

    def _normal(self, situation: Situation, key: Array) -> tuple[Array, Array, Array]:
        middle = self.driver.act(situation, key)
        speed = jnp.maximum(situation.worlds.speed[:, 0], 1.0)
        aside = jnp.minimum(self.aside / speed**2, MOST_PM)
        spread = jnp.stack([jnp.broadcast_to(self.accel, aside.shape), aside], axis=-1)
        bound = jnp.array([[bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM]])
        return middle, spread, bound
