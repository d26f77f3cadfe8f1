"""Figures of the agreement pass on outcomes that a human can count, and perturbed plans."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from experiments.agreement import AgreementConfig
from experiments.figures import LOG_REPLAY, figures
from experiments.perturb import end_distance, perturbations
from experiments.study import StudyConfig
from wmplan.plans import Plans

CONFIG = StudyConfig(agreement=AgreementConfig(resamples=200))
SCENES = [f"s{i}" for i in range(8)]


def outcomes(executed_cost: float = 1.0, real_follows_cost: bool = True) -> pd.DataFrame:
    """Eight scenes: an executed plan, three perturbations (cost 0.5, 1, 2), choices of two planners."""
    rows = []
    for i, scene in enumerate(SCENES):
        plans = [("executed", LOG_REPLAY, 0.0, executed_cost), ("perturbed", "", 1.0, 0.5), ("perturbed", "", 1.0, 1.0)]
        plans += [("perturbed", "", 4.0, 2.0), ("chosen", "cem", math.nan, 0.1), ("chosen", "idm", math.nan, 3.0)]
        for kind, planner, distance, cost in plans:
            real = 1.0 - cost / 4.0 if real_follows_cost else cost / 4.0
            label = float(i % 2)
            rows.append((scene, f"g{i}", kind, planner, distance, cost + (label if kind == "executed" else 0.0), real))
    names = ["scene_id", "group", "kind", "planner", "distance_m", "cost", "real_pdms"]
    frame = pd.DataFrame(rows, columns=names)
    labels = {scene: float(i % 2) for i, scene in enumerate(SCENES)}
    frame["hard_braking"] = frame["scene_id"].map(labels)
    frame["short_ttc"] = np.nan
    return frame


def decisions(failed: tuple[str, ...] = ()) -> pd.DataFrame:
    rows = [(s, p, "failed" if p == "cem" and s in failed else "planned") for s in SCENES for p in ("cem", "idm")]
    return pd.DataFrame(rows, columns=["scene_id", "planner", "status"])


def scenes(trained: int = 0) -> pd.DataFrame:
    index = pd.Index(SCENES, name="scene_id")
    return pd.DataFrame({"group": [f"g{i}" for i in range(8)], "group_trained_on": np.arange(8) < trained}, index=index)


def test_pairwise_accuracy_counts_dearer_perturbations_and_half_the_ties() -> None:
    frame = outcomes()
    frame["cost"] = np.where(frame["kind"] == "executed", 1.0, frame["cost"])
    found = figures(frame, decisions(), scenes(), {}, CONFIG)["executed"]["all"]
    assert found["pairwise_accuracy"]["value"] == pytest.approx((0.0 + 0.5 + 1.0) / 3.0)
    assert found["cheapest"]["value"] == 0.0
    near, far = found["by_distance"]
    assert (near["distance_m"], near["value"]) == (1.0, pytest.approx(0.25))
    assert (far["distance_m"], far["value"]) == (4.0, 1.0)


def test_infinite_costs_are_dearer_and_placebo_is_near_one_half() -> None:
    frame = outcomes()
    frame.loc[frame["kind"] == "perturbed", "cost"] = np.inf
    found = figures(frame, decisions(), scenes(), {}, CONFIG)["executed"]["all"]
    assert found["pairwise_accuracy"]["value"] == 1.0
    assert 0.2 < found["placebo"]["value"] < 0.8


def test_cost_that_separates_the_events_has_auroc_one_and_its_placebo_does_not() -> None:
    found = figures(outcomes(), decisions(), scenes(), {}, CONFIG)["prediction"]["all"]
    assert found[0]["event"] == "hard_braking"
    assert found[0]["positives"] == 4
    assert found[0]["auroc"]["value"] == 1.0
    assert found[0]["placebo"]["value"] < 1.0
    assert found[1]["auroc"]["value"] is None
    assert found[1]["auroc"]["reason"]


@pytest.mark.parametrize(("follows", "value"), [(True, 1.0), (False, 0.0)])
def test_order_agrees_exactly_where_real_scores_follow_the_cost(follows: bool, value: float) -> None:
    frame = outcomes(real_follows_cost=follows)
    frame = frame[frame["kind"] == "chosen"]
    found = figures(frame, decisions(), scenes(), {}, CONFIG)["order"]["all"]
    assert found["pairwise_accuracy"]["value"] == value
    assert found["spearman"]["value"] == pytest.approx(2.0 * value - 1.0)


def test_a_failed_scene_counts_as_zero_for_its_planner_alone() -> None:
    gone = SCENES[:2]
    frame = outcomes()
    frame = frame[~((frame["planner"] == "cem") & frame["scene_id"].isin(gone))]
    whole = figures(outcomes(), decisions(), scenes(), {}, CONFIG)["planners"]["all"]
    found = figures(frame, decisions(tuple(gone)), scenes(), {}, CONFIG)["planners"]["all"]
    assert [row["planner"] for row in found] == ["cem", "idm", LOG_REPLAY]
    assert (found[0]["planned"], found[0]["failed"]) == (6, 2)
    assert found[0]["score"]["value"] == pytest.approx(whole[0]["score"]["value"] * 6.0 / 8.0)
    assert found[1]["score"] == whole[1]["score"]


def test_a_scene_without_any_outcome_still_counts_against_who_failed_in_it() -> None:
    frame = outcomes()
    frame = frame[frame["scene_id"] != SCENES[0]]
    found = figures(frame, decisions((SCENES[0],)), scenes(), {SCENES[0]: "no ego"}, CONFIG)
    cem, idm, _ = found["planners"]["all"]
    assert cem["score"]["n"] == 8
    assert idm["score"]["n"] == 7
    assert cem["score"]["value"] == pytest.approx((1.0 - 0.1 / 4.0) * 7.0 / 8.0)
    assert found["skipped"] == [{"scene_id": SCENES[0], "why": "no ego"}]


def test_pairs_are_differences_with_what_could_have_been_found() -> None:
    found = figures(outcomes(), decisions((SCENES[0],)), scenes(), {}, CONFIG)["pairs"]["all"]
    pair = next(row for row in found if (row["first"], row["second"]) == ("cem", "idm"))
    assert pair["difference"]["value"] == pytest.approx(2.9 / 4.0 * 7.0 / 8.0 - 0.25 / 8.0, abs=1e-9)
    width = pair["difference"]["upper"] - pair["difference"]["lower"]
    assert pair["minimum_detectable"] == pytest.approx(width / (2 * 1.959964) * 2.801585)


def test_unseen_scenes_are_those_of_groups_the_model_was_not_trained_on() -> None:
    found = figures(outcomes(), decisions(), scenes(trained=5), {}, CONFIG)
    assert found["scenes"] == {"all": 8, "unseen": 3}
    assert found["executed"]["unseen"]["pairwise_accuracy"]["n"] == 3


@pytest.mark.parametrize("frame", [pd.DataFrame(), outcomes().head(1)])
def test_next_to_nothing_gives_reasons_not_numbers(frame: pd.DataFrame) -> None:
    found = figures(frame, decisions(tuple(SCENES)), scenes(), {}, CONFIG)
    assert found["executed"]["all"]["pairwise_accuracy"]["value"] is None
    assert found["order"]["all"]["pairwise_accuracy"]["reason"]
    assert "NaN" not in json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("speed", [0.0, 3.0, 12.0, 30.0])
def test_perturbed_plans_end_where_they_should_and_are_smooth(speed: float) -> None:
    plan = Plans.from_controls(np.full((1, 30, 2), (0.5, 0.002)), speed)
    changed, meant = perturbations(plan, (0.5, 2.0, 8.0), 4, seed=3)
    assert len(changed) >= 9
    np.testing.assert_allclose(end_distance(changed, plan), meant, rtol=0.1)
    steps = np.abs(np.diff(changed.controls.astype(np.float64), axis=1))
    assert steps[..., 0].max() < 2.0
    again, _ = perturbations(plan, (0.5, 2.0, 8.0), 4, seed=3)
    np.testing.assert_array_equal(again.controls, changed.controls)
    other, _ = perturbations(plan, (0.5, 2.0, 8.0), 4, seed=4)
    assert not np.array_equal(other.controls[:4], changed.controls[:4])


def test_a_bin_keeps_its_plans_whatever_other_bins_there_are() -> None:
    plan = Plans.from_controls(np.zeros((1, 30, 2)), 10.0)
    few, _ = perturbations(plan, (2.0,), 2, seed=1)
    many, meant = perturbations(plan, (0.5, 2.0), 3, seed=1)
    np.testing.assert_array_equal(many.controls[meant == 2.0][:2], few.controls)
