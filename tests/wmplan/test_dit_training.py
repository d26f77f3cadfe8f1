"""Training of the diffusion model: it learns what the log holds, leaves the tokenizer alone after its stage, goes on
where it was killed; its calibration undoes what a sampler inflates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wmplan.contracts import GRIDS, RASTER_HISTORY
from wmplan.models.dit import DiffusionNetwork
from wmplan.models.dit_options import OBJECTIVES, DitOptions
from wmplan.models.presets import PRESETS
from wmplan.models.training import Examples, Settings, measure, train
from wmplan.models.training.dit_calibrate import fit_spread, forecast_dit, spread_of, true_and_sampled
from wmplan.models.training.dit_stages import dit_loss

GRID, AHEAD = GRIDS["nano"], 3


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def examples_of(scenes: int, braking: float = 3.0) -> Examples:
    """Three cars a scene on straight lines that all brake at this rate from t0 on, which nothing before tells."""
    rng = np.random.default_rng(0)
    frames, agents = RASTER_HISTORY + AHEAD, 3
    place = rng.uniform([-8.0, -20.0], [30.0, 20.0], (scenes, agents, 2))
    yaw, speed = rng.uniform(-3.0, 3.0, (scenes, agents)), rng.uniform(5.0, 9.0, (scenes, agents))
    heading = np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
    states = np.zeros((scenes, frames, agents, 5), np.float32)
    for f in range(frames):
        time = 0.5 * (f - RASTER_HISTORY + 1)
        lost = braking * max(time, 0.0)
        way = speed * time - 0.5 * lost * max(time, 0.0)
        states[:, f, :, :2] = place + way[..., None] * heading
        states[:, f, :, 2] = yaw
        states[:, f, :, 3:] = (speed - lost)[..., None] * heading
    ego = np.zeros((scenes, frames, 4), np.float32)
    ego[:, :, 0], ego[:, :, 3] = 4.0 * (np.arange(frames) - RASTER_HISTORY + 1), 8.0
    sizes = np.tile(np.float32([4.6, 2.0]), (scenes, agents, 1))
    return Examples(
        scene_ids=tuple(f"s{i}" for i in range(scenes)),
        groups=tuple(f"g{i}" for i in range(scenes)),
        static=np.zeros((scenes, 8, GRID.rows, GRID.cols), np.uint8),
        observed=np.ones((scenes, GRID.rows, GRID.cols), np.uint8),
        states=states,
        sizes=sizes,
        kinds=np.zeros((scenes, agents), np.int8),
        valid=np.ones((scenes, frames, agents), bool),
        ego=ego,
        ego_size=sizes[:, 0].copy(),
        grid=GRID,
    )


SMALL = Settings(family="dit", steps=(3, 2, 3), batch=2, horizon=AHEAD, threads=1, checkpoint_s=0.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    examples = examples_of(2)
    settings = replace(SMALL, steps=(25, 10, 30), learning_rate=4e-3, checkpoint_s=1e9, null_share=0.3)
    network, curve = train(examples, settings, tmp_path_factory.mktemp("dit"))
    return examples, settings, network, curve


def test_overfits_and_beats_constant_velocity_there(trained):
    examples, _, network, _ = trained
    measured = measure(network, examples, samples=2, horizon=AHEAD, forecast=forecast_dit)
    gain = measured.mean("model") - measured.mean("cv")
    # After 1.5 s the braking cars are 3.4 m behind their constant-velocity places.
    assert (gain[1:] > 0.2).all()


def test_sampled_latents_are_the_encoders_where_only_one_future_is_known(trained):
    examples, settings, network, _ = trained
    true, sampled = true_and_sampled(network, examples, horizon=1)
    for drawn in sampled.reshape(2, *true.shape):  # two samples of every patch
        said = torch.corrcoef(torch.stack([true.flatten(), drawn.flatten()]))[0, 1]
        assert float(said) > 0.7
    found = fit_spread(network, examples, settings)
    raw = torch.tensor(found["std_ratio"])
    again = spread_of(true_and_sampled(network, examples, AHEAD)[1], true_and_sampled(network, examples, AHEAD)[0])
    assert torch.allclose(again.ratio, raw, atol=1e-3)  # what is fitted is left out of what is fitted on


def test_the_tokenizer_is_left_alone_after_its_stage(tmp_path):
    states = {}

    def keep(progress):
        states[(progress.stage, progress.step)] = None

    examples = examples_of(2)
    first, _ = train(examples, replace(SMALL, steps=(3, 0, 0)), tmp_path / "a")
    whole, _ = train(examples, replace(SMALL, steps=(3, 2, 2), average=0.0), tmp_path / "b", keep)
    only, _ = train(examples, replace(SMALL, steps=(3, 0, 0), average=0.0), tmp_path / "c")
    for name, value in only.tokenizer.state_dict().items():
        assert torch.equal(value, whole.tokenizer.state_dict()[name]), name
    assert any(not torch.equal(a, b) for a, b in zip(only.denoiser.parameters(), whole.denoiser.parameters()))
    assert first is not None
    assert set(states) == {("tokenizer", 1), ("tokenizer", 2), ("tokenizer", 3), ("denoise", 1), ("denoise", 2),
                           ("on_policy", 1), ("on_policy", 2)}  # fmt: skip


def test_killed_training_resumes_to_the_same_weights(tmp_path):
    examples = examples_of(4)
    settings = replace(SMALL, dit=DitOptions(autoguidance=True))
    whole, curve = train(examples, settings, tmp_path / "whole")

    def kill(progress):
        if (progress.stage, progress.step) == ("denoise", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(examples, settings, tmp_path / "killed", kill)
    again, curve_again = train(examples, settings, tmp_path / "killed")
    assert curve == curve_again
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    # The weaker model is an average of the single-step stage: neither the start nor the end.
    assert not torch.equal(whole.weaker.head.weight, whole.denoiser.head.weight)
    assert whole.weaker.head.weight.abs().max() > 0.0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_has_a_finite_loss_and_gradient(objective):
    examples = examples_of(4)
    options = DitOptions(objective=objective, schedule="linear" if objective == "flow" else "cosine")
    settings = replace(SMALL, dit=options)
    torch.manual_seed(0)
    network = DiffusionNetwork(PRESETS["nano"], options)
    loss = dit_loss(
        "on_policy", network, examples.batch(np.arange(4)), settings, 2, 0, torch.Generator().manual_seed(0)
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert float(network.denoiser.head.weight.grad.abs().max()) > 0.0
    assert all(parameter.grad is None for parameter in network.tokenizer.parameters())


# --------------------------------------------------------------------------------------------- calibration


@pytest.mark.parametrize(("inflation", "alarm"), [(1.1, False), (2.4, True)])
def test_calibration_undoes_a_planted_inflation(inflation, alarm):
    generator = torch.Generator().manual_seed(0)
    scale, mean = torch.tensor([0.1, 0.3, 0.2]), torch.tensor([0.0, 0.2, -0.1])
    true = mean + scale * torch.randn(5000, 3, generator=generator)
    sampled = 0.05 + inflation * (mean + scale * torch.randn(5000, 3, generator=generator))
    spread = spread_of(sampled, true)
    assert torch.allclose(spread.ratio, torch.tensor(inflation), rtol=0.05)
    assert spread.alarm == alarm
    corrected = spread.gain * sampled + spread.shift
    assert torch.allclose(corrected.mean(0), true.mean(0), atol=1e-5)
    assert torch.allclose(corrected.std(0), true.std(0), rtol=1e-4)
    assert not spread_of(corrected, true).alarm


def test_calibration_spreads_collapsed_samples_only_so_far():
    true = torch.randn(5000, 1, generator=torch.Generator().manual_seed(0))
    spread = spread_of(0.5 * true, true)
    assert spread.alarm
    assert float(spread.gain) == pytest.approx(1.25)
    assert torch.equal(spread_of(true, true).gain, torch.ones(1))


def test_an_uncalibrated_network_is_not_changed():
    network = DiffusionNetwork(PRESETS["nano"], DitOptions())
    assert torch.equal(network.gain, torch.ones(4))
    assert torch.equal(network.shift, torch.zeros(4))
