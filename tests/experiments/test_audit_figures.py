"""An audit's figures on made-up candidates: known answers, limits, placebos that must fall, noise that must curse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from critics import Composite, CostWeights, TaskCritic, VistaCritic
from critics.weights import COST_PARTS
from experiments.audit.joined import LOGGED_PDMS, Joined
from experiments.audit.selecting import choices, reordered_inside, selecting, sizes_of
from experiments.audit.support import (
    by_support,
    doubts,
    errors,
    partial_spearman,
    refusals,
    told,
)
from experiments.audit.within import PERMUTED, orientation, scene_metrics, within
from wmplan.contracts import Terms
from wmplan.statistics.selection import expected_maximum, selection_curve

SCENES, SIZE = 40, 64


def made(rng: np.random.Generator, noise: float = 0.0, **columns: np.ndarray) -> Joined:
    """Candidates whose imagined score is the real one and noise; a "blind" contender imagines nothing of them."""
    count = SCENES * SIZE
    real = rng.uniform(0.0, 1.0, count)
    pdms = real + noise * rng.standard_normal(count)
    scene = np.repeat([f"scene {i:02d}" for i in range(SCENES)], SIZE)
    rows = pd.DataFrame({"scene_id": scene, "group": np.repeat([f"g{i // 2}" for i in range(SCENES)], SIZE)})
    rows["row"] = np.tile(np.arange(SIZE), SCENES)
    rows["kind"] = np.where(rows["row"] == 0, "logged", np.where(rows["row"] < 9, "shaken", "cem"))
    rows["distance_m"], rows["end_speed_mps"] = np.nan, 5.0
    rows["length_m"], rows["curvature_pm"] = rng.uniform(1.0, 30.0, count), rng.uniform(0.0, 0.1, count)
    rows["pdms"], rows["cost_task"] = pdms, 1.0 - pdms
    rows["support_s"], rows["support_p"] = rng.standard_normal(count), rng.uniform(0.02, 1.0, count)
    rows["vista_reward"], rows["vista_swept"] = rng.uniform(0.0, 1.0, count), rng.uniform(-1.0, 0.0, count)
    for name in ("cost_reward", "cost_probe", "cost_support"):
        rows[name] = 0.0
    rows = rows.assign(**columns)
    rows["cost"] = rows[list(COST_PARTS)].sum(axis=1)
    rows["verdict"] = np.where(rows["support_p"] < 0.01, "refused", "trusted")
    for name in ("real_pdms", "real_nuplan_score", f"real_{LOGGED_PDMS}"):
        rows[name] = real
    own = rows[["pdms", *COST_PARTS, "cost"]].assign(nuplan_score=pdms)
    blind = own.assign(cost=rng.uniform(size=count), cost_task=0.0, pdms=0.5)
    return Joined(rows, {"nano": own, "blind": blind}, ("pdms", "nuplan_score"), 999, {})


# -------------------------------------------------------------------------------------------------------- ranking


def test_a_scenes_metrics_at_their_limits():
    real = np.array([0.0, 0.2, 0.2, 0.7, 1.0])
    assert scene_metrics(real, real) == pytest.approx(
        {"pairwise_accuracy": 1.0, "ndcg_at_5": 1.0, "selection_regret": 0.0, "spearman": 1.0}
    )
    worst = scene_metrics(-real, real)
    assert worst["pairwise_accuracy"] == 0.0
    assert worst["selection_regret"] == 1.0
    assert worst["spearman"] == pytest.approx(-1.0)
    assert np.isnan(scene_metrics(real, np.ones(5))["pairwise_accuracy"]), "no order, no figure"
    lost = scene_metrics(np.array([np.nan, 0.2, 0.2, 0.7, 1.0]), real)
    assert lost["pairwise_accuracy"] == 1.0, "what is no number ranks last, where the worst belongs"


def test_a_critic_that_says_nothing_counts_as_the_mean_of_all_orders():
    rng = np.random.default_rng(0)
    real = rng.uniform(size=9) ** 3
    constant = scene_metrics(np.full(9, 0.3), real)
    drawn = pd.DataFrame([scene_metrics(rng.permutation(9).astype(float), real) for _ in range(4000)])
    for name, value in constant.items():
        error = drawn[name].std() / np.sqrt(len(drawn))
        assert abs(drawn[name].mean() - value) < 4.0 * error, name


def test_what_is_less_and_what_is_more_of_every_column():
    columns = {*TaskCritic().columns, *VistaCritic().columns, "support_s", "support_p", "support_excess", "probe_error"}
    less = {name for name in columns if orientation(name) < 0}
    assert less == {
        *(f"collision_{i}" for i in range(1, 7)), "collision_vehicle", "collision_vru", "contact_rear", "offroad_share",
        "against_m", "red_light", "lateral_m", "outside_window", "support_s", "support_excess", "probe_error",
        *(name for name in columns if name.endswith("_cost")),
    }  # fmt: skip
    assert orientation("probe_accel") == 0
    assert {orientation(name) for name in (*COST_PARTS, "cost")} == {-1}


def test_truth_orders_all_pairs_and_placebos_fall_to_one_half():
    found = within(made(np.random.default_rng(1)), "nano", seed=0, resamples=200)
    assert found.of("nano").metrics["pairwise_accuracy"].value == 1.0
    for name in ("blind", PERMUTED):
        value = found.of(name).metrics["pairwise_accuracy"]
        assert value.low <= 0.5 <= value.high
    gains = {one.placebo: one.interval for one in found.differences if one.metric == "pairwise_accuracy"}
    assert gains["blind"].low > 0.4
    assert gains[PERMUTED].count == SCENES // 2, "groups are drawn, not scenes"
    noisy = within(made(np.random.default_rng(1), noise=1.0), "nano", seed=0, resamples=100)
    assert 0.55 < noisy.of("nano").metrics["pairwise_accuracy"].value < 0.75


# -------------------------------------------------------------------------------------------------------- support


def test_a_support_that_is_the_error_knows_it_and_one_that_is_noise_does_not():
    rng = np.random.default_rng(2)
    joined = made(rng, noise=0.2)
    joined.rows["support_s"] = errors(joined.rows) + 1e-9 * rng.standard_normal(len(joined.rows))
    joined.rows["neighbours_s"] = rng.standard_normal(len(joined.rows))
    known = {one.name: one for one in doubts(joined, seed=0, resamples=400)}
    assert known["support"].correlation.value > 0.999
    assert known["support"].aurc.value == pytest.approx(known["support"].curve.oracle_aurc, rel=1e-6)
    assert known["support"].highest > 0.999
    noise = known["neighbours"]
    assert noise.correlation.low < 0.0 < noise.correlation.high
    assert noise.curve.random == pytest.approx(noise.aurc.value, rel=0.1)
    bins = by_support(joined, seed=0, resamples=100)
    assert [one.error.value for one in bins] == sorted((one.error.value for one in bins), reverse=True)
    assert sum(one.count for one in bins) == len(joined.rows)


def test_where_most_errors_are_none_no_estimator_is_highly_correlated():
    rng = np.random.default_rng(3)
    joined = made(rng)
    wrong = rng.uniform(size=len(joined.rows)) < 0.05
    joined.rows["pdms"] = joined.rows["real_pdms"] + np.where(wrong, 0.5, 1e-5)
    share = wrong.mean()
    highest = doubts(joined, seed=0, resamples=400)[0].highest
    # Ranks of a two-valued side against any order without ties: sqrt(3 p (1 - p)).
    assert highest == pytest.approx(np.sqrt(3.0 * share * (1.0 - share)), rel=1e-3)
    assert (errors(joined.rows) == 0.0).mean() == pytest.approx(1.0 - share)


def test_refusals_lie_in_the_band_where_p_is_uniform_and_outside_where_it_is_not():
    joined = made(np.random.default_rng(4))
    logged = joined.rows["kind"] == "logged"
    joined.rows.loc[logged, "support_p"] = (np.arange(SCENES) + 0.5) / SCENES
    assert all(one.inside for one in refusals(joined))
    joined.rows.loc[logged, "support_p"] = 0.005
    assert not any(one.inside for one in refusals(joined))
    joined.rows["support_s"] = np.where(joined.rows["kind"] == "shaken", 10.0, joined.rows["support_s"].clip(upper=3.0))
    shaken = [one for one in told(joined, seed=0, resamples=100) if one.kind == "shaken"]
    assert shaken[0].auroc.value == 1.0


def test_what_a_confounder_explains_is_gone_when_it_is_held_fixed():
    rng = np.random.default_rng(5)
    speed = rng.uniform(size=4000)
    a, b = speed + 0.1 * rng.standard_normal(4000), speed + 0.1 * rng.standard_normal(4000)
    assert np.corrcoef(a, b)[0, 1] > 0.8
    assert abs(partial_spearman(a, b, speed[:, None])) < 0.1
    assert partial_spearman(a, a**3, speed[:, None]) == pytest.approx(1.0)
    assert np.isnan(partial_spearman(speed, b, speed[:, None])), "nothing is left of a side that is the confounder"


# ------------------------------------------------------------------------------------------------------- choosing


def test_noise_alone_curses_as_predicted_and_the_gate_takes_what_it_shuts_out():
    rng = np.random.default_rng(6)
    joined = made(rng)
    rows = joined.rows
    noise = rng.standard_normal(len(rows))
    rows["real_pdms"] = 0.5
    # Half of the candidates are imagined badly, and known to be off the support.
    bad = rng.uniform(size=len(rows)) < 0.5
    rows["pdms"] = 0.5 + np.where(bad, noise, 0.0)
    rows["cost_task"] = rows["cost"] = 1.0 - rows["pdms"]
    rows["verdict"] = np.where(bad, "refused", "trusted")
    found = selecting(joined, seed=0, resamples=200)
    assert found.ungated.sizes == sizes_of(SIZE) == (1, 4, 16, 64)
    curse = found.ungated.curse[-1]
    # The largest of 64 of which each is noise or nothing: that of about 32 of noise alone.
    assert curse.low < expected_maximum(32) < curse.high
    assert found.ungated.real_gain[-1].value == 0.0
    assert abs(found.gated.curse[-1].value) < 0.1
    assert found.gated.refused[0] == pytest.approx(bad.mean())


def test_the_curve_is_by_one_number_and_of_another():
    rng = np.random.default_rng(7)
    chosen_by, looks, real = (rng.standard_normal((30, 8)) for _ in range(3))
    names = [f"s{i}" for i in range(30)]
    curve = selection_curve(
        estimate=chosen_by, looks=looks, real=real, sizes=(1, 8), scenes=names, seed=0, resamples=100
    )
    best = chosen_by.argmax(1)
    gain = looks[np.arange(30), best] - looks.mean(1)
    assert curve.imagined_gain[1].value == pytest.approx(gain.mean())
    assert curve.imagined_gain[0].value == pytest.approx(0.0, abs=1e-12)


def test_standing_still_is_counted_where_the_log_moves_only():
    joined = made(np.random.default_rng(8))
    rows = joined.rows
    best = choices(rows, -rows["cost"].to_numpy(), np.ones(len(rows), bool))
    rows.loc[best, "end_speed_mps"] = 0.0
    logged = np.flatnonzero(rows["kind"] == "logged")
    moving = [row for row in logged if row not in best]
    rows.loc[[row for row in moving[: len(moving) // 2]], "end_speed_mps"] = 1.0
    found = selecting(joined, seed=0, resamples=100)
    assert found.stop.value == 1.0
    moves = rows.loc[logged].groupby("group", sort=True)["end_speed_mps"].max() > 2.0
    assert found.stop.count == moves.sum()
    assert np.isnan(choices(rows, -rows["cost"].to_numpy(), np.zeros(len(rows), bool))).sum() == 0
    assert set(choices(rows, -rows["cost"].to_numpy(), np.zeros(len(rows), bool))) == {-1}


def test_the_penalty_of_the_composite_reorders_nothing_inside_and_a_planted_one_is_counted():
    rng = np.random.default_rng(9)
    names = (*TaskCritic().columns, "support_s", "support_p", "support_excess")

    class Given:
        name, digest, columns = "given", "given", names

        def terms(self, context, plans, imagined):
            raise AssertionError

    values = rng.uniform(size=(SIZE * SCENES, len(names))).astype(np.float32)
    values[:, names.index("support_excess")] *= values[:, names.index("support_p")] < 0.05
    judged = Composite([Given()], CostWeights(support=5.0)).judge(Terms(names, values))
    joined = made(rng)
    rows = joined.rows.assign(support_p=values[:, names.index("support_p")], cost=judged.total)
    for name in COST_PARTS:
        rows[name] = judged.parts.column(name)
    reordered, inside = reordered_inside(rows)
    assert reordered == 0
    assert inside > 10_000
    first = rows.index[(rows["scene_id"] == "scene 00") & (rows["support_p"] >= 0.05)]
    rows.loc[first[np.argmin(rows.loc[first, "cost"])], "cost"] = 1e6
    assert reordered_inside(rows)[0] == len(first) - 1
