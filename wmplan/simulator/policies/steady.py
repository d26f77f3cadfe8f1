"""Who does not look at the traffic: straight on, or along the lane."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wmplan.simulator.choices import to_actions
from wmplan.simulator.policies.protocol import Situation


@jax.tree_util.register_static
@dataclass(frozen=True)
class ConstantVelocity:
    """Keeps its speed; straight on, or in its lane (`in_lane`), whatever is ahead."""

    in_lane: bool = False

    @property
    def deterministic(self) -> bool:
        """It is."""
        return True

    def act(self, situation: Situation, key: Array) -> Float[Array, "B 2"]:
        """No acceleration."""
        none = jnp.zeros((*situation.worlds.steps.shape, 2))
        return to_actions(situation.network, situation.worlds, none) if self.in_lane else none
