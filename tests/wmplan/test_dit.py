"""The diffusion world model: its untrained limit, causality in the ego's action, guidance, bytes that only a row
decides."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

from wmplan.contracts import GRIDS, SceneRaster
from wmplan.errors import InputError
from wmplan.models import checkpoint
from wmplan.models.baselines import ConstantVelocity
from wmplan.models.dit import DiffusionNetwork, near_traffic
from wmplan.models.dit_model import Diffusion
from wmplan.models.dit_options import DitOptions
from wmplan.models.dit_schedule import levels, wanted
from wmplan.models.model_card import Card
from wmplan.models.presets import PRESETS
from wmplan.models.rollout import Action, anchor_of
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import rasterize
from wmplan.testing import Body, straight_road

GRID = GRIDS["nano"]
PARTS = ("occupancy", "velocity", "latents")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def raster_of(name: str = "busy") -> SceneRaster:
    bodies = [Body(20.0, -12.0, 1.4, 6.0), Body(-8.0, 0.3, 0.05, 14.0), Body(12.0, 3.5, 0.0, 9.0), Body(4.0, 8.0)]
    return rasterize(straight_road(bodies, 8.0, name)[0], GRID)


def plans_of(count: int, seed: int = 0) -> Plans:
    rng = np.random.default_rng(seed)
    return Plans.from_controls(rng.normal(0.0, 1.0, (count, 30, 2)) * np.array([2.0, 0.02]), 8.0)


def network_of(noise: float = 0.08, **options) -> DiffusionNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = DiffusionNetwork(PRESETS["nano"], DitOptions(**options))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def model() -> Diffusion:
    return Diffusion(network_of(steps=2), "test", horizon=4)


def test_untrained_is_constant_velocity():
    raster, plans, noise = raster_of(), plans_of(1), NoiseBank(0, 1)
    baseline = ConstantVelocity(GRID)
    wanted = baseline.imagine(baseline.encode(raster), plans, noise)
    for options in ({}, {"objective": "flow", "schedule": "linear"}, {"steps": 1}):
        untrained = Diffusion(network_of(0.0, **{"steps": 2, **options}), "zero")
        got = untrained.imagine(untrained.encode(raster), plans, noise)
        # Equal but for the rounding of adding up six steps instead of multiplying by six.
        assert torch.allclose(got.occupancy, wanted.occupancy, atol=1e-4)
    assert wanted.occupancy[0, 0, 5].sum() > 10.0


def test_untrained_denoiser_finds_no_news():
    untrained = Diffusion(network_of(0.0, steps=2), "zero", horizon=2)
    got = untrained.imagine(untrained.encode(raster_of()), plans_of(2), NoiseBank(0, 2))
    assert got.latents.abs().max() == 0.0


def test_gates_are_truly_zero_at_the_start():
    network = network_of(0.0)
    tokens, condition = torch.randn(3, 65, 96), torch.randn(3, 96)
    for block in network.denoiser.blocks:
        assert torch.equal(block(tokens, condition), tokens)


def test_a_step_is_the_anchor_to_the_bit_where_nothing_is_learned():
    network = network_of(0.0)
    raster = raster_of()
    with torch.no_grad():
        state = network.begin(raster.static[None], raster.history[None])
        anchor = anchor_of(state, network.preset)
        _, decoded = network.advance(state, torch.zeros(1, *network.latent_shape))
    assert torch.equal(decoded.frame, anchor)


def test_samples_candidates_and_steps_of_denoising_differ(model):
    raster, plans = raster_of(), plans_of(2)
    context, noise = model.encode(raster), NoiseBank(3, 2)
    two = model.imagine(context, plans, noise).latents
    assert (two[:, 0] != two[:, 1]).any()
    assert (two[0] != two[1]).any()
    four = model.sampled(steps=4)
    assert (four.imagine(context, plans, noise).latents != two).any()
    assert four.digest != model.digest
    assert model.sampled(steps=2).digest == model.digest


@pytest.mark.parametrize("step", [1, 3])
def test_no_time_travel(model, step):
    controls = plans_of(1).controls
    later = controls.copy()
    later[0, 5 * step :] = [-5.0, 0.05]
    plans = Plans.from_controls(np.concatenate([controls, later]), 8.0)
    # One after the other: among candidates of one call, shared prefixes would make it trivial.
    context, noise = model.encode(raster_of()), NoiseBank(0, 2)
    first, second = (model.imagine(context, plans.select([k]), noise) for k in (0, 1))
    for part in PARTS:
        assert torch.equal(getattr(first, part)[:, :, :step], getattr(second, part)[:, :, :step])
    assert not torch.equal(first.latents[:, :, step:], second.latents[:, :, step:])


def test_guidance_one_is_the_conditional_model_to_the_bit(model):
    context, plans, noise = model.encode(raster_of()), plans_of(2), NoiseBank(2, 1)
    plain = model.imagine(context, plans, noise)
    again = model.sampled(guidance=1.0, guidance_bound=5.0).imagine(context, plans, noise)
    for part in PARTS:
        assert torch.equal(getattr(plain, part), getattr(again, part))
    pushed = model.sampled(guidance=3.0).imagine(context, plans, noise)
    assert not torch.equal(pushed.latents, plain.latents)
    held = model.sampled(guidance=3.0, guidance_bound=0.0).imagine(context, plans, noise)
    assert torch.equal(held.latents, plain.latents)


def test_guidance_zero_does_not_see_the_ego(model):
    context, plans, noise = model.encode(raster_of()), plans_of(3), NoiseBank(2, 1)
    blind = model.sampled(guidance=0.0, guidance_bound=1e6, steps=1).imagine(context, plans, noise).latents[:, :, 0]
    seeing = model.sampled(steps=1).imagine(context, plans, noise).latents[:, :, 0]
    assert torch.allclose(blind[0], blind[2], atol=1e-5)
    assert not torch.allclose(seeing[0], seeing[2], atol=1e-5)


def test_autoguidance_by_an_equal_model_changes_nothing():
    network = network_of(0.08, autoguidance=True, steps=2)
    raster, plans, noise = raster_of(), plans_of(2), NoiseBank(2, 1)
    with torch.no_grad():
        network.weaker.load_state_dict(network.denoiser.state_dict())
    model = Diffusion(network, "twins", horizon=2)
    context = model.encode(raster)
    plain = model.imagine(context, plans, noise)
    guided = model.sampled(guidance=2.0)
    assert torch.equal(guided.imagine(context, plans, noise).latents, plain.latents)
    with torch.no_grad():
        network.weaker.head.bias.add_(0.3)
    assert not torch.equal(guided.imagine(context, plans, noise).latents, plain.latents)
    assert torch.equal(model.imagine(context, plans, noise).latents, plain.latents)


def test_objectives_agree_through_the_network():
    """The same estimate, said in four ways by four heads, is the same estimate."""
    network = network_of(0.0)
    generator = torch.Generator().manual_seed(0)
    clean, noise = 0.5 * torch.randn(2, 3, *network.latent_shape, generator=generator)
    time = torch.tensor([0.1, 0.5, 0.9])
    alpha, sigma = (level[:, None, None] for level in levels("cosine", time))
    noisy = alpha * clean + sigma * noise
    found = []
    for objective in ("x0", "eps", "v", "flow"):
        network.options = DitOptions(objective=objective)
        found.append(network.estimate(wanted(objective, clean, noise, alpha, sigma), noisy, time))
    for one in found:
        assert torch.allclose(one, clean.clamp(-1.0, 1.0), atol=1e-4)


def test_latents_stay_within_the_encoders_bounds(model):
    wild = Diffusion(network_of(0.5, objective="eps", steps=3), "wild", horizon=2)
    imagined = wild.imagine(wild.encode(raster_of()), plans_of(2), NoiseBank(0, 2))
    assert float(imagined.latents.abs().max()) <= 1.0
    assert torch.isfinite(imagined.occupancy).all()


def test_near_traffic_is_where_boxes_are_and_beside():
    anchor = torch.zeros(1, 4, 64, 64)
    anchor[0, 0, 20, 20] = 1.0
    near = near_traffic(anchor, 8).reshape(8, 8)
    assert near[1:4, 1:4].all()
    assert near.sum() == 9


def test_candidate_without_finite_states_gets_nan_alone(model):
    plans = plans_of(3)
    controls = plans.controls.copy()
    controls[1, 7] = np.nan
    context, noise = model.encode(raster_of()), NoiseBank(3, 1)
    imagined = model.imagine(context, Plans.from_controls(controls, 8.0), noise)
    assert torch.isnan(imagined.occupancy[1]).all()
    assert torch.equal(imagined.occupancy[[0, 2]], model.imagine(context, plans, noise).occupancy[[0, 2]])


def test_short_plans_foreign_rasters_and_foreign_objectives_are_refused(model):
    raster = raster_of()
    with pytest.raises(InputError, match=r"1\.5 s, expected at least the model's horizon 2\.0 s"):
        model.imagine(model.encode(raster), Plans.from_controls(np.zeros((1, 15, 2)), 8.0), NoiseBank(0, 1))
    with pytest.raises(InputError, match="grid"):
        model.encode(SceneRaster("s", "d", GRIDS["small"], raster.static, raster.history, raster.start))
    with pytest.raises(InputError, match="asked for v on the cosine schedule, expected the trained x0"):
        model.sampled(objective="v")


def test_checkpoint_keeps_options_and_imagines_the_same(model, tmp_path):
    config = {"dit": asdict(model.network.options)}
    card = Card(kind="dit", preset="nano", horizon=4, weights_sha256="", config=config, data={}, groups=("a",),
                metrics=())  # fmt: skip
    checkpoint.save(tmp_path, model.network, card)
    loaded = checkpoint.load(tmp_path)
    assert loaded.sampling == model.sampling
    context, plans, noise = model.encode(raster_of()), plans_of(2), NoiseBank(1, 1)
    wanted = model.imagine(context, plans, noise)
    assert torch.equal(loaded.imagine(loaded.encode(raster_of()), plans, noise).latents, wanted.latents)


def test_the_ego_enters_by_its_action_and_its_footprints():
    network = network_of(0.08)
    raster = raster_of()
    with torch.no_grad():
        state = network.begin(raster.static[None], raster.history[None])
        anchor, noise = anchor_of(state, network.preset), torch.zeros(1, *network.latent_shape)
        boxes = torch.zeros(1, 2, 64, 96)
        here = boxes.clone()
        here[:, :, 30:34, 46:51] = 1.0
        calm, hard = torch.tensor([[4.0, 0.0, 0.0, 8.0]]), torch.tensor([[2.0, 0.0, 0.0, 2.0]])
        made = [
            network.sample(state, anchor, Action(shown, step), noise, network.options)
            for shown, step in ((here, calm), (boxes, calm), (here, hard))
        ]
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
