"""What really happens when candidates are executed: one state, K candidates, the same drivers' noise for all.

The seam of the evaluation: no critic and no planner may import it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wmplan.simulator.controls import checked
from wmplan.simulator.executed import Executed
from wmplan.simulator.network import Network
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Moment, rollout


def execute(network: Network, state: State, controls: np.ndarray) -> Executed:
    """The K candidates executed from one state: controls [K, T, 2] are acceleration (m/s2) and curvature (1/m) every
    `STEP_S`.

    Raises:
        InputError: controls that `checked` refuses.
    """
    return _execute(network, state, jnp.asarray(checked(controls)))


@jax.jit
def _execute(network: Network, state: State, controls: Float[Array, "K T 2"]) -> Executed:
    worlds = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (controls.shape[0], *leaf.shape)), state)
    _, seen = rollout(network, worlds, controls)
    return executed(seen, state)


def executed(seen: Moment, state: State) -> Executed:
    """Moments of K worlds that began at one state, as what is judged."""
    return Executed(
        seen.x,
        seen.y,
        seen.cos,
        seen.sin,
        seen.speed,
        seen.active,
        state.length,
        state.width,
        state.kind,
        seen.route,
        seen.s,
        seen.lateral,
        seen.red,
    )
