"""A policy that decides now and then and holds what it decided, as the simulator's logged mixture does."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wmplan import bicycle
from wmplan.simulator.choices import to_actions, to_choices
from wmplan.simulator.policies.graded import IDM
from wmplan.simulator.policies.mixture import ACCEL_MPS2, ASIDE_MPS2, HOLD_STEPS
from wmplan.simulator.policies.protocol import Situation, WithDensity
from wmplan.simulator.policies.shaky import Shaky


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Held:
    """`policy`, deciding at every `steps`-th step of a drive. In between the acceleration is held as it is and the
    curvature as its difference from the arc back to the middle of the lane (`wmplan.simulator.choices`). Densities are
    those of decisions: there are none in between."""

    policy: WithDensity
    steps: int = field(metadata={"static": True})

    @property
    def deterministic(self) -> bool:
        """As the policy."""
        return self.policy.deterministic

    def act(self, situation: Situation, key: Array) -> Float[Array, "B 2"]:
        """A decision; who drives holds it (`going_on`)."""
        return self.policy.act(situation, key)

    def log_density(self, situation: Situation, actions: Float[Array, "B 2"]) -> Float[Array, "B"]:
        """Of decisions."""
        return self.policy.log_density(situation, actions)


HELD = {
    f"held_{name.removeprefix('idm_')}": Held(Shaky(driver, ACCEL_MPS2, ASIDE_MPS2), HOLD_STEPS)
    for name, driver in IDM.items()
    if driver.lanes
}
"""IDM drivers with the noise, the rhythm and the observation of the logged mixture; four of them are its members. What
the logs say of others by weights may be little, and is then refused."""


def rhythm_of(policy: object) -> int:
    """Steps from one decision to the next."""
    return policy.steps if isinstance(policy, Held) else 1


def going_on(
    situation: Situation, fresh: Float[Array, "B 2"], held: Float[Array, "B 2"], decides: Array
) -> tuple[Float[Array, "B 2"], Float[Array, "B 2"]]:
    """The actions of rows that take a fresh decision where `decides` and hold the last one elsewhere, and what is held
    then (choices)."""
    bound = jnp.array([[bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM]])
    held = jnp.where(decides, to_choices(situation.network, situation.worlds, fresh), held)
    kept = jnp.clip(to_actions(situation.network, situation.worlds, held), -bound, bound)
    return jnp.where(decides, fresh, kept), held
