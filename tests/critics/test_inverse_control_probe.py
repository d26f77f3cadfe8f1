"""The probe finds a reaction that is there, and none where there is none."""

import numpy as np
import pytest
import torch

from critics import InverseControlProbe, collect_responses, probe_summary
from critics.inverse_control import ProbeExamples, mean_accel, probe_features, sweep_plans
from wmplan.contracts import GRIDS, Context, Imagined
from wmplan.errors import InputError
from wmplan.models.baselines import ConstantVelocity
from wmplan.randomness import NoiseBank
from wmplan.raster import draw_boxes


class Reactive:
    """A follower behind the ego copies its acceleration; `gain` 0 ignores it. Test double of a world model, not of
    anything under test."""

    name, digest, grid, horizon = "reactive", "reactive", GRIDS["nano"], 6

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def encode(self, raster):
        return Context(raster, None)

    def imagine(self, context, plans, noise):
        k, m = len(plans), noise.samples
        time = 0.5 * np.arange(1, 7)
        accel = self.gain * mean_accel(plans)[:, None, None]
        jitter = noise.uniform("jitter", 0, (1,))[None] * 0.2
        x = -9.0 + 8.0 * time + 0.5 * accel * time**2 + jitter
        states = np.stack([x, np.zeros_like(x), np.zeros_like(x)], axis=-1).astype(np.float32)
        drawn = draw_boxes(
            torch.from_numpy(states)[:, :, :, None],
            torch.tensor([[4.6, 1.9]]),
            torch.ones(1, dtype=torch.bool),
            self.grid,
        )
        occupancy = torch.stack([drawn, torch.zeros_like(drawn)], dim=3)
        speed = torch.from_numpy((8.0 + accel * time + 0.0 * jitter).astype(np.float32))[..., None, None]
        velocity = torch.stack([speed * (drawn > 0.05), torch.zeros_like(drawn)], dim=3)
        return Imagined(occupancy, velocity, torch.zeros(k, m, 6, 1), self.grid)


def rasters(toy, count):
    for i in range(count):
        history = torch.zeros(4, 5, toy.grid.rows, toy.grid.cols)
        history[-1, 0] = draw_boxes(
            torch.tensor([[-9.0, 0.0, 0.0]]), torch.tensor([[4.6, 1.9]]), torch.ones(1, dtype=torch.bool), toy.grid
        )
        history[-1, 2] = 8.0 * (history[-1, 0] > 0.05)
        raster = toy.context(toy.start(12.0 + 0.2 * i), history=history).raster
        yield type(raster)(f"scene{i}", raster.digest, raster.grid, raster.static, raster.history, raster.start)


def noise(scene_id: str) -> NoiseBank:
    return NoiseBank(len(scene_id), 2)


def fitted(toy, model):
    return InverseControlProbe.fit(collect_responses(model, rasters(toy, 12), noise))


def test_a_reaction_is_recovered(toy):
    model = Reactive(0.7)
    probe = fitted(toy, model)
    summary = probe_summary(probe, collect_responses(model, rasters(toy, 8), noise), resamples=200)
    assert summary.rho_all.value > 0.95
    assert summary.coverage.value == 1.0
    assert summary.mae.value < 0.5 * summary.constant < summary.chance
    assert summary.rho_all.low <= summary.rho_all.value <= summary.rho_all.high


def test_a_model_that_ignores_the_ego_is_silent(toy):
    model = ConstantVelocity()
    summary = probe_summary(fitted(toy, model), collect_responses(model, rasters(toy, 8), noise), resamples=200)
    assert summary.coverage.value == 0.0
    assert np.isnan(summary.rho_valid.value)
    assert summary.rho_all.value == 0.0
    assert summary.mae.value > 0.9 * summary.constant


def test_permuted_commands_cannot_be_learned(toy):
    real = collect_responses(Reactive(0.7), rasters(toy, 12), noise)
    rng = np.random.default_rng(0)
    placebo = InverseControlProbe.fit(ProbeExamples(real.features, rng.permutation(real.commands), real.scenes))
    test = collect_responses(Reactive(0.7), rasters(toy, 8), noise)
    assert (
        probe_summary(placebo, test, resamples=100).mae.value
        > 0.8 * probe_summary(placebo, test, resamples=100).constant
    )


def test_error_column_is_the_distance_to_the_command(toy):
    model = Reactive(0.7)
    probe = fitted(toy, model)
    raster = next(iter(rasters(toy, 1)))
    plans = sweep_plans(raster.start, 30)
    terms = probe.terms(model.encode(raster), plans, model.imagine(model.encode(raster), plans, noise("x")))
    expected = np.abs(terms.column("probe_accel") - mean_accel(plans))
    np.testing.assert_allclose(terms.column("probe_error"), expected, atol=1e-5)
    assert np.all(np.diff(terms.column("probe_accel")) > 0.0)


def test_features_are_zero_when_the_others_keep_their_velocity(toy):
    raster = next(iter(rasters(toy, 1)))
    model = Reactive(0.0)
    imagined = model.imagine(model.encode(raster), sweep_plans(raster.start, 30), NoiseBank(0, 2))
    features = probe_features(raster, imagined)
    assert np.all(features == features[:1])  # and the same for every command
    moved = probe_features(
        raster, Reactive(1.0).imagine(model.encode(raster), sweep_plans(raster.start, 30), NoiseBank(0, 2))
    )
    assert np.abs(features).max() < 0.2 * np.abs(moved).max()


def test_chance_of_uniform_commands():
    # For commands spread over the range a uniform guess errs by a third of it on average, the best constant by 1/4.
    commands = np.linspace(-4.0, 2.0, 601)
    features = np.random.default_rng(0).normal(size=(601, 3))
    examples = ProbeExamples(features, commands, tuple(f"s{i % 10}" for i in range(601)))
    summary = probe_summary(InverseControlProbe.fit(examples), examples, resamples=20)
    assert summary.chance == pytest.approx(2.0, abs=0.01)
    assert summary.constant == pytest.approx(1.5, abs=0.01)


def test_saved_and_loaded_probe(tmp_path, toy):
    probe = fitted(toy, Reactive(0.7))
    probe.save(tmp_path / "probe.safetensors")
    again = InverseControlProbe.load(tmp_path / "probe.safetensors")
    examples = collect_responses(Reactive(0.7), rasters(toy, 2), noise)
    assert again.digest == probe.digest
    assert again.recover(examples.features).tobytes() == probe.recover(examples.features).tobytes()


def test_too_few_scenes(toy):
    with pytest.raises(InputError, match="3 scenes, expected at least 5"):
        InverseControlProbe.fit(collect_responses(Reactive(0.7), rasters(toy, 3), noise))
