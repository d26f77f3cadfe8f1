"""Diffusion without a network: schedules at their limits, objectives that say the same, a Gaussian known in full."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from wmplan.models.dit_options import OBJECTIVES, SCHEDULES, DitOptions
from wmplan.models.dit_sampler import ddim, frame_noise, guided
from wmplan.models.dit_schedule import REST, clean_of, levels, wanted
from wmplan.randomness import NoiseBank

MEAN, STD = 0.7, 0.6
"""Of the toy: one Gaussian, whose best denoiser is linear in the noisy value."""


def best(schedule: str):
    """E[clean | noisy] of the Gaussian toy."""

    def denoise(noisy, time):
        alpha, sigma = levels(schedule, torch.tensor(time, dtype=torch.float64))
        return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (noisy - alpha * MEAN)

    return denoise


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedule_limits(schedule):
    time = torch.linspace(0.0, 1.0, 101, dtype=torch.float64)
    alpha, sigma = levels(schedule, time)
    assert (alpha[0], sigma[0]) == (1.0, 0.0)
    assert alpha[-1] == pytest.approx(REST)
    assert (alpha.diff() < 0).all()
    assert (sigma.diff() > 0).all()
    kept = alpha**2 + sigma**2 if schedule == "cosine" else alpha + sigma
    assert torch.allclose(kept, torch.ones_like(kept))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_says_the_same(schedule, objective):
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 50, 7, 4, generator=generator, dtype=torch.float64)
    time = torch.rand(50, 1, 1, generator=generator, dtype=torch.float64)
    alpha, sigma = levels(schedule, time)
    noisy = alpha * clean + sigma * noise
    found = clean_of(objective, wanted(objective, clean, noise, alpha, sigma), noisy, alpha, sigma)
    assert torch.allclose(found, clean, rtol=0.0, atol=1e-11)


def test_known_targets():
    clean, noise = torch.tensor(0.3), torch.tensor(-1.2)
    alpha, sigma = torch.tensor(0.8), torch.tensor(0.6)
    said = [float(wanted(o, clean, noise, alpha, sigma)) for o in ("x0", "eps", "v", "flow")]
    assert said == pytest.approx([0.3, -1.2, 0.8 * -1.2 - 0.6 * 0.3, -1.5])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_reproduces_mean_and_variance_of_a_gaussian(schedule):
    quantiles = torch.from_numpy(stats.norm.ppf((np.arange(2000) + 0.5) / 2000.0))
    spread = {}
    for steps in (1, 4, 50, 400):
        made = ddim(best(schedule), quantiles, schedule, steps)
        assert float(made.mean()) == pytest.approx(MEAN, abs=0.01)
        spread[steps] = float(made.std() / quantiles.std()) / STD
    assert spread[400] == pytest.approx(1.0, abs=0.01)
    assert spread[50] == pytest.approx(1.0, abs=0.04)
    # One step gives the mean: the price of few steps is spread.
    assert spread[1] < 0.02
    assert spread[1] < spread[4] < spread[50] < spread[400]


def test_ddim_from_any_objective_takes_the_same_path():
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=200))
    paths = []
    for objective in OBJECTIVES:

        def denoise(noisy, time, objective=objective):
            alpha, sigma = levels("cosine", torch.tensor(time, dtype=torch.float64))
            clean = best("cosine")(noisy, time)
            said = wanted(objective, clean, (noisy - alpha * clean) / sigma, alpha, sigma)
            return clean_of(objective, said, noisy, alpha, sigma)

        paths.append(ddim(denoise, noise, "cosine", 8))
    for path in paths[1:]:
        assert torch.allclose(path, paths[0], rtol=0.0, atol=1e-10)


def test_a_ddim_step_on_the_straight_path_is_an_euler_step_of_the_flow():
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=100))
    times = torch.linspace(1.0, 0.0, 6, dtype=torch.float64)
    sigmas = levels("linear", times)[1]
    x = noise
    for i in range(5):
        clean = best("linear")(x, float(times[i]))
        velocity = (x - clean) / sigmas[i]  # d x / d sigma, since x = (1 - sigma) clean + sigma noise
        x = x + (sigmas[i + 1] - sigmas[i]) * velocity
    assert torch.allclose(ddim(best("linear"), noise, "linear", 5), x, atol=1e-12)


def test_the_last_step_gives_the_clean_estimate_to_the_bit():
    estimate = torch.randn(64, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(64, generator=torch.Generator().manual_seed(4))
    assert torch.equal(ddim(lambda noisy, time: estimate, noise, "cosine", 3), estimate)


def test_guidance():
    strong, weak = torch.randn(2, 500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(guided(strong, weak, 1.0, 0.5), strong)
    assert torch.allclose(guided(strong, weak, 0.0, 100.0), weak, atol=1e-6)
    assert torch.allclose(guided(strong, weak, 2.0, 100.0), 2.0 * strong - weak, atol=1e-6)
    assert float((guided(strong, weak, 3.0, 0.25) - strong).abs().max()) <= 0.5 + 1e-6


def test_noise_is_normal_and_belongs_to_sample_and_step():
    bank = NoiseBank(5, 6)
    noise = frame_noise(bank, 2, (64, 4))
    assert torch.equal(noise[2:4], frame_noise(NoiseBank(5, 2, first=2), 2, (64, 4)))
    assert torch.equal(noise[:1], frame_noise(NoiseBank(5, 1), 2, (64, 4)))
    assert not torch.equal(noise, frame_noise(bank, 3, (64, 4)))
    many = frame_noise(NoiseBank(0, 4), 0, (5000,)).flatten().numpy()
    assert stats.kstest(many, "norm").pvalue > 0.01
    assert abs(float(np.corrcoef(many[:5000], many[5000:10000])[0, 1])) < 0.05
    assert math.isfinite(float(np.abs(many).max()))


@pytest.mark.parametrize(
    ("field", "value"),
    [("objective", "score"), ("schedule", "sigmoid"), ("steps", 0), ("action_dropout", 1.0), ("guidance", math.nan)],
)
def test_options_that_make_no_sense_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"DitOptions\.{field} is"):
        DitOptions(**{field: value})
    with pytest.raises(ValueError, match="expected autoguidance or action_dropout"):
        DitOptions(guidance=2.0, action_dropout=0.0)
