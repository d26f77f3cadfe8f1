"""What the families `direct` and `jump` share: one forward pass to a frame several steps ahead, residual on the anchor.

No sample is drawn and no code: the trunk's tokens go to the tokenizer's decoder as they are. The decoder says how each
particle accelerates and turns on average until the frame, and what comes and goes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wmplan.contracts import IMAGINED_STEP_S
from wmplan.models.dynamics import Block, Fourier
from wmplan.models.particles import Particles
from wmplan.models.presets import Preset
from wmplan.models.rollout import State, ego_steps
from wmplan.models.tokenizer import patches, scaled


@runtime_checkable
class RegressionNetwork(Protocol):
    """A network whose forecast is a function of the scene and of the ego's path alone."""

    preset: Preset

    def begin(self, static: Float[Tensor, "B C H W"], history: Float[Tensor, "B T 5 H W"]) -> State:
        """The state at t0 of each scene."""
        ...

    def frames(
        self, state: State, footprints: Float[Tensor, "B steps H W"], states: Float[Tensor, "B steps 4"]
    ) -> Float[Tensor, "B T 4 H W"]:
        """Occupancy and velocity at each step after t0; footprints and states (x, y, yaw, v) of the ego start there."""
        ...


class Trunk(nn.Module):
    """Tokens of what is known, mixed under the ego's action: the present and past, the anchor to be corrected, and the
    ego's footprints at all steps until then."""

    def __init__(self, preset: Preset, steps: int) -> None:
        super().__init__()
        self.preset, self.steps = preset, steps
        width, area = preset.width, preset.patch**2
        self.embed_frame = nn.Linear(4 * area, width)
        self.embed_anchor = nn.Linear(4 * area, width)
        self.embed_ego = nn.Linear((steps + 1) * area, width)
        self.embed_past = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(preset.history - 1))
        self.place = nn.Parameter(0.02 * torch.randn(1, preset.side[0] * preset.side[1], width))
        self.whole = Fourier(width)
        self.last = Fourier(width)
        self.ahead = nn.Parameter(0.02 * torch.randn(steps, width))
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.ego_token = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(preset) for _ in range(preset.layers))
        self.norm = nn.LayerNorm(width)

    def remember(self, frame: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B S D"]:
        """A frame as the tokens that history keeps of it."""
        return self.embed_frame(patches(scaled(frame), self.preset.patch))

    def forward(
        self,
        state: State,
        anchor: Float[Tensor, "B 4 H W"],
        footprints: Float[Tensor, "B steps H W"],
        states: Float[Tensor, "B steps 4"],
    ) -> Float[Tensor, "B S D"]:
        """Tokens of the frame at the end of the ego's path, which has from 1 to `steps` steps."""
        ahead = states.shape[1] - 1
        later = footprints.new_zeros(len(footprints), self.steps - ahead, *footprints.shape[2:])
        tokens = state.scene.tokens + state.past[-1] + self.place
        tokens = tokens + self.embed_anchor(patches(scaled(anchor), self.preset.patch))
        tokens = tokens + self.embed_ego(patches(torch.cat([footprints, later], dim=1), self.preset.patch))
        for back, embed in enumerate(self.embed_past, start=2):
            if back <= len(state.past):
                tokens = tokens + embed(state.past[-back])
        whole, last = ego_steps(states[:, [0, ahead]])[:, 0], ego_steps(states[:, -2:])[:, 0]
        condition = self.condition(self.whole(whole) + self.last(last) + self.ahead[ahead - 1])
        tokens = torch.cat([tokens, self.ego_token(condition)[:, None]], dim=1)
        for block in self.blocks:
            tokens = block(tokens, condition)
        return self.norm(tokens[:, :-1])


def driven(particles: Particles, accel: Float[Tensor, "B N 2"], turn: Float[Tensor, "B N"], steps: int) -> Particles:
    """The particles after so many steps at this acceleration (m/s2) and rotation (rad/s): what `Particles.steered`
    leads to when it is repeated. Zero controls give the one-shot constant-velocity forecast, to the bit."""
    seconds = steps * IMAGINED_STEP_S
    angle = seconds * turn
    c, s = torch.cos(angle) - 1.0, torch.sin(angle)
    x, y = particles.offset.unbind(-1)
    swing = torch.stack([c * x - s * y, s * x + c * y], dim=-1)
    mean = particles.velocity + (0.5 * (1.0 + 1.0 / steps) * seconds) * accel
    return replace(
        particles,
        position=particles.position + seconds * mean + swing,
        velocity=particles.velocity + seconds * accel,
        offset=particles.offset + swing,
    )
