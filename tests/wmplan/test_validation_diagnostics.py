"""Diagnostics: motion, diversity, memorisation, frame rate, drift, the four hypotheses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from critics import TaskCritic
from wmplan.contracts import GRIDS
from wmplan.forecast import SceneForecast
from wmplan.frames import Pose
from wmplan.models import ConstantVelocity, Persistence
from wmplan.randomness import NoiseBank
from wmplan.raster import rasterize, rasterize_future
from wmplan.statistics import Measure
from wmplan.testing import Body, straight_road
from wmplan.validation import accuracy, diagnosis, diversity, drift, frame_rate, memorisation, motion, registry
from wmplan.validation.diagnosis import Hypothesis
from wmplan.validation.evidence import Evidence, Observed, imagine, observe, oracle
from wmplan.validation.later import carried, later

GRID = GRIDS["nano"]


def street(i: int, speed: float = 6.0) -> Observed:
    rng = np.random.default_rng(i)
    bodies = [
        Body(float(x), float(y), speed=float(v))
        for x, y, v in zip(rng.uniform(2, 20, 3), (-9.0, 4.0, 10.0), rng.uniform(4, 7, 3), strict=True)
    ]
    return dataclasses.replace(observe(*straight_road(bodies, speed, f"s{i}"), GRID, 6), group=f"g{i // 2}")


STREETS = [street(i) for i in range(6)]


def by_name(measures: list[Measure]) -> dict[str, Measure]:
    return {one.metric: one for one in measures}


def seen_as(observed: Observed, future: Tensor) -> Evidence:
    """A future T 4 H W as one imagined sample."""
    return Evidence(observed, "x", future[None, :, :2], future[None, :, 2:4])


# -------------------------------------------------------------------------------------------------------- motion


def test_motion_of_the_truth_is_perfect_and_of_persistence_silent() -> None:
    true = by_name(motion.summarise([motion.measure_motion(oracle(one)) for one in STREETS], 0))
    for name in motion.READINGS:
        assert true[f"direction, {name}, all"].value == pytest.approx(1.0)
        assert true[f"magnitude, {name}, all"].value == pytest.approx(1.0)
    assert true["direction, displacement, all"].cleared
    assert true["magnitude, displacement, all"].cleared
    still = Persistence(GRID, 6)
    rows = [motion.measure_motion(imagine(still, one, NoiseBank(0, 1))) for one in STREETS]
    found = by_name(motion.summarise(rows, 0))
    assert found["direction, change, all"].value == 0.0
    assert found["direction, change, of those that move"].count == 0
    assert found["magnitude, change, all"].value == 0.0
    assert found["direction, displacement, all"].cleared is False


def test_motion_that_is_half_as_far_or_turned_round_is_read_as_such() -> None:
    body = Body(10.0, 4.0, speed=6.0)
    observed = observe(*straight_road([body]), GRID, 6)
    slow = observe(*straight_road([dataclasses.replace(body, speed=3.0)]), GRID, 6)
    row = motion.measure_motion(seen_as(observed, slow.truth[:, :4]))
    assert row.direction[0] == pytest.approx(1.0, abs=0.01)
    assert row.magnitude[0] == pytest.approx(0.5, abs=0.02)
    assert row.true[0] == pytest.approx(18.0, abs=0.1)  # 6 m/s for 3 s
    assert row.magnitude[1] == 0.0  # where the truth is, the slow car is not
    turned = seen_as(observed, observed.truth[:, :4] * torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None, None])
    assert motion.measure_motion(turned).direction[1] == pytest.approx(-1.0)
    nobody = observe(*straight_road([Body(10.0, 4.0)]), GRID, 6)
    assert np.isnan(motion.measure_motion(oracle(nobody)).direction).all()


# ----------------------------------------------------------------------------------------------------- diversity


def test_spread_is_one_when_the_truth_is_like_one_more_sample() -> None:
    rng = np.random.default_rng(0)

    def noisy(like: Tensor) -> Tensor:
        return torch.from_numpy(rng.random(like.shape).astype(np.float32))

    rows, collapsed = [], []
    for one in STREETS:
        truth = one.truth.clone()
        truth[:, :2] = noisy(truth[:, :2])
        samples = torch.stack([noisy(truth[:, :2]) for _ in range(8)])
        there = dataclasses.replace(one, truth=truth)
        rows.append(diversity.measure_diversity(Evidence(there, "x", samples, torch.zeros_like(samples))))
        same = samples[:1].expand(8, -1, -1, -1, -1)
        collapsed.append(diversity.measure_diversity(Evidence(there, "x", same, torch.zeros_like(samples))))
    found = by_name(diversity.summarise(rows, 0))
    assert found["spread over error, 3 s"].value == pytest.approx(1.0, abs=0.03)
    assert found["best of M over mean error, 3 s"].value < 1.0
    none = by_name(diversity.summarise(collapsed, 0))
    assert none["spread over error, 3 s"].value == pytest.approx(0.0, abs=1e-6)
    assert none["best of M over mean error, 3 s"].value == pytest.approx(1.0)
    fewer = diversity.against({"50 steps": rows, "1 step": collapsed}, "50 steps", 0)
    assert fewer[0].value == 0.0
    assert fewer[1].high < 0.0
    with pytest.raises(ValueError, match="other scenes"):
        diversity.against({"a": rows, "b": rows[::-1]}, "a", 0)


def test_one_sample_has_no_spread() -> None:
    found = by_name(diversity.summarise([diversity.measure_diversity(oracle(one)) for one in STREETS], 0))
    assert math.isnan(found["spread over error, 3 s"].value)


# -------------------------------------------------------------------------------------------------- memorisation


def test_a_planted_copy_of_a_training_scene_is_found() -> None:
    training = [street(100 + i) for i in range(8)]
    bank = memorisation.Bank.of(training)
    honest = [memorisation.measure_memorisation(oracle(one), bank) for one in STREETS]
    found = by_name(memorisation.summarise(honest, 0))
    assert found["distance to training, imagined over true"].value == pytest.approx(1.0)
    assert found["copies"].value == 0.0
    copies = [
        memorisation.measure_memorisation(seen_as(one, other.truth[:, :4]), bank)
        for one, other in zip(STREETS, training, strict=False)
    ]
    found = by_name(memorisation.summarise(copies, 0))
    assert found["distance to training, imagined over true"].value == pytest.approx(0.0, abs=1e-6)
    assert found["copies"].value == 1.0
    assert found["copies"].cleared is False
    far = [memorisation.SceneMemory(f"s{i}", f"s{i}", 1.5 if i < 30 else 50.0, 1.0 + i) for i in range(200)]
    assert by_name(memorisation.summarise(far, 0))["copies"].value == pytest.approx(30 / 200)  # 99 % are farther than 2
    with pytest.raises(ValueError, match="no training"):
        memorisation.Bank.of([])


# ---------------------------------------------------------------------------------------------------- frame rate


def test_futures_that_the_present_decides_do_not_spread_and_random_ones_do() -> None:
    rng = np.random.default_rng(0)

    def rows(noise: float) -> list[frame_rate.ScenePresent]:
        found = []
        for i in range(200):
            x = rng.normal(0.0, 1.0, 2)
            change = np.stack([s * x + noise * rng.normal(0.0, 1.0, 2) for s in (1.0, 2.0, 4.0, 6.0)])
            found.append(frame_rate.ScenePresent(f"g{i // 2}", x, change))
        return found

    decided, undecided = (by_name(frame_rate.summarise(rows(noise), 0)) for noise in (0.0, 50.0))
    assert decided["spread of like presents, 3 s"].value < 0.2
    assert undecided["spread of like presents, 3 s"].value == pytest.approx(1.0, abs=0.05)
    growing = rows(3.0)
    found = [by_name(frame_rate.summarise(growing, 0))[f"spread of like presents, {s:g} s"].value for s in (0.5, 3.0)]
    assert found[1] < found[0]  # the noise does not grow with the stride here, the motion does
    few = frame_rate.summarise([frame_rate.measure_present(one) for one in STREETS], 0)
    assert all(math.isnan(one.value) for one in few)  # 3 groups, 5 neighbours


# --------------------------------------------------------------------------------------------------------- drift


def test_half_life_and_growth_of_a_geometric_decay() -> None:
    accuracy_by_step = 0.8 * 0.8 ** np.arange(10)  # below one half of the first at the fifth step, 0.8^4 = 0.41
    assert drift.half_life_s(accuracy_by_step) == 2.5
    assert math.isnan(drift.half_life_s(np.full(10, 0.8)))
    assert math.isnan(drift.half_life_s(np.full(3, np.nan)))
    gap = accuracy_by_step.copy()
    gap[4] = np.nan
    assert drift.half_life_s(gap) == 3.0
    error = 0.01 * np.exp(0.7 * 0.5 * np.arange(1, 13))
    assert drift.error_growth(error) == pytest.approx(0.7)
    assert math.isnan(drift.error_growth(error[:6]))


def test_a_scene_later_on_is_the_scene_where_the_ego_then_is() -> None:
    bodies = [Body(20.0, 3.5, speed=7.0), Body(30.0, -3.5, speed=2.0)]
    scene, future = straight_road(bodies, speed=5.0)
    now, rest, pose = later(scene, future, 30)
    assert (pose.x, pose.y, pose.yaw) == pytest.approx((15.0, 0.0, 0.0))
    np.testing.assert_allclose(now.ego.states[0, -1, :2], 0.0, atol=1e-5)
    np.testing.assert_allclose(now.agents.states[0, -1, :2], [20.0 + 21.0 - 15.0, 3.5], atol=1e-4)
    np.testing.assert_allclose(rest.agents.states[0, 0, 0], 26.0 + 0.7, atol=1e-4)
    assert rest.agents.valid[:, :50].all()
    assert not rest.agents.valid[:, 50:].any()
    # The frames of the first scene, carried, are what the second one draws: as its truth, and as its history.
    frames = rasterize_future(scene, future, GRID, 6)[:, :4]
    moved = carried(frames, GRID, pose)
    drawn = rasterize(now, GRID)
    seen = moved[-1, 4] > 0.5
    assert seen.float().mean() == pytest.approx(1.0 - 15.0 / 96.0, abs=0.02)
    difference = ((moved[2:, :2] - drawn.history[:, :2]) * seen).abs()
    assert difference.max() < 1e-4  # 15 m are whole cells
    with pytest.raises(ValueError, match="expected more"):
        later(scene, future, 10)


def test_carried_frames_turn_places_and_velocities() -> None:
    frame = torch.zeros(1, 4, 64, 96)
    frame[0, 0, 40:43, 62:65] = 1.0
    frame[0, 2, 40:43, 62:65] = 5.0
    turned = carried(frame, GRID, Pose(0.0, 0.0, math.pi / 2))[0]
    rows, columns = torch.nonzero(turned[0] > 0.5, as_tuple=True)
    # (15.5, 9.5) seen from a frame that looks along y: x = 9.5, y = -15.5
    assert float(columns.float().mean()) + 0.5 - 48.0 == pytest.approx(9.5, abs=0.01)
    assert float(rows.float().mean()) + 0.5 - 32.0 == pytest.approx(-15.5, abs=0.01)
    np.testing.assert_allclose(turned[2:4, rows[4], columns[4]], [0.0, -5.0], atol=1e-4)
    assert torch.equal(carried(frame, GRID, Pose(0.0, 0.0, 0.0))[:, :4], frame)


def test_a_model_that_is_right_does_not_drift_and_a_still_one_is_saved_by_regrounding() -> None:
    bodies = [Body(6.0, 4.0, speed=5.0), Body(12.0, -4.0, speed=6.0), Body(16.0, 12.0, speed=4.0)]
    scene, future = straight_road(bodies, speed=5.0)
    right = drift.measure_drift(ConstantVelocity(GRID, 6), scene, future, NoiseBank(0, 1))
    assert right.free.iou[0] > 0.8
    assert abs(right.free.soft_iou[-1] - right.regrounded.soft_iou[-1]) < 0.15
    still = drift.measure_drift(Persistence(GRID, 6), scene, future, NoiseBank(0, 1))
    assert still.regrounded.soft_iou[0] > still.free.soft_iou[0] + 0.2
    found = by_name(drift.summarise([still, still], 0))
    expected = still.free.soft_iou[-1] - still.regrounded.soft_iou[-1]
    assert found["drift: soft_iou, free minus regrounded"].value == pytest.approx(expected)
    assert found["halved within both chunks"].value == 1.0


# ----------------------------------------------------------------------------------------------------- diagnosis


def forecasts(gain: float) -> list[SceneForecast]:
    """The truth, with `gain` between nothing (0) and everything (1) of it forecast."""
    return [accuracy.measure_accuracy(seen_as(one, gain * one.truth[:, :4])) for one in STREETS]


def test_each_hypothesis_is_confirmed_rejected_or_open_as_planted() -> None:
    rows = {
        "small": forecasts(0.6),
        "large": forecasts(0.604),
        "other objective": forecasts(0.9),
        "best": forecasts(1.0),
    }
    found = diagnosis.diagnose(
        rows,
        [
            Hypothesis("capacity", "small", "large"),
            Hypothesis("objective", "small", "other objective", best="best"),
            Hypothesis("horizon", "small", "other objective"),
        ],
        seed=0,
    )
    assert [one.verdict for one in found] == ["rejected", "confirmed", "rejected"]
    assert found[1].gain.value == pytest.approx(0.3, abs=1e-6)
    assert found[1].recovered == pytest.approx(0.75, abs=1e-5)
    assert math.isnan(found[0].recovered)
    assert found[2].gain.value == pytest.approx(0.0, abs=1e-6)  # a gain that does not grow
    with pytest.raises(ValueError, match="'huge'"):
        diagnosis.diagnose(rows, [Hypothesis("capacity", "small", "huge")], 0)


def test_shuffled_actions_are_the_same_controls_in_another_order() -> None:
    observed = dataclasses.replace(STREETS[0])
    controls = observed.plan.controls.copy()
    controls[0, :, 0] = np.linspace(-3.0, 2.0, controls.shape[1])
    observed = dataclasses.replace(observed, plan=type(observed.plan).from_controls(controls.astype(np.float64), 6.0))
    other = diagnosis.shuffled_actions(observed, 0)
    np.testing.assert_allclose(np.sort(other.plan.controls[0, :, 0]), np.sort(observed.plan.controls[0, :, 0]))
    assert not np.allclose(other.plan.states[0, -1, 0], observed.plan.states[0, -1, 0], atol=0.1)
    blind = diagnosis.imagine_shuffled(ConstantVelocity(GRID, 6), observed, NoiseBank(0, 1), 0)
    assert blind.observed is observed
    assert torch.equal(blind.occupancy, imagine(ConstantVelocity(GRID, 6), observed, NoiseBank(0, 1)).occupancy)


# ------------------------------------------------------------------------------------------------------ registry


def test_every_layer_reads_the_true_future_and_a_model_alike_and_clears_no_gate_in_silence() -> None:
    bank = memorisation.Bank.of([street(100 + i) for i in range(4)])
    still = Persistence(GRID, 6)
    told = {
        "oracle": [oracle(one) for one in STREETS[:4]],
        "persistence": [imagine(still, one, NoiseBank(0, 2)) for one in STREETS[:4]],
    }
    names = []
    for layer in registry.layers(TaskCritic(), temperature=1.0, bank=bank):
        found = {who: layer.summarise([layer.measure(one) for one in seen], 0) for who, seen in told.items()}
        assert [one.metric for one in found["oracle"]] == [one.metric for one in found["persistence"]]
        for one in [*found["oracle"], *found["persistence"]]:
            assert one.valid or one.reason
            assert one.valid or one.cleared is None
            assert not one.valid or math.isnan(one.low) or one.low <= one.value + 1e-9 <= one.high + 2e-9
        assert all(one.cleared is not False for one in found["oracle"])
        assert layer.summarise([], 0) == [] or all(not one.valid for one in layer.summarise([], 0))
        names.append(layer.name)
    assert len(set(names)) == len(names) == 14
