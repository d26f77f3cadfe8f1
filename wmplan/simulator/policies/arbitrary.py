"""Random choices: drawn anew at each step, or changing smoothly."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wmplan.simulator import noise
from wmplan.simulator.choices import log_volume, to_actions, to_choices
from wmplan.simulator.policies.protocol import Situation

BLOCK_STEPS = 10
"""Between two independent values of a smooth choice."""


@jax.tree_util.register_static
@dataclass(frozen=True)
class Uniform:
    """Each choice is as likely as any other, at each step anew."""

    @property
    def deterministic(self) -> bool:
        """It is not."""
        return False

    def act(self, situation: Situation, key: Array) -> Float[Array, "B 2"]:
        """A uniform choice."""
        choices = jax.random.uniform(key, (*situation.worlds.steps.shape, 2), minval=-1.0, maxval=1.0)
        return to_actions(situation.network, situation.worlds, choices)

    def log_density(self, situation: Situation, actions: Float[Array, "B 2"]) -> Float[Array, "B"]:
        """A quarter for each unit of choices, and none elsewhere."""
        choices = to_choices(situation.network, situation.worlds, actions)
        inside = jnp.all(jnp.abs(choices) <= 1.0 + 1e-4, axis=-1)
        density = -jnp.log(4.0) - log_volume(situation.network, situation.worlds)
        return jnp.where(inside, density, -jnp.inf)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Wandering:
    """Choices that go smoothly from one random value to the next. They follow from the world's seed and its step, so
    that there is nothing to remember; a density given the situation there is not."""

    size: float = 0.8

    @property
    def deterministic(self) -> bool:
        """Of the world it is: another world, other values."""
        return True

    def act(self, situation: Situation, key: Array) -> Float[Array, "B 2"]:
        """The value between two blocks' values, by a cubic without slope at both."""
        steps, seed = situation.worlds.steps, situation.worlds.seed[:, 0]
        block, share = steps // BLOCK_STEPS, (steps % BLOCK_STEPS) / BLOCK_STEPS
        share = (share**2 * (3.0 - 2.0 * share))[:, None]

        def value(block: Array) -> Array:
            bits = [noise.mix(seed ^ noise.mix((2 * block + i).astype(jnp.uint32))) for i in range(2)]
            return jnp.stack(bits, axis=-1).astype(jnp.float32) / 2.0**31 - 1.0

        choices = self.size * ((1.0 - share) * value(block) + share * value(block + 1))
        return to_actions(situation.network, situation.worlds, choices)
