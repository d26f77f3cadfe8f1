"""The public contract suites, over everything registered, and over classes that break one rule each."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from wmplan.contracts import GRIDS, Context, Imagined, SceneRaster
from wmplan.models import MODELS, ConstantVelocity, load_model
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import rasterize
from wmplan.testing import Body, check_world_model, some_plans, straight_road


def rasters(grid_name: str = "nano") -> list[SceneRaster]:
    empty, _ = straight_road([], name="empty")
    busy, _ = straight_road(name="busy")
    crossing, _ = straight_road([Body(20.0, -12.0, 1.4, 6.0), Body(-8.0, 0.3, 0.05, 14.0)], 6.0, "crossing")
    return [rasterize(scene, GRIDS[grid_name]) for scene in (busy, empty, crossing)]


@pytest.mark.parametrize("grid_name", ["nano", "small"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_world_models(name: str, grid_name: str) -> None:
    scenes = rasters(grid_name)
    check_world_model(load_model(name, GRIDS[grid_name]), scenes, some_plans(scenes[0].start), reactive=False)


class Wrapped:
    """Constant velocity with one broken rule."""

    def __init__(self) -> None:
        self.inner = ConstantVelocity()
        self.name, self.digest, self.grid, self.horizon = "wrapped", "0", self.inner.grid, self.inner.horizon

    def encode(self, raster: SceneRaster) -> Context:
        return self.inner.encode(raster)

    def imagine(self, context: Context, plans: Plans, noise: NoiseBank) -> Imagined:
        imagined = self.inner.imagine(context, plans, noise)
        return dataclasses.replace(imagined, occupancy=self.bend(imagined.occupancy.clone(), context, plans, noise))

    def bend(self, occupancy: torch.Tensor, context: Context, plans: Plans, noise: NoiseBank) -> torch.Tensor:
        return occupancy


class Companions(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        return occupancy * (1.0 - 0.001 * len(plans))


class Forgetful(Wrapped):
    calls = 0

    def bend(self, occupancy, context, plans, noise):
        self.calls += 1
        return occupancy * (1.0 - 0.001 * (self.calls > 14))


class OutOfRange(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        return occupancy * 1.01


class NotFinite(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        occupancy[:, :, -1, 0, 0, 0] = torch.nan
        return occupancy


class Meddling(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        context.raster.history[0, 0, 0, 0] += 1.0
        return occupancy


class CountsSamples(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        return occupancy / noise.samples


class Reacting(Wrapped):
    def bend(self, occupancy, context, plans, noise):
        speed = torch.from_numpy(plans.states[:, -1, 3])
        return occupancy / (1.0 + speed)[:, None, None, None, None, None]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Companions, "alone differ from the same among"),
        (Forgetful, "other bytes"),
        (OutOfRange, r"expected \[0, 1\]"),
        (NotFinite, "occupancy is not finite"),
        (Meddling, "were changed"),
        (CountsSamples, "not the first"),
        (Reacting, "the plans matter"),
    ],
)
def test_a_world_model_that_breaks_a_rule_is_named(broken: type[Wrapped], message: str) -> None:
    scenes = rasters()
    with pytest.raises(AssertionError, match=message):
        check_world_model(broken(), scenes, some_plans(scenes[0].start), reactive=False)


def test_a_world_model_that_keeps_them_passes() -> None:
    scenes = rasters()
    check_world_model(Wrapped(), scenes, some_plans(scenes[0].start), reactive=False)
    check_world_model(Reacting(), scenes, some_plans(scenes[0].start))
