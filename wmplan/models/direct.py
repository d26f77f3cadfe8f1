"""The network of the family `direct`: every future frame in one pass from the present.

Each frame is a regression of its own: the present replicated, the constant-velocity forecast of that time as its
anchor, and the ego's path until then. No frame sees another, so no error is passed on, and none sees what the ego does
after it. What is open is averaged out: there is one future, the middle one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmplan.contracts import IMAGINED_STEP_S, LANE_DIRECTION
from wmplan.models.particles import Particles, render, seed
from wmplan.models.presets import Preset
from wmplan.models.regression import Trunk, driven
from wmplan.models.rollout import State
from wmplan.models.tokenizer import Decoded, Decoder, SceneEncoder


class DirectNetwork(nn.Module):
    """Scene encoder, trunk, and the tokenizer's decoder on the trunk's tokens; `horizon` frames at most."""

    def __init__(self, preset: Preset, horizon: int) -> None:
        super().__init__()
        self.preset, self.horizon = preset, horizon
        self.scene = SceneEncoder(preset)
        self.trunk = Trunk(preset, horizon)
        self.decoder = Decoder(preset, preset.width)

    def begin(self, static: Float[Tensor, "B C H W"], history: Float[Tensor, "B T 5 H W"]) -> State:
        """The state at t0 of each scene."""
        past = tuple(self.trunk.remember(frame[:, :4]) for frame in history[:, -self.preset.history :].unbind(1))
        particles = seed(history, self.preset.grid, self.preset.max_particles, static[:, LANE_DIRECTION])
        return State(self.scene(static, history), particles, past, 0)

    def frames(
        self, state: State, footprints: Float[Tensor, "B steps H W"], states: Float[Tensor, "B steps 4"]
    ) -> Float[Tensor, "B T 4 H W"]:
        """Occupancy and velocity at each step after t0; footprints and states (x, y, yaw, v) of the ego start there."""
        count = states.shape[1] - 1
        return torch.stack([self.frame(state, footprints, states, t)[1].frame for t in range(count)], dim=1)

    def frame(
        self, state: State, footprints: Float[Tensor, "B steps H W"], states: Float[Tensor, "B steps 4"], t: int
    ) -> tuple[Particles, Decoded]:
        """The particles and the frame `t + 1` steps after t0."""
        seeds = state.particles
        anchor = render(seeds.moved((t + 1) * IMAGINED_STEP_S), self.preset.grid)
        tokens = self.trunk(state, anchor, footprints[:, : t + 2], states[:, : t + 2])
        field = self.decoder.field(tokens, state.scene)
        # Where the anchor has the particles as the frame's last step begins: there the field is read, and the ego met.
        before = seeds.moved(t * IMAGINED_STEP_S)
        accel, turn = self.decoder.steering(field, before, state.scene, t, states[:, t : t + 2])
        moved = driven(seeds, accel, turn, t + 1)
        return moved, self.decoder.drawn(field, moved)
