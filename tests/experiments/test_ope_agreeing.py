"""Estimates and truth joined: known orders, equal draws, what is refused, what counts against whom."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.ope import shards
from experiments.ope.agreeing import METRICS, Side, agreements, measure
from experiments.ope.batched import batched
from experiments.ope.closed_loop import COLUMNS
from experiments.ope.figures import estimates
from experiments.ope.joining import OPEN, Joined, check_same, join, open_loop
from experiments.ope.preparing import Prepared
from experiments.ope.results import finish, rows_of
from experiments.ope.settings import Listed, OpeCommand, Settings
from experiments.ope.weighing import METHODS
from wmplan.errors import InputError
from wmplan.statistics import spearman
from wmplan.statistics.policies import agreement

POLICIES = ("constant_velocity", "idm_normal", "idm_brisk", "idm_timid", "random", "held_normal")
SCENES = 24
GROUPS = {f"s{i:02d}": f"g{i // 3}" for i in range(SCENES)}
TRUE = np.linspace(0.2, 0.9, len(POLICIES))


def drives(side: str, means: np.ndarray, seed: int, noise: float = 0.05, draws: int = 2) -> pd.DataFrame:
    """A row for each scene, policy and draw."""
    rng = np.random.default_rng(seed)
    rows = [
        {"scene_id": scene, "policy": policy, "draw": draw, "side": side, "crowded": 0}
        | dict.fromkeys(COLUMNS, mean + noise * rng.standard_normal())
        | {"path_x": None, "path_y": None}
        for scene in GROUPS
        for policy, mean in zip(POLICIES, means)
        for draw in range(draws)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def run(tmp_path: Path) -> Prepared:
    command = OpeCommand(policies=POLICIES, scores=("pdms",), beside=("cv",), mlflow=False)
    listed = tuple(Listed(scene, group, "0") for scene, group in GROUPS.items())
    shards.make_folders(tmp_path)
    return Prepared(Settings(command, (("model", "cv"),), POLICIES, listed, tmp_path), POLICIES, {}, "0", {})


def kept(run: Prepared, sides: dict[str, np.ndarray], noise: float = 0.05) -> None:
    """Shards of estimates by these sides and of the truth."""
    found = pd.concat([drives(name, means, i + 1, noise) for i, (name, means) in enumerate(sides.items())])
    true = pd.concat([drives("road_3s", TRUE, 0, noise), drives("road_8s", TRUE, 9, noise)])
    for part, rows in ((shards.ESTIMATES, found), (shards.ROAD, true)):
        for scene, mine in rows.groupby("scene_id"):
            shards.write(run.settings.out, part, str(scene), mine)


def joined(run: Prepared, sides: dict[str, np.ndarray], noise: float = 0.05) -> Joined:
    kept(run, sides, noise)
    return join(run, {"estimates": {}, "truth": {}})


def test_the_right_order_agrees_and_the_reverse_disagrees(run: Prepared) -> None:
    both = joined(run, {"model": 2.0 * TRUE, "cv": -TRUE})
    assert both.estimators == ("model", "cv")
    found, apart = agreements(run, both)
    by = {(row.estimator, row.truth, row.metric): row.agreed for row in found}
    for truth in ("road_3s", "road_8s"):
        assert [by["model", truth, m].value for m in METRICS] == pytest.approx([1, 1, 1, 0, 0], abs=2e-3)
        assert [by["cv", truth, m].value for m in ("spearman", "kendall", "regret_at_1")] == pytest.approx([-1, -1, 1])
    assert by["model", "road_3s", "spearman"].over_scenes.count == len(set(GROUPS.values()))
    assert by["model", "road_3s", "spearman"].over_policies.count == len(POLICIES)
    gap = next(row.agreed for row in apart if (row.truth, row.metric) == ("road_3s", "spearman"))
    assert gap.value == 2.0
    assert gap.over_scenes.low > 1.5
    words = next(row.words for row in found if row.metric == "spearman")
    assert "Below 16 policies" in words


def test_figures_are_those_of_the_statistics(run: Prepared) -> None:
    means = TRUE + np.array([0.0, 0.3, -0.2, 0.0, -0.4, 0.1])
    both = joined(run, {"model": means}, noise=0.3)
    one = next(row.agreed for row in agreements(run, both)[0] if row.metric == "spearman")
    names = [GROUPS[scene] for scene in both.scenes]
    tables = [both.table(side, "pdms", POLICIES) for side in ("model", "road_3s")]
    known = agreement(spearman, figure="spearman", estimate=tables[0], real=tables[1], scenes=names, seed=0)
    assert one.value == known.value
    assert one.over_policies.low == pytest.approx(known.over_policies.low)  # the very draws
    assert one.over_policies.high == pytest.approx(known.over_policies.high)
    width = known.over_scenes.high - known.over_scenes.low
    assert width > 0.1
    assert one.over_scenes.low == pytest.approx(known.over_scenes.low, abs=0.3 * width)


def test_scenes_are_drawn_for_estimate_and_truth_together(run: Prepared) -> None:
    """An estimator that says of every drive what is true is perfect in every resample, however drives scatter."""
    kept(run, {"model": TRUE}, noise=1.0)
    for scene in GROUPS:
        true = pd.read_parquet(shards.folder(run.settings.out, shards.ROAD) / f"{scene}.parquet")
        same = true[true["side"] == "road_3s"].assign(side="model")
        shards.write(run.settings.out, shards.ESTIMATES, scene, same)
    found, _ = agreements(run, join(run, {}))
    one = next(row.agreed for row in found if (row.truth, row.metric) == ("road_3s", "pearson"))
    assert (one.over_scenes.low, one.over_scenes.high) == pytest.approx((1.0, 1.0))


def test_an_estimator_is_not_better_than_itself_and_draws_are_common() -> None:
    rng = np.random.default_rng(0)
    groups = tuple(GROUPS.values())
    table, other = rng.normal(size=(2, len(POLICIES), SCENES)) + TRUE[None, :, None]
    real = Side.of_table(table, POLICIES, groups, 0)
    mine = measure("pearson", Side.of_table(other, POLICIES, groups, 0), real, 0)
    gap = mine.minus(mine).agreed("pearson", 8, len(POLICIES))
    assert (gap.over_scenes.low, gap.value, gap.over_scenes.high) == (0.0, 0.0, 0.0)
    # Scenes are drawn for both sides together: a side against itself is perfect in every resample.
    assert measure("pearson", real, real, 0).scenes == pytest.approx(np.ones(1000))


def test_one_policy_and_tied_scores_have_no_order_and_say_why(run: Prepared) -> None:
    both = joined(run, {"model": np.full(len(POLICIES), 0.5), "cv": TRUE}, noise=0.0)
    found, apart = agreements(run, both)
    tied = [row for row in found if row.estimator == "model"]
    assert all(math.isnan(row.agreed.value) for row in tied)
    assert all(row.words for row in tied)
    assert apart
    assert all(math.isnan(row.agreed.value) for row in apart)  # nobody is better than who has no order
    alone = replace(run, settings=replace(run.settings, policies=("idm_normal",)))
    single, _ = agreements(alone, join(alone, {}))
    assert all(math.isnan(row.agreed.value) and row.words for row in single)
    assert [row.policy for row in estimates(alone, join(alone, {})) if row.estimator == "model"] == ["idm_normal"]


def test_other_scenes_are_refused_with_the_difference(run: Prepared) -> None:
    kept(run, {"model": TRUE})
    for scene in ("s03", "s07"):
        (shards.folder(run.settings.out, shards.ROAD) / f"{scene}.parquet").unlink()
    with pytest.raises(InputError, match=r"other scenes: only estimates have 2: s03, s07; expected the same"):
        join(run, {})
    with pytest.raises(InputError, match=r"only estimates have 1: a; only truth have 5: c, d, e and 2 more"):
        check_same({"a", "b"}, {"b", "c", "d", "e", "f", "g"}, "scenes")
    # A scene that failed on one side is left out on both, and listed.
    found = join(run, {"truth": {"s03": "no lanes", "s07": "no lanes"}})
    assert len(found.scenes) == SCENES - 2
    assert found.failures["reason"].tolist() == ["no lanes", "no lanes"]


def test_a_truth_without_what_runs_beside_it_is_refused(run: Prepared) -> None:
    kept(run, {"model": TRUE})
    asked = replace(run.settings.command, beside=("cv", "oracle", "log-replay"))
    asking = replace(run, settings=replace(run.settings, command=asked))
    with pytest.raises(InputError, match="its truth was made without log-replay, oracle, expected it there"):
        join(asking, {})
    for scene, mine in pd.concat([drives("oracle", TRUE, 4), drives("log-replay", TRUE, 5)]).groupby("scene_id"):
        shards.write(run.settings.out, shards.REPLAY, str(scene), mine)
    found, _ = agreements(asking, join(asking, {}))
    assert {row.estimator for row in found} >= {"model", "oracle", "log-replay"}


def test_a_drive_that_is_no_number_counts_as_the_worst_and_is_listed(run: Prepared) -> None:
    kept(run, {"model": TRUE})
    path = shards.folder(run.settings.out, shards.ESTIMATES) / "s05.parquet"
    rows = pd.read_parquet(path)
    rows.loc[rows["policy"] == "random", list(COLUMNS)] = np.nan
    rows.to_parquet(path)
    found = join(run, {})
    assert found.table("model", "pdms", ("random",))[0, 5] == 0.0
    assert found.failures["policy"].tolist() == ["random"]
    assert "2 drives on side model are no numbers" in found.failures["reason"][0]
    assert found.values["failed"].sum() == 2


def test_a_policy_that_cannot_drive_counts_as_nothing_and_stands_apart(run: Prepared) -> None:
    bad = replace(run, rejected={"mine:Policy": "RuntimeError: no"}, policies=(*POLICIES, "mine:Policy"))
    both = joined(bad, {"model": TRUE})
    row = next(row for row in estimates(bad, both) if row.policy == "mine:Policy")
    assert (row.interval.value, row.refused) == (0.0, "RuntimeError: no")
    assert next(row.policies for row in agreements(bad, both)[0]) == len(POLICIES)
    assert both.failures.to_dict("records")[0]["kind"] == "trial"


def test_without_propensities_estimators_by_weights_say_so(run: Prepared) -> None:
    refused = {row.refused for row in estimates(run, joined(run, {"model": TRUE})) if row.estimator in METHODS}
    assert refused == {"the logs hold no propensities"}


def test_open_loop_is_minus_the_mean_distance_from_the_log() -> None:
    paths = {"path_x": [np.array([1.0, 2.0])] * 2 + [np.array([np.nan, np.nan])], "path_y": [np.zeros(2)] * 3}
    rows = pd.DataFrame({"scene_id": ["a", "b", "b"], "policy": "p", "draw": 0, "side": "cv", "crowded": 0, **paths})
    rows = rows.assign(**dict.fromkeys(COLUMNS, 1.0))
    ego = pd.DataFrame({"scene_id": ["a", "a", "b", "b"], "seconds": [0.5, 1.0] * 2})
    ego = ego.assign(x=[1.0, 2.0, 4.0, np.nan], y=[3.0, 5.0, 4.0, np.nan])
    found = open_loop(rows, ego, ("pdms",), 2)
    # Where the log does not show the ego the frame is left out; who is nowhere has the worst distance.
    assert found["pdms"].tolist() == [-4.0, -5.0, -5.0]
    assert set(found["side"]) == {OPEN}
    assert found["comfort"].isna().all()


def test_the_same_tables_make_the_same_bytes(run: Prepared) -> None:
    both = joined(run, {"model": 2.0 * TRUE, "cv": TRUE[::-1]})
    (run.settings.out / "config.json").write_text('{"config": {}}')
    first = finish(run, both)
    ranks = [row.value for row in rows_of(first.agreement, "pdms", "road_3s") if row.metric == "spearman"]
    assert ranks == pytest.approx([1.0, -1.0])
    assert finish(run, join(run, {})).manifest == first.manifest


@pytest.mark.parametrize("metric", METRICS)
def test_many_resamples_at_once_are_what_each_is_alone(metric: str) -> None:
    rng = np.random.default_rng(0)
    estimate, real = rng.integers(0, 4, (2, 60, 7)).astype(np.float64)  # many ties
    estimate[0], real[1], estimate[2, 3] = 1.0, 2.0, np.nan
    found = batched(metric, estimate, real)
    for row, one in enumerate(found):
        if row == 2:
            assert math.isnan(one)
            continue
        alone = METRICS[metric](estimate=estimate[row], real=real[row]).value
        assert one == pytest.approx(alone, abs=1e-12, nan_ok=True)
