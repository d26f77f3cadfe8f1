"""What one scene shows of one model: what it imagined under what the ego really did, beside what really followed.

Every layer of the instrument reads an `Evidence` and nothing else, so that a model, the baselines and the true future
(`oracle`) are read in the same way. `observe` does what is the same for every model of a scene, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wmplan.contracts import IMAGINED_STEP_S, Grid, SceneRaster, WorldModel
from wmplan.errors import InputError
from wmplan.executed import executed
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import STRIDE, rasterize, rasterize_future
from wmplan.scene import STEP_S, Future, Scene, Tracks
from wmplan.scores import with_present
from wmplan.start import start_of
from wmplan.validation.traces import Traces, trace

ORACLE = "oracle"


@dataclass(frozen=True)
class Observed:
    """A scene and what followed it, on the grid of the models: the same for all of them.

    `plan` is what the ego did, one row. `truth` is `rasterize_future`. `road_users` are the true agents in the scene
    frame at t0 and at each imagined step, T + 1 states 0.5 s apart; those that came into view later are not valid at
    t0.
    """

    scene_id: str
    group: str
    raster: SceneRaster
    plan: Plans
    truth: Float[Tensor, "T 5 H W"]
    road_users: Tracks

    @cached_property
    def traces(self) -> Traces:
        """The true road users as they are read from the drawn truth."""
        return trace(self.raster.history[-1], self.truth[:, :2], self.truth[:, 2:4], self.raster.grid)


@dataclass(frozen=True)
class Evidence:
    """What a model imagined for a scene, M samples of T steps 0.5 s apart, given what the ego did."""

    observed: Observed
    model: str
    occupancy: Float[Tensor, "M T 2 H W"]
    velocity: Float[Tensor, "M T 2 H W"]

    def __post_init__(self) -> None:
        for name in ("occupancy", "velocity"):
            shape, truth = tuple(getattr(self, name).shape), self.observed.truth
            expected = (len(truth), 2, *truth.shape[-2:])
            if shape[1:] != expected or not shape[0]:
                raise ValueError(f"Evidence.{name} has shape {shape}, expected (M, {', '.join(map(str, expected))})")

    @property
    def scene_id(self) -> str:
        """Which scene."""
        return self.observed.scene_id

    @property
    def group(self) -> str:
        """What shares traffic with the scene: groups are drawn again, never scenes of one."""
        return self.observed.group

    @property
    def raster(self) -> SceneRaster:
        """The scene as the model saw it."""
        return self.observed.raster

    @property
    def grid(self) -> Grid:
        """The grid of everything here."""
        return self.observed.raster.grid

    @property
    def plan(self) -> Plans:
        """What the ego did, one row."""
        return self.observed.plan

    @property
    def truth(self) -> Float[Tensor, "T 5 H W"]:
        """What really followed."""
        return self.observed.truth

    @property
    def mean(self) -> Float[Tensor, "T 2 H W"]:
        """The forecast: the mean over the samples."""
        return self.occupancy.mean(0)

    @cached_property
    def traces(self) -> tuple[Traces, ...]:
        """The imagined road users of each sample, read in the same way as the true ones."""
        if self.model == ORACLE:
            return (self.observed.traces,)
        frames = zip(self.occupancy, self.velocity)
        return tuple(trace(self.raster.history[-1], *pair, self.grid) for pair in frames)

    @property
    def seconds(self) -> tuple[float, ...]:
        """Times of the imagined steps after t0."""
        return tuple(IMAGINED_STEP_S * (t + 1) for t in range(len(self.truth)))


def gather(model: WorldModel, scene: Scene, future: Future, noise: NoiseBank) -> Evidence:
    """What the scene shows of the model.

    Raises:
        InputError: as `observe`.
    """
    return imagine(model, observe(scene, future, model.grid, model.horizon), noise)


def observe(scene: Scene, future: Future, grid: Grid, steps: int) -> Observed:
    """The scene, its plan and its truth for `steps` imagined steps.

    Raises:
        InputError: the log does not show the ego for so long.
    """
    found = executed(scene, future, start_of(scene), steps * STRIDE)
    if found.plan is None:
        raise InputError(f"scene {scene.scene_id}: {found.reason}, expected {steps * STRIDE * STEP_S:g} s of the ego")
    truth = rasterize_future(scene, future, grid, steps)
    users = with_present(scene, future, steps * STRIDE)
    at = np.arange(0, steps * STRIDE + 1, STRIDE)
    users = Tracks(users.ids, users.kinds, users.sizes, users.states[:, at], users.valid[:, at])
    return Observed(scene.scene_id, scene.group, rasterize(scene, grid), found.plan, truth, users)


def imagine(model: WorldModel, observed: Observed, noise: NoiseBank) -> Evidence:
    """What the model imagines given what the ego did."""
    with torch.no_grad():
        imagined = model.imagine(model.encode(observed.raster), observed.plan, noise)
    steps = len(observed.truth)
    return Evidence(observed, model.name, imagined.occupancy[0, :, :steps], imagined.velocity[0, :, :steps])


def oracle(observed: Observed) -> Evidence:
    """The true future as if a model had imagined it: what a layer says of it is that layer's ceiling."""
    return Evidence(observed, ORACLE, observed.truth[None, :, :2], observed.truth[None, :, 2:4])
