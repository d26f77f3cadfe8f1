"""Noise belongs to its purpose."""

from __future__ import annotations

import numpy as np

from wmplan.randomness import NoiseBank, fold_in


def test_fold_in_tells_purposes_and_types_apart():
    seeds = {fold_in(1, "scene", 2), fold_in(1, "scene", "2"), fold_in(2, "scene", 2), fold_in(1, "scene2"), fold_in(1)}
    assert len(seeds) == 5
    assert fold_in(1, "scene", 2) == 4758160026847128269


def test_sample_m_does_not_depend_on_how_many_samples_there_are():
    few, many = NoiseBank(7, 2), NoiseBank(7, 5)
    np.testing.assert_array_equal(few.gumbel("code", 3, (4,)), many.gumbel("code", 3, (4,))[:2])


def test_steps_and_purposes_are_independent_and_gumbel_has_its_moments():
    bank = NoiseBank(3, 40)
    a, b = bank.gumbel("code", 0, (500,)), bank.gumbel("code", 1, (500,))
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02
    assert abs(a.mean() - np.euler_gamma) < 0.03
    assert abs(a.var() - np.pi**2 / 6) < 0.08
