"""The network of the family `jump`: a few frames at once, then on from its own output.

A jump regresses the frame at its end, anchored on constant velocity from its beginning. The frames between are the
particles on the way there at the jump's mean acceleration: occupancy that is advected by its velocity. Fewer steps of
its own than `ar`, so fewer errors to feed back, and fewer passes; but what the ego does within a jump is seen from the
jump's first frame on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmplan.contracts import IMAGINED_STEP_S, LANE_DIRECTION
from wmplan.models.particles import render, seed
from wmplan.models.presets import Preset
from wmplan.models.regression import Trunk, driven
from wmplan.models.rollout import State
from wmplan.models.tokenizer import Decoded, Decoder, SceneEncoder

WIDTH, LAYERS, HEADS = 192, 2, 6
"""Of the trunk, whatever the preset."""


@dataclass(frozen=True)
class Jumped:
    """A jump's frames, in order, and its last one in full, at which `state` stands."""

    state: State
    frames: tuple[Float[Tensor, "B 4 H W"], ...]
    end: Decoded


class JumpNetwork(nn.Module):
    """Scene encoder, trunk, and the tokenizer's decoder on the trunk's tokens; `span` frames a jump."""

    def __init__(self, preset: Preset, span: int) -> None:
        super().__init__()
        self.preset = replace(preset, width=WIDTH, layers=LAYERS, heads=HEADS, mlp=4 * WIDTH)
        self.span = span
        self.scene = SceneEncoder(self.preset)
        self.trunk = Trunk(self.preset, span)
        self.decoder = Decoder(self.preset, WIDTH)

    def begin(self, static: Float[Tensor, "B C H W"], history: Float[Tensor, "B T 5 H W"]) -> State:
        """The state at t0 of each scene."""
        past = tuple(self.trunk.remember(frame[:, :4]) for frame in history[:, -self.preset.history :].unbind(1))
        particles = seed(history, self.preset.grid, self.preset.max_particles, static[:, LANE_DIRECTION])
        return State(self.scene(static, history), particles, past, 0)

    def frames(
        self, state: State, footprints: Float[Tensor, "B steps H W"], states: Float[Tensor, "B steps 4"]
    ) -> Float[Tensor, "B T 4 H W"]:
        """Occupancy and velocity at each step after t0; footprints and states (x, y, yaw, v) of the ego start there.
        The number of steps is a multiple of the span."""
        found: list[Tensor] = []
        for first in range(0, states.shape[1] - 1, self.span):
            here = slice(first, first + self.span + 1)
            jumped = self.jump(state, footprints[:, here], states[:, here])
            state = jumped.state
            found += jumped.frames
        return torch.stack(found, dim=1)

    def jump(
        self, state: State, footprints: Float[Tensor, "B steps H W"], states: Float[Tensor, "B steps 4"]
    ) -> Jumped:
        """One jump on from the state, given the ego's footprints and states at its `span + 1` steps."""
        span, particles, grid = self.span, state.particles, self.preset.grid
        tokens = self.trunk(state, render(particles.moved(span * IMAGINED_STEP_S), grid), footprints, states)
        field = self.decoder.field(tokens, state.scene)
        accel, turn = self.decoder.steering(field, particles, state.scene, state.age, _mean_step(states))
        between = [render(driven(particles, accel, turn, step), grid) for step in range(1, span)]
        moved = driven(particles, accel, turn, span)
        end = self.decoder.drawn(field, moved)
        frames = (*between, end.frame)
        past = (*state.past, *map(self.trunk.remember, frames))[-self.preset.history :]
        return Jumped(State(state.scene, moved, past, state.age + span), frames, end)


def _mean_step(states: Float[Tensor, "B steps 4"]) -> Float[Tensor, "B 2 4"]:
    """The ego at the start of a path, and where it would be a step later at the path's mean rate of change."""
    first, change = states[:, 0], states[:, -1] - states[:, 0]
    turn = torch.atan2(torch.sin(change[:, 2]), torch.cos(change[:, 2]))
    change = torch.cat([change[:, :2], turn[:, None], change[:, 3:]], dim=1)
    return torch.stack([first, first + change / (states.shape[1] - 1)], dim=1)
