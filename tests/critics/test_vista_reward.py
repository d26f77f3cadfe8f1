"""Vista's reward against its closed form."""

import dataclasses

import numpy as np
import pytest
import torch

from critics import VistaConfig, VistaCritic
from wmplan.errors import InputError


def terms(toy, imagined, critic=None):
    plans = toy.constant([0.0] * imagined.latents.shape[0])
    return (critic or VistaCritic()).terms(toy.context(toy.start()), plans, imagined)


def test_two_samples_a_distance_apart(toy):
    # Samples -d and +d: unbiased variance 2 d^2 in half of the elements, 0 in the other half.
    imagined = toy.boxes(3, [])
    latents = torch.zeros(3, 2, 6, 4)
    for k, d in enumerate((0.0, 0.5, 1.0)):
        latents[k, 0, :, :2], latents[k, 1, :, :2] = -d, d
    out = terms(toy, dataclasses.replace(imagined, latents=latents))
    np.testing.assert_allclose(out.column("vista_log_reward"), [0.0, -0.25, -1.0], rtol=1e-6)
    np.testing.assert_allclose(out.column("vista_reward"), np.exp([0.0, -0.25, -1.0]), rtol=1e-6)


def test_the_variance_is_unbiased(toy):
    rng = np.random.default_rng(0)
    latents = torch.from_numpy(rng.normal(0.0, 0.7, (1, 2, 6, 20000)).astype(np.float32))
    out = terms(toy, dataclasses.replace(toy.boxes(1, []), latents=latents))
    assert out.column("vista_log_reward")[0] == pytest.approx(-0.49, abs=0.01)


def test_more_samples_change_the_estimate_but_not_its_mean(toy):
    rng = np.random.default_rng(1)
    for samples in (2, 3, 8):
        latents = torch.from_numpy(rng.normal(size=(1, samples, 6, 5000)).astype(np.float32))
        base = toy.boxes(1, [], samples=samples)
        assert terms(toy, dataclasses.replace(base, latents=latents)).values[0, 1] == pytest.approx(-1.0, abs=0.03)


def test_swept_looks_near_the_path_only(toy):
    def with_disagreement(x: int, y: int):
        imagined = toy.boxes(1, [])
        occupancy = imagined.occupancy.clone()
        occupancy[:, 0, :, 0, y, x] = 1.0
        return dataclasses.replace(imagined, occupancy=occupancy)

    near, far = with_disagreement(58, 34), with_disagreement(58, 45)  # 2.5 m and 13.5 m to the left of the ego's path
    assert terms(toy, near).column("vista_swept")[0] < 0.0
    assert terms(toy, far).column("vista_swept")[0] == 0.0
    wide = VistaCritic(VistaConfig(reach_m=16.0))
    assert terms(toy, far, wide).column("vista_swept")[0] < 0.0


def test_one_sample_has_no_variance(toy):
    with pytest.raises(InputError, match="1 imagined sample"):
        terms(toy, toy.boxes(1, [], samples=1))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_latents_stay_in_their_row(toy, bad):
    imagined = toy.random(3)
    latents = imagined.latents.clone()
    latents[1, 0, 0, 0] = bad
    whole, hurt = terms(toy, imagined), terms(toy, dataclasses.replace(imagined, latents=latents))
    assert not np.isfinite(hurt.values[1, 1])
    assert hurt.values[[0, 2]].tobytes() == whole.values[[0, 2]].tobytes()


@pytest.mark.parametrize(("members", "samples"), [(2, 4), (3, 6), (3, 4), (2, 2)])
def test_the_parts_of_an_ensemble_add_up_and_are_those_of_the_law_of_total_variance(toy, members, samples):
    from wmplan.models.ensemble import split_variance

    rng = np.random.default_rng(3)
    latents = torch.from_numpy(rng.normal(size=(2, samples, 6, 50)).astype(np.float32))
    latents[1] += torch.arange(samples)[:, None, None] % members  # members of the second candidate do not agree
    imagined = dataclasses.replace(toy.boxes(2, [], samples=samples), latents=latents)
    out = terms(toy, imagined, VistaCritic(VistaConfig(members=members)))
    assert out.columns == (*VistaCritic.columns, "vista_epistemic", "vista_aleatoric")
    parts = out.column("vista_epistemic") + out.column("vista_aleatoric")
    np.testing.assert_allclose(parts, out.column("vista_log_reward"), rtol=1e-5)
    if samples % members == 0:
        split = split_variance(latents, members)
        np.testing.assert_allclose(out.column("vista_epistemic"), -split.epistemic, rtol=1e-5)
        np.testing.assert_allclose(out.column("vista_aleatoric"), -split.aleatoric, rtol=1e-5, atol=1e-9)
    assert out.column("vista_epistemic")[1] < out.column("vista_epistemic")[0]
    if samples == members:
        assert (out.column("vista_aleatoric") == 0.0).all()


def test_one_model_has_no_parts_and_its_digest_does_not_know_of_members(toy):
    assert VistaCritic(VistaConfig(members=1)).digest == VistaCritic().digest
    assert VistaCritic(VistaConfig(members=2)).digest != VistaCritic().digest
    assert VistaCritic().columns == VistaCritic.columns == ("vista_reward", "vista_log_reward", "vista_swept")
    with pytest.raises(ValueError, match="members is 0, expected 1 or more"):
        VistaConfig(members=0)
