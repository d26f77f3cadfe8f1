"""A world model frame by frame, for plans that become known as their policies drive."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from wmplan.contracts import Context, Imagined, WorldModel
from wmplan.errors import InputError
from wmplan.models.ar import Autoregressive
from wmplan.models.growing import Growing
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank

SAME = 1e-4
"""Frames that differ by more were imagined for other actions."""


@runtime_checkable
class Imagining(Protocol):
    """One sample of K candidates, one frame after another."""

    def next(self, plans: Plans) -> tuple[Float[Tensor, "K 2 H W"], Float[Tensor, "K 2 H W"]]:
        """Occupancy and velocity of the next frame; the plans go as those before until the last one."""
        ...


def imagining(model: WorldModel, context: Context, noise: NoiseBank, name: str) -> Imagining:
    """The model's one sample of this noise in a scene called `name`."""
    if isinstance(model, Autoregressive):
        return Growing(model, context, noise)
    return _Again(model, context, noise, name)


class _Again:
    """Any model: imagines the whole future for what is known so far, and shows the next frame of it."""

    def __init__(self, model: WorldModel, context: Context, noise: NoiseBank, name: str) -> None:
        self._model, self._context, self._noise, self._name = model, context, noise, name
        self._before: Imagined | None = None
        self._step = 0

    def next(self, plans: Plans) -> tuple[Float[Tensor, "K 2 H W"], Float[Tensor, "K 2 H W"]]:
        """The next frame.

        Raises:
            InputError: the model's frames depend on actions that come after them.
        """
        now, k = self._model.imagine(self._context, plans, self._noise), self._step
        if self._before is not None:
            gap = (self._before.occupancy[:, :, :k] - now.occupancy[:, :, :k]).abs().max().item()
            if not gap <= SAME:
                raise InputError(
                    f"scene {self._name}: model {self._model.name} looks ahead: a frame up to {k * 0.5:g} s changed by "
                    f"{gap:.3g} with later actions, expected frames that depend on the actions before them"
                )
        self._before, self._step = now, k + 1
        return now.occupancy[:, 0, k], now.velocity[:, 0, k]
