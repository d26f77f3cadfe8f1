"""Imagination that grows with its plans has the bytes of imagination of the whole plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.files import SHIPPED
from wmplan.errors import InputError
from wmplan.models import load_model
from wmplan.models.growing import Growing
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import STRIDE, rasterize
from wmplan.testing.scenes import straight_road

NANO = Path(SHIPPED) / "nano"


@pytest.mark.parametrize("count", [3, 37])
def test_frames_one_by_one_are_those_of_the_whole(count: int) -> None:
    model = load_model(NANO)
    raster = rasterize(straight_road()[0], model.grid)
    context, noise = model.encode(raster), NoiseBank(5, 1, 1)
    rng = np.random.default_rng(0)
    controls = rng.normal(size=(count, model.horizon * STRIDE, 2)) * np.array([1.5, 0.02])
    controls[1] = controls[0]  # what candidates share must not matter
    whole = model.imagine(context, Plans.from_controls(controls, 10.0), noise)
    growing = Growing(model, context, noise)
    for t in range(model.horizon):
        known = controls.copy()
        known[:, (t + 1) * STRIDE :] = 0.3 * t  # not known yet
        occupancy, velocity = growing.next(Plans.from_controls(known, 10.0))
        assert torch.equal(occupancy, whole.occupancy[:, 0, t])
        assert torch.equal(velocity, whole.velocity[:, 0, t])
    with pytest.raises(InputError, match="frame 7 of 6"):
        growing.next(Plans.from_controls(controls, 10.0))
