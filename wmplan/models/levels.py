"""Rollouts of one scene, imagined step after imagined step: what each starts from, what it leaves to those below it."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from wmplan.models.particles import Particles
from wmplan.models.presets import Preset
from wmplan.models.rollout import State


class Levels:
    """The states of all rollouts after the last imagined step, and of those that are being imagined now.

    Only what differs between rollouts is kept, once for all that share it: the particles' motion of the step before,
    and the remembered frames of as many steps as the dynamics sees.
    """

    def __init__(self, root: State, preset: Preset) -> None:
        """Begins at the scene's own state (one row)."""
        self._base = root.expand(preset.chunk)
        self._preset = preset
        self._moved: list[Tensor] = []
        self._moving: list[Tensor] = []
        self._frames: list[Tensor] = []
        self._above: list[Tensor] = []
        self._age = -1

    def open(self, parents: Int[Tensor, "R"]) -> None:
        """Begins the next step, with one rollout for each of these rollouts of the step before."""
        self._age += 1
        self._above = [above[parents] for above in self._above] + ([parents] if self._age else [])
        self._moved = self._moving
        count, particles = len(parents), self._base.particles.position.shape[1]
        self._moving = [torch.empty(count, particles, 2) for _ in range(3)]
        self._frames.append(torch.empty(count, *self._base.past[0].shape[1:]))
        self._above = self._above[-self._preset.history :]
        self._frames = self._frames[-self._preset.history - 1 :]

    def state(self, rows: Int[Tensor, "B"]) -> State:
        """What these rollouts start from, as many as a pass has."""
        base = self._base
        if not self._age:
            return base
        parents = self._above[-1][rows]
        position, velocity, offset = (part[parents] for part in self._moved)
        particles = Particles(position, velocity, base.particles.mass, offset, base.particles.memory)
        # The last of the frames is this step's own, empty yet.
        seen = [frame[above[rows]] for frame, above in zip(self._frames[:-1], self._above, strict=True)]
        return State(base.scene, particles, (*base.past, *seen)[-self._preset.history :], self._age)

    def keep(self, rollouts: range, state: State) -> None:
        """Keeps where these rollouts have come to; a padded pass has more rows."""
        used, particles = slice(0, len(rollouts)), state.particles
        here = slice(rollouts.start, rollouts.stop)
        for kept, part in zip(self._moving, (particles.position, particles.velocity, particles.offset), strict=True):
            kept[here] = part[used]
        self._frames[-1][here] = state.past[-1][used]
