"""The splat keeps mass and place; persistence stays; constant velocity finds what moves at constant velocity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from wmplan.contracts import GRIDS, Grid
from wmplan.errors import InputError
from wmplan.models import MODELS, ConstantVelocity, Persistence, load_model
from wmplan.models.warp import cell_centres, splat
from wmplan.randomness import NoiseBank
from wmplan.raster import rasterize, rasterize_future
from wmplan.start import start_of
from wmplan.testing import Body, some_plans, straight_road

SMALL = Grid(12, 16, 0.5, -3.0, -2.0)


def particles(count: int = 30, batch: tuple[int, ...] = (2, 3)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor([-2.7, -1.7]), torch.tensor([4.7, 3.7])
    positions = low + (high - low) * torch.rand((*batch, count, 2), generator=generator)
    return positions, torch.rand((*batch, count, 3), generator=generator)


def test_the_splat_keeps_mass_and_centroid() -> None:
    positions, weights = particles()
    canvas = splat(positions, weights, SMALL)
    torch.testing.assert_close(canvas.sum((-1, -2)), weights.sum(-2))
    moment = torch.einsum("...chw,hwd->...cd", canvas, cell_centres(SMALL))
    torch.testing.assert_close(moment, torch.einsum("...nc,...nd->...cd", weights, positions), atol=1e-4, rtol=1e-4)


def test_the_splat_agrees_with_a_loop_and_loses_what_leaves() -> None:
    positions, weights = particles()
    positions = positions * 1.6
    canvas = splat(positions, weights, SMALL).double()
    for b in range(2):
        slow = torch.zeros(3, 12, 16, dtype=torch.float64)
        for (x, y), weight in zip(positions[b, 1].tolist(), weights[b, 1].double(), strict=True):
            for i in range(12):
                for j in range(16):
                    near_x = max(0.0, 1.0 - abs(x - (-3.0 + (j + 0.5) * 0.5)) / 0.5)
                    near_y = max(0.0, 1.0 - abs(y - (-2.0 + (i + 0.5) * 0.5)) / 0.5)
                    slow[:, i, j] += weight * near_x * near_y
        torch.testing.assert_close(canvas[b, 1], slow, atol=1e-4, rtol=1e-4)
    assert splat(positions + 100.0, weights, SMALL).sum() == 0


def test_a_row_of_the_splat_does_not_depend_on_its_companions() -> None:
    positions, weights = particles(count=700, batch=(37,))
    canvas = splat(positions, weights, SMALL)
    for rows in ([0], [36], [5, 3], list(range(10, 30))):
        assert torch.equal(splat(positions[rows], weights[rows], SMALL), canvas[rows])


def test_the_splat_is_differentiable_in_place_and_weight() -> None:
    positions, weights = particles(count=4, batch=())
    inputs = (positions.double().requires_grad_(), weights.double().requires_grad_())
    assert torch.autograd.gradcheck(lambda p, w: splat(p, w, SMALL), inputs, eps=1e-7, atol=1e-5)


def test_persistence_repeats_the_present() -> None:
    raster = rasterize(straight_road()[0], GRIDS["nano"])
    model = Persistence()
    plans = some_plans(raster.start)
    imagined = model.imagine(model.encode(raster), plans, NoiseBank(0, 2))
    assert imagined.occupancy.shape == (7, 2, 6, 2, 64, 96)
    for t in range(6):
        assert torch.equal(imagined.occupancy[3, 1, t], raster.history[-1, :2])
        assert torch.equal(imagined.velocity[3, 1, t], raster.history[-1, 2:4])
    assert imagined.occupancy.untyped_storage().nbytes() < 10 * imagined.occupancy[0, 0].numel() * 4


def test_constant_velocity_finds_what_keeps_its_velocity() -> None:
    bodies = [Body(5.5, 2.5, speed=8.0), Body(20.5, -10.5, np.pi / 2, 4.0), Body(30.2, 20.1, 0.7, 3.3)]
    scene, future = straight_road(bodies)
    grid = GRIDS["nano"]
    raster = rasterize(scene, grid)
    imagined = ConstantVelocity().imagine(
        ConstantVelocity().encode(raster), some_plans(start_of(scene)), NoiseBank(0, 1)
    )
    truth = rasterize_future(scene, future, grid, 6)
    present = raster.history[-1, 0]
    for t in range(6):
        vehicles = imagined.occupancy[0, 0, t, 0]
        assert vehicles.sum() == pytest.approx(present.sum().item(), rel=0.03)
        error = (vehicles - truth[t, 0]).abs().sum()
        assert error < 0.25 * truth[t, 0].sum()
        assert error < 0.3 * (present - truth[t, 0]).abs().sum()
        moving = vehicles > 0.5
        torch.testing.assert_close(imagined.velocity[0, 0, t][:, moving], truth[t, 2:4][:, moving], atol=0.2, rtol=0)
    whole = truth[1, 0]  # 8 m/s for 1 s is a whole number of cells: nothing is resampled
    row = slice(33, 36)
    torch.testing.assert_close(imagined.occupancy[0, 0, 1, 0, row, :40], whole[row, :40], atol=0.03, rtol=0)


def test_where_particles_meet_occupancy_stays_a_probability() -> None:
    bodies = [Body(0.0, 0.0, 0.0, 10.0), Body(20.0, 0.0, np.pi, 10.0)]
    raster = rasterize(straight_road(bodies)[0], GRIDS["nano"])
    frame = ConstantVelocity().encode(raster).encoded[1]
    assert frame[0].max() == 1.0
    assert frame[2, 31:33, 25:27].abs().max() < 0.5


def test_the_registry_builds_and_bad_names_are_named(tmp_path: Path) -> None:
    for name in MODELS:
        model = load_model(name, GRIDS["small"], 4)
        assert (model.name, model.grid, model.horizon) == (name, GRIDS["small"], 4)
        assert model.digest == load_model(name, GRIDS["small"], 4).digest
        assert model.digest != load_model(name).digest
    with pytest.raises(InputError, match=r"nonsense.*expected one of cv, persistence"):
        load_model("nonsense")
    raster = rasterize(straight_road()[0], GRIDS["small"])
    with pytest.raises(InputError, match="raster has grid"):
        Persistence().encode(raster)
