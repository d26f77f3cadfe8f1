"""What could be foreseen of a reaction: the road itself, asked by somebody who does not know the drivers.

How soon and how hard somebody brakes depends on parameters that no scene shows and on noise that nobody knows. The same
scene goes on with the drivers drawn anew, from the very law that they came from; the mean over such draws is about the
best that a model could imagine. It stands between the ceiling, which knows the drivers, and every model.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Array

from wmplan.contracts import Imagined
from wmplan.simulator import drivers
from wmplan.simulator.live import LiveScene
from wmplan.validation.interventions import Probed, act

DRAWS = 4


def foreseen(probed: Probed, alive: LiveScene, draws: int = DRAWS) -> Imagined:
    """The probe's plans among drivers drawn anew, a sample for each draw.

    Raises:
        InputError: plans beyond the bicycle's bounds.
    """
    acted = probed.acted
    samples = [act(redrawn(alive, i), acted.plans, acted.grid).imagined() for i in range(draws)]
    occupancy, velocity, latents = (
        torch.cat([getattr(one, name) for one in samples], dim=1) for name in ("occupancy", "velocity", "latents")
    )
    return Imagined(occupancy, velocity, latents, acted.grid)


def redrawn(alive: LiveScene, draw: int) -> LiveScene:
    """The scene with other drivers and other noise for everybody but the ego; what can be seen is the same."""
    state = alive.state
    others = jnp.arange(len(state.kind)) > 0
    other = np.uint32(0x9E3779B9 * (draw + 1) % 2**32)
    seed = jnp.where(others, state.seed + other, state.seed)
    fresh = jax.vmap(_one_driver)(seed, state.kind)
    own = jax.tree.map(lambda old, new: jnp.where(others, new.astype(old.dtype), old), state.drivers, fresh)
    noise = jnp.where(others, 0.0, state.noise).astype(state.noise.dtype)
    return replace(alive, state=state._replace(drivers=own, seed=seed, noise=noise))


def _one_driver(seed: Array, kind: Array) -> drivers.Drivers:
    return jax.tree.map(lambda leaf: leaf[0], drivers.draw(seed, kind[None]))
