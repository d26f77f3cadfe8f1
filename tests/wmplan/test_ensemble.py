"""Ensembles: one member is that member, samples are shared out, the law of total variance splits Vista's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_ar import make_raster, plans_of

from critics.vista import latent_variance
from experiments.assembly import build_composite, build_model, forecast_cleared, model_spec, trained_groups
from wmplan.contracts import GRIDS
from wmplan.errors import InputError
from wmplan.models import ConstantVelocity, Persistence, load_model, members_of
from wmplan.models.checkpoint import read_card
from wmplan.models.ensemble import Ensemble, split_variance
from wmplan.models.regression_model import pooled
from wmplan.randomness import NoiseBank
from wmplan.testing import check_world_model, some_plans

NANO = Path(__file__).resolve().parents[2] / "experiments" / "checkpoints" / "nano"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_one_member_is_that_member_to_the_bit():
    raster, plans, noise = make_raster(), plans_of(2), NoiseBank(3, 3, first=1)
    alone, within = load_model(NANO), load_model(f"ensemble:{NANO}")
    first, second = (model.imagine(model.encode(raster), plans, noise) for model in (alone, within))
    for name in ("occupancy", "velocity", "latents"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert (first.occupancy[:, 0] - first.occupancy[:, 1]).abs().max() > 1e-3


def test_samples_are_divided_and_every_member_draws_the_same_noise():
    raster, plans = make_raster(), plans_of(2)
    nano, still = load_model(NANO), Persistence()
    both = Ensemble([nano, still])
    imagined = both.imagine(both.encode(raster), plans, NoiseBank(3, 5))
    own = nano.imagine(nano.encode(raster), plans, NoiseBank(3, 3))
    assert torch.equal(imagined.occupancy[:, ::2], own.occupancy)
    assert torch.equal(imagined.velocity[:, ::2], own.velocity)
    later = both.imagine(both.encode(raster), plans, NoiseBank(3, 4, first=3))
    assert torch.equal(later.occupancy[:, :2], imagined.occupancy[:, 3:])
    assert torch.equal(later.occupancy[:, 3], nano.imagine(nano.encode(raster), plans, NoiseBank(3, 4)).occupancy[:, 3])
    present = still.imagine(still.encode(raster), plans, NoiseBank(3, 2))
    assert torch.equal(imagined.occupancy[:, 1::2], present.occupancy)
    assert torch.equal(imagined.latents, pooled(imagined.occupancy))


def test_contract():
    raster = make_raster()
    plans = some_plans(raster.start)
    check_world_model(Ensemble([ConstantVelocity(), Persistence(), ConstantVelocity()]), [raster], plans, samples=4)
    check_world_model(load_model(f"ensemble:cv,{NANO}"), [raster], plans.select([0, 3, 6]), samples=2)


def test_baselines_take_the_grid_of_the_learned_members_and_the_horizon_is_the_shortest():
    small = load_model("ensemble:cv,persistence", GRIDS["small"], 4)
    assert (small.grid, small.horizon) == (GRIDS["small"], 4)
    mixed = load_model(f"ensemble:cv,{NANO}", GRIDS["small"], 8)
    assert (mixed.grid, mixed.horizon) == (GRIDS["nano"], 6)
    assert mixed.digest != load_model(f"ensemble:{NANO},cv").digest
    with pytest.raises(InputError, match="ensemble: members work on different rasters"):
        Ensemble([ConstantVelocity(GRIDS["nano"]), ConstantVelocity(GRIDS["small"])])
    with pytest.raises(InputError, match="no members"):
        Ensemble([])
    with pytest.raises(InputError, match="nonsense: not found"):
        load_model("ensemble:cv,nonsense")


def test_commands_take_an_ensemble_by_the_names_of_its_members():
    spec = model_spec("ensemble:nano, cv")
    assert members_of(spec) == (str(NANO), "cv")
    assert build_model(spec, 3.0).name == "ensemble"
    assert trained_groups(spec) == frozenset(read_card(NANO).groups)
    assert forecast_cleared(spec) is None
    assert len(build_composite(spec, 3.0, weights_of()).critics) == 2
    with pytest.raises(InputError, match="'nonsense' is not known"):
        model_spec("ensemble:nano,nonsense")


def weights_of():
    from critics import CostWeights

    return CostWeights()


# -------------------------------------------------------------------------------------------------- variance


def test_law_of_total_variance_adds_up_to_vistas_variance():
    latents = torch.randn(5, 12, 2, 30, generator=torch.Generator().manual_seed(0))
    latents[:, ::3] += 2.0
    split = split_variance(latents, 3)
    assert np.allclose(split.total, latent_variance(latents), rtol=1e-12)
    assert np.allclose(split.epistemic + split.aleatoric, split.total, rtol=1e-12)
    assert (split.epistemic > 0.5).all()
    for rows in ([3], [4, 0], []):
        assert np.array_equal(split_variance(latents[rows], 3).epistemic, split.epistemic[rows])


def test_equal_members_have_aleatoric_variance_alone_and_certain_ones_epistemic():
    draws = torch.randn(2, 4, 1, 50, generator=torch.Generator().manual_seed(1))
    same = split_variance(draws.repeat_interleave(3, dim=1), 3)
    assert np.allclose(same.epistemic, 0.0, atol=1e-12)
    assert (same.aleatoric > 0.1).all()
    sure = split_variance(draws.repeat(1, 3, 1, 1), 4)
    assert np.allclose(sure.aleatoric, 0.0, atol=1e-12)
    assert np.allclose(sure.epistemic, sure.total)


def test_unbiased_parts_find_the_variances_that_made_the_samples():
    """Members' means with variance 0.09, samples round them with variance 1: few samples make the plain parts wrong."""
    generator = torch.Generator().manual_seed(2)
    members, each, elements = 4, 2, 40000
    means = 0.3 * torch.randn(1, 1, members, 1, elements, generator=generator)
    draws = means + torch.randn(1, each, members, 1, elements, generator=generator)
    split = split_variance(draws.reshape(1, each * members, 1, elements), members)
    epistemic, aleatoric = split.unbiased
    assert epistemic[0] == pytest.approx(0.09, abs=0.02)
    assert aleatoric[0] == pytest.approx(1.0, abs=0.02)
    assert split.epistemic[0] > 0.4


def test_samples_that_members_do_not_divide_are_refused():
    with pytest.raises(InputError, match="variance: 5 samples of 2 members"):
        split_variance(torch.zeros(1, 5, 1, 1), 2)
    with pytest.raises(InputError, match="2 members with 1 samples each"):
        _ = split_variance(torch.zeros(1, 2, 1, 1), 2).unbiased
