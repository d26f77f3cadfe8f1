"""L2: encounters read from frames, Wasserstein distances, energy distance, classifier test, conditional divergence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import norm, wasserstein_distance

from wmplan.contracts import GRIDS
from wmplan.scene import Kind
from wmplan.statistics import Measure
from wmplan.testing import Body, straight_road
from wmplan.validation import conditional, joint, marginals
from wmplan.validation.discrepancy import blocks, negative_distance
from wmplan.validation.encounters import Encounters, SceneEncounters, encounters, measure_encounters
from wmplan.validation.evidence import observe, oracle

NONE, NO_ROWS = np.zeros(0), np.zeros((0, 4))


def by_name(measures: list[Measure]) -> dict[str, Measure]:
    return {one.metric: one for one in measures}


def found(speed: ndarray = NONE, relations: Float[ndarray, "J 4"] = NO_ROWS) -> Encounters:
    return Encounters(speed, NONE, NONE, NONE, relations)


def scenes(true: list[Encounters], imagined: list[Encounters]) -> list[SceneEncounters]:
    """Two scenes a group."""
    return [SceneEncounters(f"s{i}", f"g{i // 2}", a, b) for i, (a, b) in enumerate(zip(true, imagined, strict=True))]


def test_encounters_of_a_drawn_scene_are_those_of_its_boxes() -> None:
    bodies = [
        Body(24.0, 0.0, speed=2.0),  # ahead in the ego's lane, slower
        Body(-12.0, 0.0, speed=6.0),  # behind, faster
        Body(33.0, 0.0, speed=4.0),  # far ahead: more than 10 s to a collision
        Body(10.0, 6.0, speed=5.0),  # beside: no gap
        Body(20.0, -12.0, math.pi / 2, 1.5, Kind.PEDESTRIAN, 0.9, 0.9),
    ]
    observed = observe(*straight_road(bodies, speed=5.0), GRIDS["small"], 6)
    one = encounters(observed.traces, observed)
    assert sorted(set(np.round(one.speed, 1))) == [1.5, 2.0, 4.0, 5.0, 6.0]
    seconds = 0.5 * np.arange(1, 7)
    far = 33.0 - seconds - 2.4
    expected = np.concatenate([24.0 - 3.0 * seconds - 2.4, 12.0 - 1.0 * seconds - 2.4, far])
    np.testing.assert_allclose(np.sort(one.gap), np.sort(expected), atol=0.15)
    times = np.concatenate([(24.0 - 3.0 * seconds - 2.4) / 3.0, (12.0 - seconds - 2.4) / 1.0, far / 1.0])
    assert (times > 10.0).sum() == 6
    np.testing.assert_allclose(np.sort(one.ttc), np.sort(times[times <= 10.0]), atol=0.15)
    headways = np.concatenate([(24.0 - 3.0 * seconds - 2.4) / 5.0, (12.0 - seconds - 2.4) / 6.0, far / 5.0])
    np.testing.assert_allclose(np.sort(one.thw), np.sort(headways), atol=0.05)
    assert len(one.relations) == 15  # three vehicles at steps 1 to 5
    np.testing.assert_allclose(np.unique(np.round(one.relations[:, 1], 1)), [-3.0, -1.0, 1.0])
    np.testing.assert_allclose(one.relations[:, 2:], 0.0, atol=0.1)
    row = measure_encounters(oracle(observed))
    assert row.imagined is not row.true
    np.testing.assert_array_equal(row.imagined.relations, row.true.relations)


def test_w1_is_that_of_scipy_and_a_shift_is_its_size() -> None:
    rng = np.random.default_rng(0)
    true = [found(rng.uniform(2.0, 12.0, 30)) for _ in range(12)]
    shifted = [found(one.speed + 2.0) for one in true]
    other = [found(rng.uniform(0.0, 9.0, 20)) for _ in true]
    assert by_name(marginals.summarise(scenes(true, shifted), 0))["w1, speed, m/s"].value == pytest.approx(
        2.0, abs=0.05
    )
    one = by_name(marginals.summarise(scenes(true, other), 0))
    pooled = [np.concatenate([x.speed for x in side]) for side in (true, other)]
    assert one["w1, speed, m/s"].value == pytest.approx(wasserstein_distance(*pooled), abs=0.05)
    assert one["w1, speed, m/s"].low < one["w1, speed, m/s"].value < one["w1, speed, m/s"].high
    assert one["number, speed, imagined over true"].value == pytest.approx(20 / 30)
    assert one["w1, gap, m"].reason == "no scene has a value"
    assert by_name(marginals.summarise(scenes(true, true), 0))["w1, speed, m/s"].value == 0.0


def test_energy_distance_of_shifted_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    groups = [f"{i}" for i in range(60)]
    x = [rng.normal(0.0, 1.0, (20, 1)) for _ in groups]
    y = [rng.normal(1.5, 1.0, (20, 1)) for _ in groups]

    def mean_distance(shift: float) -> float:
        """E|N(shift, 2)|."""
        s = math.sqrt(2.0)
        return s * math.sqrt(2.0 / math.pi) * math.exp(-(shift**2) / 4.0) + shift * (1.0 - 2.0 * norm.cdf(-shift / s))

    expected = 2.0 * mean_distance(1.5) - 2.0 * mean_distance(0.0)
    value = float(blocks(x, y, groups, negative_distance).statistic(np.ones((1, 60)))[0])
    assert value == pytest.approx(expected, rel=0.06)


def relations(rng: np.random.Generator, count: int, response: float, noise: float = 0.5) -> Float[ndarray, "J 4"]:
    """Gap, speed difference, the other's acceleration (a share of the ego's, more so when near), ego acceleration."""
    gap, ego = rng.uniform(0.0, 30.0, count), rng.uniform(-5.0, 2.0, count)
    other = response * ego * (1.0 - gap / 40.0) + rng.normal(0.0, noise, count)
    return np.stack([gap, rng.normal(0.0, 2.0, count), other, ego], axis=1)


def test_two_sample_tests_find_a_broken_pairing_that_marginals_miss() -> None:
    rng = np.random.default_rng(0)
    true = [found(relations=relations(rng, 25, 1.0)) for _ in range(40)]
    again = [found(relations=relations(rng, 25, 1.0)) for _ in range(40)]
    # The same accelerations of others, dealt out again: every marginal stays, no answer to the ego is left.
    pooled = np.concatenate([one.relations for one in again])
    pooled[:, 2] = rng.permutation(pooled[:, 2])
    blind = [found(relations=part) for part in np.split(pooled, 40)]

    good, bad, same = (by_name(joint.summarise(scenes(true, side), 0)) for side in (again, blind, true))
    assert same["energy_distance"].value == pytest.approx(0.0, abs=1e-9)
    assert same["c2st"].value == 0.5
    assert good["energy_distance"].low <= 0.0 <= good["energy_distance"].high
    assert bad["energy_distance"].low > 0.0
    assert good["c2st"].value == pytest.approx(0.5, abs=0.04)
    assert good["c2st"].cleared
    assert bad["c2st"].value > 0.7
    assert bad["c2st"].cleared is False

    good, bad = (by_name(conditional.summarise(scenes(true, side), 0)) for side in (again, blind))
    assert bad["js_conditional, bits"].value > 0.15 > good["js_conditional, bits"].value
    assert good["js_conditional, bits"].cleared
    assert bad["js_conditional, bits"].cleared is False
    assert good["js_conditional, bits"].value < good["js_conditional, floor, bits"].value  # half as many values
    assert good["js_conditional, bins of 12"].value == 12.0


def test_divergence_by_hand() -> None:
    # p = (1/2, 1/2), q = (1, 0), middle (3/4, 1/4)
    by_hand = 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25)) + 0.5 * math.log2(1.0 / 0.75)
    assert conditional.divergence(np.array([1.0, 1.0]), np.array([2.0, 0.0])) == pytest.approx(by_hand)
    assert conditional.divergence(np.array([3.0, 0.0]), np.array([0.0, 5.0])) == pytest.approx(1.0)
    assert conditional.divergence(np.array([1.0, 3.0]), np.array([2.0, 6.0])) == pytest.approx(0.0)
    assert math.isnan(conditional.divergence(np.array([0.0, 0.0]), np.array([1.0, 1.0])))


def test_each_bin_of_the_conditional_is_where_it_belongs() -> None:
    rows = np.array([[5.0, 0.0, -4.0, -4.0], [15.0, 0.0, 0.0, 0.0], [35.0, 0.0, 9.0, 1.5]])
    table = conditional.counts(rows).reshape(3, 4, 6)
    assert table[0, 0, 0] == table[1, 2, 2 + 1 - 1] + table[1, 2, 3] == table[2, 3, 5] == 1.0
    assert table.sum() == 3.0


def test_too_few_values_are_no_figure() -> None:
    rng = np.random.default_rng(0)
    few = scenes(*[[found(relations=relations(rng, 3, 1.0)) for _ in range(4)] for _ in range(2)])
    for one in [*joint.summarise(few, 0), conditional.summarise(few, 0)[0]]:
        assert math.isnan(one.value)
        assert one.reason
        assert one.cleared is None
