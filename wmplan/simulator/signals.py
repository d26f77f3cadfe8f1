"""Traffic lights of a network as a function of time."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from wmplan.scene import Light
from wmplan.simulator.network import Network


def light_states(network: Network, time: Float[Array, ""]) -> Int[Array, "G"]:
    """The state of every light group (values of `Light`) at this time in seconds."""
    since = jnp.mod(time - network.start, network.cycle)
    amber = since < network.green + network.yellow
    return jnp.where(since < network.green, int(Light.GREEN), jnp.where(amber, int(Light.YELLOW), int(Light.RED)))
