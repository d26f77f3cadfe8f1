"""`direct` and `jump`: constant velocity is their zero, later actions cannot reach back, they learn one scene."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from test_ar import make_raster, plans_of
from test_ar_training import AHEAD, examples_of

from wmplan.contracts import GRIDS, RASTER_HISTORY
from wmplan.errors import InputError
from wmplan.models import checkpoint, load_model
from wmplan.models.baselines import ConstantVelocity
from wmplan.models.families import family_of
from wmplan.models.model_card import Card
from wmplan.models.particles import seed
from wmplan.models.presets import preset_of
from wmplan.models.regression import driven
from wmplan.models.regression_model import Regression
from wmplan.models.training import Settings, measure, train
from wmplan.models.training.direct_stages import forecast_regression
from wmplan.models.training.jump_stages import frame_error, motion_weights, residual_error
from wmplan.models.training.objectives import objective_of
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import STRIDE
from wmplan.testing import check_world_model, some_plans

GRID = GRIDS["nano"]
FAMILIES = ("direct", "jump")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model_of(family: str, noise: float, span: int = 2) -> Regression:
    config = asdict(Settings(family=family, jump_span=span))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = family_of(family).network(preset_of("nano"), config)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
    return family_of(family).model(network, f"{family} {noise}", 6)


@pytest.mark.parametrize(("family", "horizon"), [("direct", 2), ("jump", 4)])
def test_contract(family, horizon):
    raster = make_raster()
    plans = some_plans(raster.start).select([0, 3, 6])
    check_world_model(replace(model_of(family, 0.05), horizon=horizon), [raster], plans, samples=2)


@pytest.mark.parametrize("span", [None, 1, 2, 3])
def test_without_a_residual_it_is_constant_velocity(span):
    raster, plans, noise = make_raster(24), plans_of(2), NoiseBank(0, 2)
    untrained = model_of("jump", 0.0, span) if span else model_of("direct", 0.0)
    baseline = ConstantVelocity(GRID)
    got = untrained.imagine(untrained.encode(raster), plans, noise)
    wanted = baseline.imagine(baseline.encode(raster), plans, noise)
    assert wanted.occupancy[0, 0, 5].sum() > 50.0
    if not span:  # one splat from t0, as the baseline
        assert torch.equal(got.occupancy, wanted.occupancy)
        assert torch.equal(got.latents, wanted.latents)
    # Equal but for the rounding of adding up jumps.
    assert torch.allclose(got.occupancy, wanted.occupancy, atol=1e-4)


def test_samples_are_one_future_and_never_copied():
    model, raster = model_of("direct", 0.05), make_raster()
    imagined = model.imagine(model.encode(raster), plans_of(3), NoiseBank(0, 5))
    assert imagined.occupancy.stride(1) == imagined.latents.stride(1) == 0
    assert imagined.steps == 3 * 6


@pytest.mark.parametrize(("family", "reach"), [("direct", 1), ("jump", 2)])
def test_what_the_ego_does_later_cannot_reach_back(family, reach):
    """Frames before the first difference are equal to the bit: for `jump`, before the jump in which it lies."""
    model, raster = model_of(family, 0.05), make_raster()
    controls = np.zeros((2, 30, 2))
    controls[1, 2 * STRIDE :, 0] = -5.0  # the third of six steps is the first that differs
    plans = Plans.from_controls(controls, 8.0)
    imagined = model.imagine(model.encode(raster), plans, NoiseBank(0, 1))
    first, second = imagined.occupancy[:, 0]
    assert torch.equal(first[:2], second[:2])
    assert (first[2:] - second[2:]).abs().amax((1, 2, 3)).min() > 1e-4
    controls[1, : 3 * STRIDE] = 0.0  # now the fourth, in the middle of the second jump
    plans = Plans.from_controls(controls, 8.0)
    first, second = model.imagine(model.encode(raster), plans, NoiseBank(0, 1)).occupancy[:, 0]
    same = 3 - (3 % reach)
    assert torch.equal(first[:same], second[:same])
    assert (first[same:] - second[same:]).abs().amax((1, 2, 3)).min() > 1e-4


def test_candidates_that_are_not_finite_get_nan_alone():
    model, raster, plans = model_of("jump", 0.05), make_raster(), plans_of(3)
    states = plans.states.copy()
    states[1, 7] = np.nan
    imagined = model.imagine(model.encode(raster), Plans(plans.controls, states), NoiseBank(0, 2))
    clean = model.imagine(model.encode(raster), plans, NoiseBank(0, 2))
    for name in ("occupancy", "velocity", "latents"):
        assert getattr(imagined, name)[1].isnan().all()
        assert torch.equal(getattr(imagined, name)[[0, 2]], getattr(clean, name)[[0, 2]])


@pytest.mark.parametrize("family", FAMILIES)
def test_bad_input_is_named(family):
    model = model_of(family, 0.0)
    with pytest.raises(InputError, match=r"scene scene: raster has grid .* expected the model's"):
        model.encode(replace(make_raster(), grid=GRIDS["small"]))
    short = Plans.from_controls(np.zeros((1, 20, 2)), 8.0)
    with pytest.raises(InputError, match=r"plans last 2.0 s, expected at least the model's horizon 3.0 s"):
        model.imagine(model.encode(make_raster()), short, NoiseBank(0, 1))
    with pytest.raises(ValueError, match="jump_span is 4, expected a divisor of the horizon 6"):
        Settings(family="jump", jump_span=4)


def test_steps_at_one_acceleration_add_up():
    """A jump of four is two jumps of two is four steps, turning bodies included."""
    particles = seed(make_raster().history[None], GRID, 100)
    generator = torch.Generator().manual_seed(0)
    accel = torch.randn(particles.position.shape, generator=generator)
    turn = 0.3 * torch.randn(particles.position.shape[:2], generator=generator)
    four = driven(particles, accel, turn, 4)
    two = driven(driven(particles, accel, turn, 2), accel, turn, 2)
    ones = particles
    for _ in range(4):
        ones = ones.steered(accel, turn)
    for other in (two, ones):
        for name in ("position", "velocity", "offset"):
            assert torch.allclose(getattr(four, name), getattr(other, name), atol=1e-4), name
    assert (four.position - particles.moved(2.0).position).norm(dim=-1).max() > 1.0


# -------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize(("family", "steps"), [("direct", (60,)), ("jump", (20, 50))])
def test_overfits_a_scene_and_beats_constant_velocity_there(family, steps, tmp_path):
    examples = examples_of(1, braking=3.0)
    settings = Settings(
        family=family, steps=steps, batch=1, horizon=AHEAD, jump_span=1, threads=1, learning_rate=4e-3, checkpoint_s=1e9
    )
    network, _ = train(examples, settings, tmp_path)
    measured = measure(network, examples, 1, AHEAD, forecast=forecast_regression)
    gain = measured.mean("model") - measured.mean("cv")
    assert (gain[1:] > 0.3).all()
    # Through the world model the forecast is the same as in the measure.
    batch = examples.batch(np.array([0]))
    again = forecast_regression(network, batch, ["s0"], 4, AHEAD)
    assert torch.equal(again, forecast_regression(network, batch, ["s0"], 1, AHEAD))


def test_jumps_of_several_steps_train_from_any_frame(tmp_path):
    examples = examples_of(4)
    settings = Settings(family="jump", steps=(6, 2), batch=2, horizon=AHEAD, jump_span=3, threads=1)
    network, _ = train(examples, settings, tmp_path)
    assert network.span == 3
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_a_checkpoint_of_each_family_loads_to_the_same_bytes(tmp_path):
    raster, plans, noise = make_raster(), plans_of(2), NoiseBank(0, 1)
    for family in FAMILIES:
        model = model_of(family, 0.05)
        config = json.loads(json.dumps(asdict(Settings(family=family))))
        card = Card("nano", 6, "", config, {}, (), (), kind=family)
        checkpoint.save(tmp_path / family, model.network, card)
        loaded = load_model(tmp_path / family)
        assert loaded.name == family
        first, second = (m.imagine(m.encode(raster), plans, noise) for m in (model, loaded))
        assert torch.equal(first.occupancy, second.occupancy)


def test_weights_follow_motion_and_leave_none_out():
    examples = examples_of(8)
    states = examples.states.copy()
    states[:4, :, :, :2] = states[:4, :1, :, :2]  # half of the scenes stand still
    weights = motion_weights(replace(examples, states=states))
    assert np.allclose(weights[:4], np.sqrt(0.5))
    way = np.linalg.norm(states[4:, -1, :, :2] - states[4:, RASTER_HISTORY - 1, :, :2], axis=-1).mean(1)
    assert np.allclose(weights[4:], np.sqrt(way + 0.5), rtol=1e-5)
    assert objective_of("jump").weights is motion_weights


def test_squared_errors_ask_for_the_mean():
    """Of two equally likely places the residual's error is least half-way, which the robust loss of `ar` is not."""
    particles = seed(make_raster(1).history[None], GRID, 100)
    told = torch.ones(particles.position.shape[:2], dtype=torch.bool)
    shift = torch.tensor([4.0, 0.0])

    def error(x: float) -> float:
        here = replace(particles, position=particles.position + x * shift)
        places = (particles.position, particles.position + shift)
        return sum(float(residual_error(here, place, told, GRID)) for place in places)

    assert error(0.5) < min(error(0.3), error(0.7)) < error(0.0)
    assert error(0.0) == pytest.approx(4.0, rel=1e-4)  # 4 m are two scales, squared; the other is met
    truth = torch.zeros(1, 5, 8, 8)
    truth[:, 4, :4] = 1.0
    assert frame_error(torch.zeros(1, 2, 8, 8), truth) == 0.0
    wrong = torch.zeros(1, 2, 8, 8)
    wrong[:, 0, 6] = 1.0
    assert frame_error(wrong, truth) == 0.0  # nothing is observed there
    wrong[:, 0, 0, :5] = 1.0
    assert frame_error(wrong, truth) == pytest.approx(5.0 / 20.0)
