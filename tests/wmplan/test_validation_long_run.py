"""The long run: the truth lasts and reacts, what vanishes is gone until the next look at the true frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wmplan.contracts import GRIDS
from wmplan.models import load_model
from wmplan.plans import Plans
from wmplan.raster import STRIDE
from wmplan.simulator.live import live
from wmplan.start import start_of
from wmplan.testing.scenes import Body, straight_road
from wmplan.validation.long_run import Imagine, SceneLongRun, curves, imagining, run_long, summarise
from wmplan.validation.long_truth import BRAKE_MPS2, CHUNK_STEPS, LongTruth

NANO = GRIDS["nano"]
CHUNKS = 5
SPEED = 4.0


@pytest.fixture(scope="module")
def truth() -> LongTruth:
    """An ego that keeps its speed for 15 s, a follower behind it, a car far to the side."""
    bodies = [Body(-9.0, 0.0, speed=SPEED), Body(12.0, 3.5, speed=SPEED)]
    scene, future = straight_road(bodies, SPEED)
    controls = np.zeros((1 + CHUNKS, CHUNKS * CHUNK_STEPS * STRIDE, 2))
    for chunk in range(CHUNKS):
        controls[1 + chunk, chunk * CHUNK_STEPS * STRIDE :, 0] = BRAKE_MPS2
    plans = Plans.from_controls(controls, SPEED)
    alive = live(scene, future)
    return LongTruth(alive, alive.execute(plans), plans, start_of(scene), NANO, CHUNKS)


def ran(truth: LongTruth, imagine: Imagine, mode: str = "free") -> SceneLongRun:
    return run_long("scene", "group", "planted", imagine, truth, mode)  # type: ignore[arg-type]


def test_the_truth_lasts_and_reacts_as_it_does(truth):
    row = ran(truth, lambda chunk, raster, plans: truth.imagined(chunk))
    steps = (CHUNKS - 1) * CHUNK_STEPS
    assert row.eligible[:steps].min() == 2.0
    assert (row.eligible[steps:] == 0.0).all()
    assert np.array_equal(row.kept, row.eligible)
    assert (row.causal[: CHUNKS - 1] == 1.0).all(), "the follower reacts, the car beside does not"
    slopes = row.answered[: CHUNKS - 1] / row.reacted[: CHUNKS - 1]
    assert slopes == pytest.approx(np.ones(CHUNKS - 1), abs=0.05)


def test_who_does_not_look_at_the_action_does_not_react(truth):
    row = ran(truth, lambda chunk, raster, plans: truth.imagined(chunk)[[0, 0]])
    assert np.array_equal(row.kept, row.eligible)
    assert (row.reacted[: CHUNKS - 1] > 0.0).all()
    assert (row.answered == 0.0).all()


def test_who_vanishes_is_gone_for_good_unless_the_true_frames_are_looked_at(truth):
    def forgets(chunk, raster, plans):
        frames = truth.imagined(chunk)
        return frames if chunk != 2 else torch.zeros_like(frames)

    free, regrounded = ran(truth, forgets), ran(truth, forgets, "regrounded")
    second = slice(CHUNK_STEPS, 2 * CHUNK_STEPS)
    third = slice(2 * CHUNK_STEPS, (CHUNKS - 1) * CHUNK_STEPS)
    assert (free.kept[:CHUNK_STEPS] == 2.0).all()
    assert (free.kept[second] == 0.0).all()
    assert (free.kept[third] == 0.0).all(), "found by nobody's help: whoever is lost stays lost"
    assert (regrounded.kept[third] == 2.0).all(), "the true frames after chunk 2 bring them back"
    assert (free.eligible == regrounded.eligible).all()
    figures = {m.metric: m for m in summarise([regrounded, regrounded], 0)}
    assert figures["still there after 3 s"].value == 1.0
    assert np.isnan(figures["still there after 45 s"].value), "nobody eligible: no figure, not a 0"
    kept, slope = curves([free, regrounded])
    assert kept[third].tolist() == [0.5] * (2 * CHUNK_STEPS)
    assert slope[0] == pytest.approx(1.0, abs=0.05)


def test_a_model_goes_on_from_its_own_frames_in_the_moved_window(truth):
    """Constant velocity is right here while the ego does not brake: nobody is lost, and nobody answers."""
    row = ran(truth, imagining(load_model("cv", NANO, CHUNK_STEPS), 0))
    first = slice(0, 2 * CHUNK_STEPS)
    assert np.array_equal(row.kept[first], row.eligible[first])
    assert (row.answered == 0.0).all()


def test_the_window_moves_with_the_ego_and_the_raster_shows_the_same_road(truth):
    moved = truth.moved(1)
    assert moved.x == pytest.approx(SPEED * 3.0, abs=0.1)
    assert abs(moved.y) < 0.1
    here, there = truth.places(1, 0)[0][-1], truth.places(2, 0)[0][0]
    assert moved.to_local(here) == pytest.approx(there, abs=1e-3)
    raster = truth.raster(2)
    assert raster.start.speed == pytest.approx(SPEED, abs=0.05)
    assert torch.equal(raster.history[-1, :4], truth.drawn(truth.pose(2), np.array([60]), 0)[0, :4])
    own = torch.zeros(4, 4, NANO.rows, NANO.cols)
    replaced = truth.raster(2, own)
    assert (replaced.history[:, :4] == 0.0).all()
    assert torch.equal(replaced.history[:, 4], raster.history[:, 4])
    assert replaced.digest != raster.digest
