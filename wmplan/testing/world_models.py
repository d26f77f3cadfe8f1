"""The rules that every world model keeps, as a suite that anyone can run over a model of their own."""

from __future__ import annotations

import numpy as np
import torch

from wmplan.contracts import Context, Imagined, SceneRaster, WorldModel
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank

PARTS = ("occupancy", "velocity", "latents")
HIGHEST_SPEED_MPS = 100.0
"""Imagined velocities beyond this are no traffic's."""


def check_world_model(
    model: WorldModel, rasters: list[SceneRaster], plans: Plans, *, samples: int = 3, reactive: bool = True
) -> None:
    """Nothing, if the model keeps the contract on these scenes.

    Candidates are independent rows: a subset, another order, one alone or none give the same bytes as among all.
    Sample m is the same whatever the number of samples and wherever the bank of noise begins. The same noise gives the
    same bytes, whatever was imagined in between; inputs stay untouched. `reactive=False` claims that the plans do not
    matter, and is then checked.

    Raises:
        AssertionError: naming the first rule that is broken, with the scene.
    """
    assert isinstance(model, WorldModel), f"{type(model).__name__} lacks a member of the WorldModel protocol"
    assert len(plans) >= 3, f"check_world_model: {len(plans)} plans, expected at least 3"
    assert model.digest, "the digest is empty"
    imagined = [_check_scene(model, raster, plans, samples, reactive) for raster in rasters]
    for raster, first in zip(rasters, imagined, strict=True):
        again = model.imagine(model.encode(raster), plans, NoiseBank(11, samples))
        _same(first, again, f"{raster.scene_id}: the same noise, after other scenes, gives other bytes")


def _check_scene(model: WorldModel, raster: SceneRaster, plans: Plans, samples: int, reactive: bool) -> Imagined:
    name = raster.scene_id
    before = _bytes(raster, plans)
    context = model.encode(raster)
    assert isinstance(context, Context), f"{name}: encode gives {type(context).__name__}, expected Context"
    whole = model.imagine(context, plans, NoiseBank(11, samples))
    _check_values(model, whole, len(plans), samples, name)
    assert _bytes(raster, plans) == before, f"{name}: the raster or the plans were changed"

    count = len(plans)
    for rows in ([0], [count - 1], [2, 0], list(range(count))[::-1], list(range(1, count)), []):
        part = model.imagine(context, plans.select(np.array(rows, dtype=int)), NoiseBank(11, samples))
        _same(_rows(whole, rows), part, f"{name}: candidates {rows} alone differ from the same among {count}")
    for fewer in range(1, samples):
        part = model.imagine(context, plans, NoiseBank(11, fewer))
        prefix = Imagined(whole.occupancy[:, :fewer], whole.velocity[:, :fewer], whole.latents[:, :fewer], whole.grid)
        _same(prefix, part, f"{name}: with {fewer} samples they are not the first {fewer} of {samples}")
        rest = model.imagine(context, plans, NoiseBank(11, samples - fewer, first=fewer))
        last = Imagined(whole.occupancy[:, fewer:], whole.velocity[:, fewer:], whole.latents[:, fewer:], whole.grid)
        _same(last, rest, f"{name}: samples from {fewer} on are not the last of {samples}")
    _same(whole, model.imagine(context, plans, NoiseBank(11, samples)), f"{name}: imagined twice, other bytes")
    if not reactive:
        _same(whole, _rows(whole, [0] * count), f"{name}: the plans matter, though reactive=False was claimed")
    return whole


def _check_values(model: WorldModel, imagined: Imagined, candidates: int, samples: int, name: str) -> None:
    lead = (candidates, samples, model.horizon)
    shape = (*lead, 2, model.grid.rows, model.grid.cols)
    assert imagined.grid == model.grid, f"{name}: imagined on {imagined.grid}, expected {model.grid}"
    for part, expected in (("occupancy", shape), ("velocity", shape)):
        found = tuple(getattr(imagined, part).shape)
        assert found == expected, f"{name}: {part} has shape {found}, expected {expected}"
    assert imagined.latents.ndim == 4, f"{name}: latents have {imagined.latents.ndim} axes, expected 4 (K, M, T, L)"
    assert tuple(imagined.latents.shape[:3]) == lead, (
        f"{name}: latents {tuple(imagined.latents.shape)}, expected {lead}"
    )
    for part in PARTS:
        assert torch.isfinite(getattr(imagined, part)).all(), f"{name}: {part} is not finite everywhere"
    low, high = float(imagined.occupancy.min()), float(imagined.occupancy.max())
    assert 0.0 <= low <= high <= 1.0, f"{name}: occupancy lies in [{low}, {high}], expected [0, 1]"
    fastest = float(imagined.velocity.abs().max())
    assert fastest <= HIGHEST_SPEED_MPS, f"{name}: velocity reaches {fastest} m/s, expected at most {HIGHEST_SPEED_MPS}"


def _rows(imagined: Imagined, rows: list[int]) -> Imagined:
    return Imagined(imagined.occupancy[rows], imagined.velocity[rows], imagined.latents[rows], imagined.grid)


def _same(first: Imagined, second: Imagined, message: str) -> None:
    for part in PARTS:
        a, b = getattr(first, part), getattr(second, part)
        assert a.shape == b.shape, f"{message} ({part}: shape {tuple(b.shape)} after {tuple(a.shape)})"
        if not torch.equal(a, b):
            raise AssertionError(f"{message} ({part}: by up to {float((a - b).abs().max()):.3g})")


def _bytes(raster: SceneRaster, plans: Plans) -> tuple[bytes, ...]:
    tensors = tuple(t.contiguous().numpy().tobytes() for t in (raster.static, raster.history))
    return (*tensors, raster.start.route.tobytes(), plans.controls.tobytes(), plans.states.tobytes())
