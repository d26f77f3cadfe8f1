"""What a learning ego chooses, two numbers in [-1, 1], and the action that this is: acceleration and curvature.

The curvature is that of the arc back to the middle of the lane plus what was chosen. Without a choice the car keeps its
lane; with a constant one it drives beside the middle, so far at most that it changes to the next lane. In a given world
the map is affine, so densities of choices are densities of actions but for a factor.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wmplan.simulator.network import Network
from wmplan.simulator.state import State
from wmplan.simulator.traffic import pose

ACCEL_MPS2 = 4.0
"""Acceleration and deceleration of a full choice; inside the bicycle's bounds, so that nothing is clipped later."""
PURSUIT_S, PURSUIT_RANGE_M = 1.2, (4.0, 30.0)
"""How far ahead the arc meets the middle of the lane."""
ASIDE_MPS2 = 3.5
"""Lateral acceleration of a full choice; at equilibrium half of it times `PURSUIT_S` squared (2.5 m) to the side."""
MOST_PURSUIT_PM, MOST_ASIDE_PM = 0.2, 0.1
"""Bounds of the two parts of the curvature, together the bicycle's."""


def to_actions(network: Network, worlds: State, choices: Float[Array, "B 2"]) -> Float[Array, "B 2"]:
    """The egos' accelerations (m/s2) and curvatures (1/m) when they choose this."""
    middle, scale = _affine(network, worlds)
    return middle + scale * choices


def to_choices(network: Network, worlds: State, actions: Float[Array, "B 2"]) -> Float[Array, "B 2"]:
    """What was chosen, given the actions; beyond [-1, 1] where no choice leads there."""
    middle, scale = _affine(network, worlds)
    return (actions - middle) / scale


def log_volume(network: Network, worlds: State) -> Float[Array, "B"]:
    """The logarithm of the volume (m/s2 times 1/m) of actions that a unit volume of choices is."""
    return jnp.sum(jnp.log(_affine(network, worlds)[1]), axis=-1)


def _affine(network: Network, worlds: State) -> tuple[Float[Array, "B 2"], Float[Array, "B 2"]]:
    pursuit = jax.vmap(_pursuit, in_axes=(None, 0))(network, worlds)
    speed = jnp.maximum(worlds.speed[:, 0], 1.0)
    aside = jnp.minimum(ASIDE_MPS2 / speed**2, MOST_ASIDE_PM)
    return (
        jnp.stack([jnp.zeros(pursuit.shape), pursuit], axis=-1),
        jnp.stack([jnp.full(pursuit.shape, ACCEL_MPS2), aside], axis=-1),
    )


def _pursuit(network: Network, state: State) -> Float[Array, ""]:
    """The curvature (1/m) of the arc to the middle of the lane ahead.

    References:
        Coulter (1992), Implementation of the Pure Pursuit Path Tracking Algorithm.
    """
    ahead = jnp.clip(PURSUIT_S * state.speed[0], *PURSUIT_RANGE_M)
    zero = jnp.zeros(())
    x, y, _, _ = pose(network, state.road, state.route[0], state.s[0] + ahead, zero, zero)
    dx, dy = x - state.x[0], y - state.y[0]
    left = state.cos[0] * dy - state.sin[0] * dx
    return jnp.clip(2.0 * left / jnp.maximum(dx**2 + dy**2, 1.0), -MOST_PURSUIT_PM, MOST_PURSUIT_PM)
