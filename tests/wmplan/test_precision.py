"""A world model in bfloat16: nearly the same futures under another digest, or one line of why not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.files import SHIPPED
from wmplan.errors import InputError
from wmplan.models import load_model, precision
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import rasterize
from wmplan.testing.scenes import Body, straight_road


def braking() -> Plans:
    """On at 9 m/s, and a hard braking."""
    controls = np.zeros((2, 30, 2))
    controls[1, :, 0] = -4.0
    return Plans.from_controls(controls, 9.0)


def test_bfloat16_changes_little_and_has_a_digest_of_its_own():
    if not precision.has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    scene = straight_road([Body(-12.0, 0.0, speed=9.0), Body(25.0, 3.5, speed=7.0)], 9.0, "followed")[0]
    found = {}
    for name in ("float32", "bfloat16"):
        model = load_model(SHIPPED / "nano", precision=name)
        context = model.encode(rasterize(scene, model.grid))
        found[name] = model.digest, model.imagine(context, braking(), NoiseBank(0, 2))
    (one, full), (other, low) = found["float32"], found["bfloat16"]
    assert one != other, "terms of one precision must not be served for the other"
    assert load_model(SHIPPED / "nano", precision="auto").digest == other
    occupied = full.occupancy > 0.1
    assert not torch.equal(full.occupancy, low.occupancy), "nothing was computed in bfloat16"
    assert (full.occupancy - low.occupancy)[occupied].abs().mean() < 0.01
    # What an action does to the follower is far more than what rounding does.
    reacted = (full.occupancy[1] - full.occupancy[0])[occupied[0]].abs().mean()
    assert reacted > 10.0 * (full.occupancy - low.occupancy)[occupied].abs().mean()


def test_where_the_processor_lacks_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    assert precision.resolved("auto") == "float32"
    assert precision.resolved("float32") == "float32"
    with pytest.raises(InputError, match="precision is bfloat16, which this processor lacks"):
        precision.resolved("bfloat16")
