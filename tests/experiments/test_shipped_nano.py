"""The shipped model does what it ships for: others react to the ego as they would on a road."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.assembly import model_spec
from wmplan.models import load_model
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import rasterize
from wmplan.testing.scenes import Body, straight_road
from wmplan.validation.interventions import present, read_futures

SPEED = 10.0
BEHIND, AHEAD = Body(-20.0, 0.0, speed=SPEED), Body(15.0, 3.5, speed=8.0)
ACCELS = (0.0, -2.0, -4.0, -6.0)


@pytest.fixture(scope="module")
def moved() -> np.ndarray:
    """How far each of both is displaced at 3 s by each braking, against no braking: [braking, follower | one ahead]."""
    scene, _ = straight_road([BEHIND, AHEAD], SPEED)
    model = load_model(model_spec("nano"))
    raster = rasterize(scene, model.grid)
    controls = np.zeros((len(ACCELS), 30, 2))
    controls[:, :, 0] = np.array(ACCELS)[:, None]
    imagined = model.imagine(model.encode(raster), Plans.from_controls(controls, SPEED), NoiseBank(0, 1))
    first = present(raster)
    who = [int(np.hypot(*(first.position - [body.x, body.y]).T).argmin()) for body in (BEHIND, AHEAD)]
    place, seen = read_futures(imagined, first).at(np.array(who), 6)
    assert seen.all()
    return (place - place[:1])[:, 0, :, 0]


def test_a_follower_brakes_the_more_the_harder_the_ego_does(moved: np.ndarray) -> None:
    assert (np.diff(moved[:, 0]) < 0.0).all()
    assert moved[-1, 0] < -3.0


def test_who_drives_ahead_in_another_lane_does_not_react(moved: np.ndarray) -> None:
    assert np.abs(moved[:, 1]).max() < 0.5
