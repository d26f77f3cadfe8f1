"""The winner's curse: closed forms for noise, exact sub-pools, the gate; placebos that keep all but one thing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wmplan.statistics import spearman
from wmplan.statistics.placebos import permuted_labels, scene_mean, shuffled_candidates
from wmplan.statistics.selection import expected_maximum, selection_curve


def names(count: int) -> list[str]:
    return [f"s{i}" for i in range(count)]


def test_the_expected_maximum_has_its_known_values() -> None:
    assert expected_maximum(1) == pytest.approx(0.0, abs=1e-9)
    assert expected_maximum(2) == pytest.approx(1.0 / np.sqrt(np.pi))
    assert expected_maximum(3) == pytest.approx(1.5 / np.sqrt(np.pi))
    draws = np.random.default_rng(0).standard_normal((4000, 1024)).max(1)
    assert expected_maximum(1024) == pytest.approx(draws.mean(), abs=4 * draws.std() / np.sqrt(4000))


def test_a_critic_of_noise_only_shows_the_predicted_curse() -> None:
    """Imagined gain grows with the pool, real gain stays 0."""
    rng = np.random.default_rng(1)
    real = rng.standard_normal((300, 256))
    noise = 0.7 * rng.standard_normal((300, 256))
    sizes = (1, 4, 16, 64, 256)
    found = selection_curve(estimate=noise, real=real, sizes=sizes, scenes=names(300), seed=0, resamples=300)
    for size, imagined, gain, curse in zip(sizes, found.imagined_gain, found.real_gain, found.curse):
        assert imagined.value == pytest.approx(0.7 * expected_maximum(size), abs=0.04)
        assert gain.low - 0.03 <= 0.0 <= gain.high + 0.03
        assert curse.value == pytest.approx(imagined.value - gain.value)
    assert found.refused == pytest.approx((0.0,) * 5, abs=1e-9)
    # Half of the variance is noise: of the gain that is imagined, half is real.
    half = selection_curve(
        estimate=real + rng.standard_normal((300, 256)), real=real, sizes=(64,), scenes=names(300), seed=0
    )
    assert half.real_gain[0].value == pytest.approx(0.5 * half.imagined_gain[0].value, rel=0.06)


def test_sub_pools_and_ties_are_the_mean_over_all_of_them() -> None:
    rng = np.random.default_rng(2)
    estimate, real = rng.integers(0, 3, (4, 6)).astype(float), rng.standard_normal((4, 6))
    gate = rng.random((4, 6)) < 0.6
    gate[:, 0] = True
    for allowed in (None, gate):
        found = selection_curve(
            estimate=estimate, real=real, sizes=(1, 2, 4, 6), scenes=names(4), seed=0, gate=allowed, resamples=100
        )
        for at, size in enumerate((1, 2, 4, 6)):
            scenes, nothing = [], []
            for s in range(4):
                gains, empty = [], 0
                for pool in itertools.combinations(range(6), size):
                    open_ = [k for k in pool if allowed is None or allowed[s, k]]
                    empty += not open_
                    best = [k for k in open_ if estimate[s, k] == max(estimate[s, j] for j in open_)]
                    gains += [float(real[s, best].mean())] if best else []
                scenes.append(np.mean(gains) - real[s].mean())
                nothing.append(empty / len(list(itertools.combinations(range(6), size))))
            assert found.real_gain[at].value == pytest.approx(np.mean(scenes))
            assert found.refused[at] == pytest.approx(np.mean(nothing), abs=1e-12)


def test_a_gate_that_knows_where_the_noise_is_takes_the_curse_away() -> None:
    rng = np.random.default_rng(3)
    real = rng.standard_normal((200, 128))
    off = rng.random((200, 128)) < 0.2
    estimate = real + np.where(off, 4.0, 0.2) * rng.standard_normal((200, 128))
    free, gated = (
        selection_curve(
            estimate=estimate, real=real, sizes=(8, 128), scenes=names(200), seed=0, gate=gate, resamples=100
        )
        for gate in (None, ~off)
    )
    assert gated.curse[1].value < 0.1 * free.curse[1].value
    assert gated.real_gain[1].value > free.real_gain[1].value + 1.0


def test_the_input_order_of_candidates_does_not_matter_and_bad_input_is_refused() -> None:
    rng = np.random.default_rng(4)
    estimate, real = rng.integers(0, 4, (3, 9)).astype(float), rng.standard_normal((3, 9))
    order = rng.permutation(9)
    one = selection_curve(estimate=estimate, real=real, sizes=(3,), scenes=names(3), seed=0)
    two = selection_curve(estimate=estimate[:, order], real=real[:, order], sizes=(3,), scenes=names(3), seed=0)
    assert one.curse[0].value == pytest.approx(two.curse[0].value)
    with pytest.raises(ValueError, match="pool size 10"):
        selection_curve(estimate=estimate, real=real, sizes=(10,), scenes=names(3), seed=0)
    with pytest.raises(ValueError, match="not finite"):
        selection_curve(estimate=estimate * np.nan, real=real, sizes=(1,), scenes=names(3), seed=0)
    none = selection_curve(
        estimate=estimate, real=real, sizes=(2,), scenes=names(3), seed=0, gate=np.zeros((3, 9), bool)
    )
    assert none.refused == (1.0,)
    assert not none.curse[0].valid


# ---------------------------------------------------------------------------------------------------- placebos


def table(scenes: int, each: int) -> tuple[list[str], np.ndarray]:
    rows = [f"s{i:02d}" for i in range(scenes) for _ in range(each)]
    return rows, np.arange(float(scenes * each))


def test_candidates_trade_what_was_imagined_within_their_scene_only() -> None:
    scenes, values = table(40, 6)
    both = np.stack([values, 2.0 * values], axis=1)
    shuffled = shuffled_candidates(both, scenes, 0)
    assert (shuffled[:, 1] == 2.0 * shuffled[:, 0]).all()
    for s in range(40):
        assert sorted(shuffled[6 * s : 6 * s + 6, 0]) == values[6 * s : 6 * s + 6].tolist()
    assert 0.05 < (shuffled[:, 0] == values).mean() < 0.3  # one in six stays where it was
    assert not (permuted_labels(both, scenes, 0) == shuffled).all()
    agreed = [
        spearman(estimate=shuffled[6 * s : 6 * s + 6, 0], real=values[6 * s : 6 * s + 6]).value for s in range(40)
    ]
    assert abs(np.mean(agreed)) < 0.25


def test_what_a_scene_draws_depends_on_its_name_and_the_seed_alone() -> None:
    scenes, values = table(3, 8)
    whole = shuffled_candidates(values, scenes, 5)
    assert (shuffled_candidates(values[8:16], scenes[8:16], 5) == whole[8:16]).all()
    assert not (shuffled_candidates(values, scenes, 6) == whole).all()


def test_the_scene_mean_leaves_differences_between_scenes_and_none_within() -> None:
    scenes = ["b", "a", "b", "a"]
    values = np.array([[1.0, 5.0], [2.0, np.inf], [3.0, 7.0], [4.0, 1.0]])
    found = scene_mean(values, scenes)
    assert found[:, 0].tolist() == [2.0, 3.0, 2.0, 3.0]
    assert found[[0, 2], 1].tolist() == [6.0, 6.0]
    assert np.isnan(found[[1, 3], 1]).all()
