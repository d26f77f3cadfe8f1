"""What methods that ask only once have in common: the cheapest candidate that they were told of is the plan."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from optimizers.limits import Limits
from optimizers.motion import Motion, motion_of
from wmplan import bridge
from wmplan.contracts import Proposal
from wmplan.plans import Start


class OnceState(NamedTuple):
    """The start, and the cheapest candidate so far."""

    motion: Motion
    best: Float[Array, "T U"]
    best_cost: Float[Array, ""]


class Once:
    """An optimizer of one round, but for `name`, `digest` and `ask`."""

    rounds = 1

    def __init__(self, candidates: int, horizon_steps: int, limits: Limits) -> None:
        self.candidates = candidates
        self.horizon_steps = horizon_steps
        self._hardest_mps2 = limits.min_accel_mps2

    def init(self, key: int, start: Start) -> OnceState:
        """The state before the only round; the key is not used."""
        brake = jnp.zeros((self.horizon_steps, 2)).at[:, 0].set(self._hardest_mps2)
        return OnceState(motion_of(start), brake, jnp.float32(jnp.inf))

    def tell(self, state: OnceState, controls: Float[ndarray, "K T 2"], costs: Float[ndarray, "K"]) -> OnceState:
        """The state that knows the cheapest candidate."""
        return _tell(state, bridge.controls_to_jax(controls), bridge.costs_to_jax(costs))

    def finalists(self, state: OnceState) -> Proposal:
        """The cheapest candidate; the emergency brake where none had a finite cost."""
        return Proposal(bridge.controls_to_numpy(state.best[:, :, None]), np.zeros(1, np.int32), ("best",))


@jax.jit
def _tell(state: OnceState, controls: Float[Array, "T U K"], costs: Float[Array, "K"]) -> OnceState:
    costs = jnp.where(jnp.isfinite(costs) & jnp.isfinite(controls).all(axis=(0, 1)), costs, jnp.inf)
    row = jnp.argmin(costs)
    better = costs[row] < state.best_cost
    return state._replace(
        best=jnp.where(better, controls[:, :, row], state.best),
        best_cost=jnp.where(better, costs[row], state.best_cost),
    )
