"""What really happens when candidates are executed: one state, K candidates, the same drivers' noise for all.

The seam of the evaluation: no critic and no planner may import it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from wmplan import bicycle
from wmplan.errors import InputError
from wmplan.simulator.executed import Executed
from wmplan.simulator.network import Network
from wmplan.simulator.state import State
from wmplan.simulator.traffic import Moment, rollout


def execute(network: Network, state: State, controls: np.ndarray) -> Executed:
    """The K candidates executed from one state: controls [K, T, 2] are acceleration (m/s2) and curvature (1/m) every
    `STEP_S`.

    Raises:
        InputError: controls that are not finite, or beyond the bicycle's bounds.
    """
    controls = np.asarray(controls, dtype=np.float32)
    if controls.ndim != 3 or controls.shape[2] != 2 or not controls.shape[1]:
        raise InputError(f"controls: shape {controls.shape}, expected (K, T, 2) with T of 1 or more")
    bad = np.argwhere(~np.isfinite(controls))
    if len(bad):
        k, t, u = (int(i) for i in bad[0])
        raise InputError(f"controls[{k}, {t}, {u}]: {controls[k, t, u]}, expected a finite number")
    for u, (name, bound) in enumerate(
        (("acceleration", bicycle.MAX_ACCEL_MPS2), ("curvature", bicycle.MAX_CURVATURE_PM))
    ):
        far = np.argwhere(np.abs(controls[..., u]) > bound * (1.0 + 1e-6))
        if len(far):
            k, t = (int(i) for i in far[0])
            raise InputError(f"controls[{k}, {t}]: {name} {controls[k, t, u]:g}, expected at most {bound:g}")
    return _execute(network, state, jnp.asarray(controls))


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
