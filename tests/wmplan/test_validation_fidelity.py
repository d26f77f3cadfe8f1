"""L1: accuracy beside baselines, calibration, occ-KID, decision-relevant error, the perception-distortion frontier."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from sklearn.metrics import average_precision_score
from torch import Tensor

from critics import TaskCritic
from wmplan.contracts import GRIDS, Context, Imagined, Terms
from wmplan.forecast import expected_calibration_error
from wmplan.models import ConstantVelocity, Persistence
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.scene import Kind
from wmplan.statistics.precision import average_precision
from wmplan.testing import Body, straight_road
from wmplan.validation import accuracy, calibration, decision_relevant, frontier, kid
from wmplan.validation.discrepancy import blocks, cubic, negative_distance
from wmplan.validation.evidence import Evidence, Observed, gather, observe, oracle
from wmplan.validation.features import features

GRID = GRIDS["nano"]


def street(i: int, cars: int = 4) -> Observed:
    """One drawn scene of several; two scenes a group."""
    rng = np.random.default_rng(i)
    bodies = [
        Body(float(x), float(y), speed=float(v))
        for x, y, v in zip(rng.uniform(8, 30, cars), rng.uniform(-12, 12, cars), rng.uniform(2, 7, cars), strict=True)
    ]
    bodies.append(Body(float(rng.uniform(0, 30)), -15.0, math.pi / 2, 1.4, Kind.PEDESTRIAN, 0.8, 0.8))
    scene, future = straight_road(bodies, name=f"s{i}")
    return dataclasses.replace(observe(scene, future, GRID, 6), group=f"g{i // 2}")


STREETS = [street(i) for i in range(8)]


def changed(observed: Observed, change: Callable[[Float[Tensor, "T 2 H W"]], Float[Tensor, "M T 2 H W"]]) -> Evidence:
    """The truth, changed, as what a model imagined."""
    occupancy = change(observed.truth[:, :2])
    return Evidence(observed, "changed", occupancy, observed.truth[None, :, 2:4].expand_as(occupancy))


def by_name(measures: list) -> dict:  # type: ignore[type-arg]
    return {one.metric: one for one in measures}


# ------------------------------------------------------------------------------------------------------ accuracy


def test_the_true_future_is_perfect_and_beats_constant_velocity_beats_persistence() -> None:
    true = [accuracy.measure_accuracy(oracle(one)) for one in STREETS]
    found = by_name(accuracy.summarise(true, 0))
    for seconds in (1, 2, 3):
        for name in ("miou", "iou, any", "soft_iou, vehicle", "auc_pr, vehicle"):
            assert found[f"{name}, {seconds} s"].value == pytest.approx(1.0)
        assert found[f"brier, any, {seconds} s"].value == 0.0
    assert found["iou, vru, 3 s"].count == 0  # smaller than a cell: absent above one half, skipped and not 1
    assert found["soft_iou, vru, 3 s"].value == pytest.approx(1.0)
    rows = {
        model.name: [accuracy.measure_accuracy(Evidence(one, model.name, *_now(model, one))) for one in STREETS]
        for model in (ConstantVelocity(GRID, 6), Persistence(GRID, 6))
    }
    for better, worse in ((true, rows["cv"]), (rows["cv"], rows["persistence"])):
        against = by_name(accuracy.summarise_against(better, [worse], 0))
        assert all(against[f"iou, any, {s} s, minus {worse[0].model}"].cleared for s in (1, 2, 3))
        back = by_name(accuracy.summarise_against(worse, [better], 0))
        assert not any(back[f"iou, any, {s} s, minus {better[0].model}"].cleared for s in (1, 2, 3))
    with pytest.raises(ValueError, match="without rows"):
        accuracy.summarise_against(true, [[]], 0)
    assert accuracy.summarise([], 0) == []


def _now(model: ConstantVelocity | Persistence, observed: Observed) -> tuple[Tensor, Tensor]:
    imagined = model.imagine(model.encode(observed.raster), observed.plan, NoiseBank(0, 1))
    return imagined.occupancy[0], imagined.velocity[0]


def test_average_precision_is_that_of_scikit_learn_and_does_not_see_the_order_of_ties() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.2
    scores = np.round(rng.random(300) + 0.3 * labels, 1)
    assert float(average_precision(labels, scores)) == pytest.approx(average_precision_score(labels, scores))
    assert float(average_precision(labels[::-1], scores[::-1])) == float(average_precision(labels, scores))
    assert float(average_precision(labels, np.zeros(300))) == pytest.approx(labels.mean())
    assert math.isnan(average_precision(np.zeros(3, dtype=bool), np.ones(3)).value)
    with pytest.raises(ValueError, match="NaN"):
        average_precision(labels[:2], np.array([0.0, np.nan]))


# --------------------------------------------------------------------------------------------------- calibration


def miscalibrated(observed: Observed, temperature: float, seed: int) -> Evidence:
    """Truth drawn from probabilities all over the window; the forecast has their logits times the temperature."""
    rng = np.random.default_rng(seed)
    p = torch.from_numpy(rng.uniform(0.02, 0.98, observed.truth[:, :2].shape).astype(np.float32))
    truth = observed.truth.clone()
    truth[:, :2] = torch.from_numpy(rng.random(p.shape).astype(np.float32)) < p
    truth[:, 4] = 1.0
    return Evidence(
        dataclasses.replace(observed, truth=truth),
        "bent",
        (p.logit() * temperature).sigmoid()[None],
        truth[None, :, 2:4],
    )


@pytest.mark.parametrize("planted", [2.5, 1.0, 0.6])
def test_a_planted_temperature_is_found_on_training_scenes_and_repairs_others(planted: float) -> None:
    train = [calibration.measure_calibration(miscalibrated(one, planted, i)) for i, one in enumerate(STREETS[:3])]
    held_out = [miscalibrated(one, planted, 100 + i) for i, one in enumerate(STREETS[3:7])]
    rows = [calibration.measure_calibration(one) for one in held_out]
    temperature = calibration.fit_temperature(train)
    assert temperature == pytest.approx(planted, rel=0.02)
    found = by_name(calibration.summarise(rows, 0, temperature))
    scored = [accuracy.measure_accuracy(one) for one in held_out]
    assert found["ece, before"].value == pytest.approx(expected_calibration_error(scored), abs=1e-3)
    assert found["ece, after"].value < 0.01
    assert found["ece, after"].cleared
    if planted != 1.0:
        assert found["ece, before"].low > 0.05
    again = calibration.measure_calibration(
        dataclasses.replace(held_out[0], occupancy=calibration.tempered(held_out[0].occupancy, temperature))
    )
    alone = by_name(calibration.summarise([again], 0))["ece, before"].value
    assert alone == pytest.approx(
        by_name(calibration.summarise(rows[:1], 0, temperature))["ece, after"].value, abs=2e-3
    )
    empty = torch.zeros(3, 2)
    assert torch.equal(calibration.tempered(empty, 5.0), empty)


def test_std_ratio_is_that_of_the_samples_and_alarms() -> None:
    rows = [calibration.measure_calibration(oracle(one)) for one in STREETS]
    found = by_name(calibration.summarise(rows, 0))
    assert found["std_ratio, vehicle"].value == pytest.approx(1.0)
    assert found["std_ratio, vru"].cleared
    assert found["ece, before"].value < 1e-3

    def half(truth: Tensor) -> Tensor:
        return torch.stack([0.5 * truth, 0.5 * truth])

    faint = [calibration.measure_calibration(changed(one, half)) for one in STREETS]
    ratio = by_name(calibration.summarise(faint, 0))["std_ratio, vehicle"]
    assert ratio.value == pytest.approx(0.5)
    assert ratio.cleared is False
    assert math.isnan(by_name(calibration.summarise([], 0))["std_ratio, vru"].value)
    assert calibration.fit_temperature([]) == 1.0


# ----------------------------------------------------------------------------------------------------------- KID


def test_kernel_distances_are_unbiased_and_zero_for_the_true_future() -> None:
    rng = np.random.default_rng(0)
    groups = [f"{i // 2}" for i in range(40)]

    def draw(shift: float) -> list[Float[ndarray, "N D"]]:
        return [rng.normal(shift, 1.0, (1, 8)) for _ in groups]

    ones = np.ones((1, len(groups)))
    for kernel in (cubic, negative_distance):
        same = [float(blocks(draw(0.0), draw(0.0), groups, kernel).statistic(ones)[0]) for _ in range(150)]
        assert abs(np.mean(same)) < 3.0 * np.std(same) / math.sqrt(len(same))
        assert min(same) < 0.0 < max(same)  # unbiased, so it is sometimes negative
        x = draw(0.0)
        assert float(blocks(x, x, groups, kernel).statistic(ones)[0]) == pytest.approx(0.0, abs=1e-12)
        assert float(blocks(x, draw(2.0), groups, kernel).statistic(ones)[0]) > 10.0 * np.std(same)


def test_kid_by_hand_on_two_scenes() -> None:
    found = blocks([np.array([[1.0]]), np.array([[2.0]])], [np.array([[0.0]]), np.array([[1.0]])], ["a", "b"], cubic)
    # k(1, 2) = 27; k(0, 1) = 1; across: k(1, 1) = 8 and k(2, 0) = 1
    assert float(found.statistic(np.ones((1, 2)))[0]) == pytest.approx(27.0 + 1.0 - 2.0 * (8.0 + 1.0) / 2.0)
    one_group = blocks([np.ones((1, 1))] * 2, [np.ones((1, 1))] * 2, ["a", "a"], cubic)
    assert math.isnan(float(one_group.statistic(np.ones((1, 2)))[0]))


def test_features_see_blur_and_not_place_or_grid() -> None:
    frames = torch.stack([one.truth[-1] for one in STREETS])
    base = features(frames[:, :2], frames[:, 2:4], GRID.cell)
    moved = torch.roll(frames, (6, -5), dims=(-2, -1))
    blurred = torch.nn.functional.avg_pool2d(frames[:, :2], 7, stride=1, padding=3)
    shift = np.linalg.norm(features(moved[:, :2], moved[:, 2:4], GRID.cell) - base)
    blur = np.linalg.norm(features(blurred, frames[:, 2:4], GRID.cell) - base)
    assert blur > 5.0 * shift
    fine = torch.stack([_on("small", i)[-1] for i in range(2)])
    other = features(fine[:, :2], fine[:, 2:4], GRIDS["small"].cell)
    assert np.linalg.norm(other - base[:2]) < 0.15 * np.linalg.norm(base[:2])


def _on(grid: str, i: int) -> Tensor:
    rng = np.random.default_rng(i)
    bodies = [
        Body(float(x), float(y), speed=float(v))
        for x, y, v in zip(rng.uniform(8, 30, 4), rng.uniform(-12, 12, 4), rng.uniform(2, 7, 4), strict=True)
    ]
    bodies.append(Body(float(rng.uniform(0, 30)), -15.0, math.pi / 2, 1.4, Kind.PEDESTRIAN, 0.8, 0.8))
    return observe(*straight_road(bodies, name=f"s{i}"), GRIDS[grid], 6).truth


def test_kid_needs_fifty_scenes_and_tells_a_blur_from_traffic() -> None:
    rng = np.random.default_rng(1)
    few = [kid.measure_features(oracle(one)) for one in STREETS]
    assert "50" in kid.summarise(few, 0)[0].reason
    assert math.isnan(kid.summarise(few, 0)[0].value)

    def rows(shift: float) -> list[kid.SceneFeatures]:
        return [
            kid.SceneFeatures(f"s{i}", f"g{i // 2}", 3.0, rng.normal(0, 1, 4), rng.normal(shift, 1, 4))
            for i in range(80)
        ]

    same, other = kid.summarise(rows(0.0), 0)[0], kid.summarise(rows(1.0), 0)[0]
    assert same.metric == "occ_kid, 3 s"
    assert same.low < 0.0 < same.high
    assert other.low > 0.0
    assert other.low < other.value < other.high
    true = [dataclasses.replace(row, imagined=row.true) for row in rows(0.0)]
    assert kid.summarise(true, 0)[0].value == pytest.approx(0.0, abs=1e-12)


# ----------------------------------------------------------------------------------------------------- decisions


class Planted:
    """A critic whose verdict on candidate k is planted: 1 - `true[k]` on the truth, 1 - `imagined[k]` elsewhere."""

    name, columns, digest = "planted", ("no_collision",), "planted"

    def __init__(self, observed: Observed, true: Bool[ndarray, "K"], imagined: Bool[ndarray, "K"]) -> None:
        self.observed, self.true, self.imagined = observed, true, imagined

    def terms(self, context: Context, plans: Plans, imagined: Imagined) -> Terms:
        knows = torch.equal(imagined.occupancy[0, 0], self.observed.truth[:, :2])
        verdict = self.true if knows else self.imagined
        return Terms(self.columns, (1.0 - verdict[:, None]).astype(np.float32))


def test_flips_are_counted_where_they_were_planted() -> None:
    observed = STREETS[0]
    pool = decision_relevant.candidates(observed)
    true, imagined = np.zeros(len(pool), dtype=bool), np.zeros(len(pool), dtype=bool)
    true[:4], imagined[1:6] = True, True
    evidence = changed(observed, lambda truth: (0.9 * truth)[None])
    row = decision_relevant.measure_decisions(evidence, pool, Planted(observed, true, imagined))
    assert (row.flips.candidates, row.flips.collide, row.flips.missed, row.flips.invented) == (12, 4, 1, 2)
    found = by_name(decision_relevant.summarise([row, row], 0))
    assert found["flip_rate"].value == pytest.approx(3 / 12)
    assert found["flip_rate"].cleared is False
    assert found["flip_rate, of those that collide"].value == pytest.approx(1 / 4)
    assert found["flip_rate, of those that do not"].value == pytest.approx(2 / 8)


def test_the_true_future_flips_nothing_and_a_car_removed_from_the_road_is_missed() -> None:
    bodies = [Body(16.0, 0.0, speed=1.0), Body(20.0, 9.0, speed=5.0)]
    observed = observe(*straight_road(bodies, speed=8.0), GRID, 6)
    layer = decision_relevant.layer(TaskCritic())
    perfect = layer.measure(oracle(observed))
    assert perfect.error == 0.0
    assert perfect.weight > 0.0
    assert perfect.flips.collide > 0
    assert perfect.flips.missed == perfect.flips.invented == 0
    nothing = layer.measure(changed(observed, lambda truth: torch.zeros_like(truth)[None]))
    assert nothing.flips.missed == perfect.flips.collide
    far = layer.measure(changed(observed, lambda truth: _without(truth, slice(36, None))[None]))
    near = layer.measure(changed(observed, lambda truth: _without(truth, slice(None, 36))[None]))
    assert far.error == 0.0  # the car 9 m to the side is on nobody's way
    assert near.error > 0.0


def _without(truth: Tensor, rows: slice) -> Tensor:
    kept = truth.clone()
    kept[..., rows, :] = 0.0
    return kept


def test_relevance_falls_with_the_time_to_get_there() -> None:
    observed = observe(*straight_road(speed=8.0), GRID, 6)
    pool = Plans.from_controls(np.zeros((1, 30, 2)), 8.0)
    weight = decision_relevant.relevance(pool, observed.raster.start, GRID)
    row = 32  # y = 0.5 m
    ahead = weight[row, [48, 48 + 10, 48 + 22]].numpy()  # x = 0.5, 10.5, 22.5 m; the front is 2.4 m before the centre
    # With 2.4 m of car and 2 m of margin the cells come near in the windows from 0, 0.5 and 2 s on.
    np.testing.assert_allclose(ahead, 1.0 / (1.0 + np.array([0.0, 0.5, 2.0])))
    assert weight[row + 6, 52] == 0.0  # 6.5 m to the side
    assert weight[row, 48 - 8] == 0.0  # behind


# ------------------------------------------------------------------------------------------------------ frontier


def test_the_frontier_runs_from_the_sample_to_the_mean() -> None:
    def coin(one: Observed) -> Evidence:
        """Two samples: the truth three cells to the side, and the truth."""
        both = [torch.stack([torch.roll(part, 3, dims=-2), part]) for part in (one.truth[:, :2], one.truth[:, 2:4])]
        return Evidence(one, "coin", *both)

    rows = [frontier.measure_frontier(coin(one), temperature=2.0) for one in STREETS]
    found = by_name(frontier.summarise(rows, 0))
    soft = [found[f"soft_iou, mixture {share:g}"].value for share in frontier.MIXTURES]
    assert soft == sorted(soft)
    assert found["iou, mixture 0"].value < 0.1
    distances = {
        point.name: float(
            np.linalg.norm([row.points[p].features.imagined - row.points[p].features.true for row in rows])
        )
        for p, point in enumerate(rows[0].points)
    }
    assert distances["mixture 1"] > 2.0 * distances["mixture 0"]  # two half cars look like no traffic
    assert "50" in found["occ_kid, calibrated sample, 3 s"].reason
    true = frontier.measure_frontier(oracle(STREETS[0]))
    for point in true.points:
        np.testing.assert_allclose(point.features.imagined, point.features.true, rtol=1e-4, atol=1e-4)
        assert point.iou == pytest.approx(1.0)


def test_gathering_from_a_model_is_what_observing_and_imagining_give() -> None:
    scene, future = straight_road()
    model = ConstantVelocity(GRID, 6)
    whole = gather(model, scene, future, NoiseBank(3, 2))
    assert whole.occupancy.shape[:2] == (2, 6)
    assert whole.seconds == (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    assert torch.equal(whole.mean, whole.occupancy[0])
    users = whole.observed.road_users
    leader = users.ids.index("agent0")
    np.testing.assert_allclose(users.states[leader, :, 0], 25.0 + 8.0 * 0.5 * np.arange(7), rtol=1e-5)
    with pytest.raises(ValueError, match="expected"):
        Evidence(whole.observed, "short", whole.occupancy[:, :3], whole.velocity[:, :3])
