"""What `jump` minimises: single jumps from true frames, then chains of jumps from its own output.

The loss is a mean squared error twice: of the occupancy at the jump's end, and of the residual, which is where the
particles stand beside where the log carried them. Squared errors ask for the mean future. Where the batch holds two
actions of the ego in one scene, what they change is compared as in `ar`. Logs are drawn in proportion to the square
root of how much moves in them.

References:
    `reference/world_models.md` 4.3.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import RASTER_HISTORY, Grid
from wmplan.models.jump import JumpNetwork
from wmplan.models.particles import Particles
from wmplan.models.training.data import Batch, Examples
from wmplan.models.training.losses import inside, particle_targets, reaction_loss
from wmplan.models.training.settings import Settings

STAGES = ("jump", "chain")
SHARES = (0.3, 0.7)
RESIDUAL_SCALE_M = 2.0
"""A residual that is off by this counts 1; the frame's error of a scene that is all wrong, about 2."""
FAR_M = 20.0
"""Residuals count as if they were off by this at most: further, the box of the log has taken another's name."""
STILL_M = 0.5
"""Added to the motion of every scene, so that still ones are drawn at times."""


def jump_loss(
    stage: str,
    network: JumpNetwork,
    batch: Batch,
    settings: Settings,
    horizon: int,
    first: int,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """The mean loss of the jumps' ends: one jump from about future frame `first` on, or a chain of them from t0."""
    span = network.span
    if stage == "jump":
        first, count = min(first, batch.horizon - span), 1
    else:
        first, count = 0, max(1, horizon // span)
    now = RASTER_HISTORY - 1 + first
    state = network.begin(batch.static, batch.frames[:, first : now + 1])
    shown = slice(now, now + count * span + 1, span)
    place, told = particle_targets(state.particles.position, batch.states[:, shown], batch.sizes, batch.valid[:, shown])
    # Rows that share their past share their particles, one for one: only those compare what the ego did.
    scenes = torch.arange(len(batch.static)) if first else batch.scenes
    total = torch.zeros(())
    for n in range(count):
        path = slice(first + n * span, first + (n + 1) * span + 1)
        jumped = network.jump(state, batch.footprints[:, path], batch.ego[:, path])
        state = jumped.state
        loss = frame_error(jumped.end.occupancy, batch.frames[:, now + (n + 1) * span])
        there, known, grid = place[:, n + 1], told[:, n + 1], network.preset.grid
        loss = loss + settings.place_weight * residual_error(state.particles, there, known, grid)
        reaction = reaction_loss(state.particles.position, there, known, scenes, grid)
        total = total + (loss + settings.reaction_weight * reaction) / count
    return total


def frame_error(occupancy: Float[Tensor, "B 2 H W"], truth: Float[Tensor, "B 5 H W"]) -> Float[Tensor, ""]:
    """Squared error of the occupancy on the observed cells, by what is occupied; mean over the scenes."""
    error = (occupancy - truth[:, :2]).square() * truth[:, 4:]
    return (error.sum((1, 2, 3)) / (truth[:, :2].sum((1, 2, 3)) + 20.0)).mean()


def residual_error(
    particles: Particles, place: Float[Tensor, "B N 2"], told: Bool[Tensor, "B N"], grid: Grid
) -> Float[Tensor, ""]:
    """Squared distance, in `RESIDUAL_SCALE_M`, between particles and where their boxes carried them, mass-weighted.

    Both stand on the same anchor, so it is the squared error of the residual. Particles that leave the window are not
    asked for.
    """
    weight = particles.mass.amax(-1) * (told & inside(place, grid))
    error = (particles.position - place).square().sum(-1).clamp(max=FAR_M**2) / RESIDUAL_SCALE_M**2
    return (weight * error).sum() / weight.sum().clamp(min=1.0)


def motion_weights(examples: Examples) -> Float[ndarray, "S"]:
    """The square root of how far, on average, the road users of each example come over its whole future, metres."""
    now = RASTER_HISTORY - 1
    seen = examples.valid[:, now] & examples.valid[:, -1]
    way = np.hypot(*np.moveaxis(examples.states[:, -1, :, :2] - examples.states[:, now, :, :2], -1, 0))
    return np.sqrt((way * seen).sum(1) / np.maximum(seen.sum(1), 1) + STILL_M)
