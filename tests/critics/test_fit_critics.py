"""Fitted critics of a model: split by recording, saved beside it, loaded as one composite."""

import numpy as np
import pytest
import torch

from critics import FitConfig, LoggedAction, default_critics, fit_critics
from critics.fitting import calibrates
from wmplan.errors import InputError
from wmplan.models.baselines import ConstantVelocity
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank


def logged(toy, count: int, groups: int):
    rng = np.random.default_rng(0)
    for i in range(count):
        speed = float(rng.uniform(3.0, 14.0))
        history = torch.zeros(4, 5, toy.grid.rows, toy.grid.cols)
        history[-1, 0, 44, 52 + i % 30], history[-1, 2, 44, 52 + i % 30] = 1.0, 5.0  # 12.5 m aside
        raster = toy.context(toy.start(speed), history=history).raster
        raster = type(raster)(f"scene{i}", f"d{i}", raster.grid, raster.static, raster.history, raster.start)
        controls = rng.normal(size=(1, 1, 2)) * [0.7, 0.01] + np.zeros((1, 30, 2))
        yield LoggedAction(raster, Plans.from_controls(controls, speed), f"recording{i % groups}")


CONFIG = FitConfig(probe_scenes=10)


def test_fit_save_load_and_judge(tmp_path, toy):
    model = ConstantVelocity()
    fitted = fit_critics(model, logged(toy, 160, 40), CONFIG)
    fitted.save(tmp_path)
    composite, again = default_critics(fitted), default_critics(tmp_path)
    assert composite.digest == again.digest == default_critics(fit_critics(model, logged(toy, 160, 40), CONFIG)).digest
    assert fitted.summary.coverage.value == 0.0  # constant velocity does not react

    context = model.encode(next(logged(toy, 1, 1)).raster)
    usual = toy.constant([0.3], speed=context.raster.start.speed)
    odd = toy.constant([-6.0], speed=context.raster.start.speed, curvature=0.25)
    plans = Plans.concatenate([usual, odd])
    judged = again.judge(again.terms(context, plans, model.imagine(context, plans, NoiseBank(0, 2))))
    assert judged.verdict[0] == 0
    assert judged.verdict[1] >= 1
    assert judged.total[1] > judged.total[0]


def test_a_recording_is_on_one_side_only():
    sides = [calibrates(f"recording{i}", CONFIG) for i in range(2000)]
    assert np.mean(sides) == pytest.approx(CONFIG.calibration_share, abs=0.04)
    assert sides == [calibrates(f"recording{i}", CONFIG) for i in range(2000)]


def test_one_recording_is_not_enough(toy):
    with pytest.raises(InputError, match="use more recordings"):
        fit_critics(ConstantVelocity(), logged(toy, 40, 1), CONFIG)


def test_a_folder_without_critics(tmp_path):
    with pytest.raises(InputError, match=r"support\.safetensors: no such file"):
        default_critics(tmp_path)
