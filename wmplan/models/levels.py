"""Rollouts of one scene, imagined step after imagined step: what each starts from, what it leaves to those below it."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from wmplan.models.particles import Particles
from wmplan.models.presets import Preset
from wmplan.models.rollout import State
from wmplan.models.tokenizer import SceneFeatures


class Levels:
    """The states of all rollouts after the last imagined step, and of those that are being imagined now.

    Only what differs between rollouts is kept, once for all that share it: the particles' motion of the step before,
    and the remembered frames of as many steps as the dynamics sees.
    """

    def __init__(self, root: State, preset: Preset) -> None:
        """Begins at the scene's own state (one row)."""
        self._root = root
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
        count, particles = len(parents), self._root.particles.position.shape[1]
        self._moving = [torch.empty(count, particles, 2) for _ in range(3)]
        self._frames.append(torch.empty(count, *self._root.past[0].shape[1:]))
        self._above = self._above[-self._preset.history :]
        self._frames = self._frames[-self._preset.history - 1 :]

    def state(self, rows: Int[Tensor, "B"]) -> State:
        """What these rollouts start from, as many as a pass has. What they share is expanded, not copied."""
        base = _spread(self._root, len(rows))
        if not self._age:
            return base
        parents = self._above[-1][rows]
        position, velocity, offset = (part[parents] for part in self._moved)
        particles = replace(base.particles, position=position, velocity=velocity, offset=offset)
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


def _spread(root: State, rollouts: int) -> State:
    """The only scene's state seen as this many rollouts."""

    def wide(x: Tensor) -> Tensor:
        return x.expand(rollouts, *x.shape[1:])

    scene = SceneFeatures(*map(wide, (root.scene.tokens, root.scene.field, root.scene.static)))
    return State(scene, Particles(*map(wide, root.particles.tensors)), tuple(map(wide, root.past)), root.age)
