"""Scoring: what the cache's keys hold, chunks and shared prefixes that change no bit, and races on equal terms."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from critics import Composite, CostWeights, TaskConfig, TaskCritic, VistaCritic, recompute
from experiments.assembly import build_composite, build_model, model_spec
from experiments.racing import LEAST, race
from experiments.rank_scene import decide
from experiments.scoring import AROUND, PASS_BYTES, Scorer, row_bytes, rows_within
from optimizers import PoolConfig, make
from rollout_cache import NoCache, TermsCache
from wmplan.errors import InputError
from wmplan.models import checkpoint
from wmplan.plans import Plans
from wmplan.ranking import Judgement, Verdict
from wmplan.start import start_of
from wmplan.testing.scenes import Body, straight_road

MEMORY = 256 * 2**20
BODIES = [Body(12.0, 0.0, speed=4.0), Body(-9.0, 3.5, speed=9.0), Body(20.0, 3.5, speed=6.0)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def nano() -> Scorer:
    spec = model_spec("nano")
    return Scorer(build_model(spec, 3.0), build_composite(spec, 3.0, CostWeights()), NoCache(), 7, 2, MEMORY, False)


@pytest.fixture(scope="module")
def scene():
    return straight_road(BODIES, 8.0, "scene")[0]


def tree_plans(choices: int = 2, seed: int = 0) -> Plans:
    stage = np.random.default_rng(seed).normal(size=(3, choices, 2)) * [2.0, 0.02]
    rows = [np.repeat([stage[s, c] for s, c in enumerate(pick)], 10, axis=0) for pick in
            itertools.product(range(choices), repeat=3)]  # fmt: skip
    return Plans.from_controls(np.stack(rows), 8.0)


# ------------------------------------------------------------------------------------------------------- keys


def key(scorer: Scorer, scene, plans: Plans) -> bytes:
    of_scene = scorer.scene(scene)
    return of_scene.keys(plans, scorer.composite, of_scene.noise.samples)[0]


def moved(scene, **changes):
    states = scene.agents.states.copy()
    states[0, -1, 0] += 0.5
    return replace(scene, agents=replace(scene.agents, states=states), **changes)


def test_every_ingredient_of_a_score_changes_its_key(nano, scene, tmp_path):
    plans = tree_plans()
    first = key(nano, scene, plans)
    card = checkpoint.read_card(Path(model_spec("nano")))
    digests = {nano.model.digest}
    for part in ("tokenizer.decoder.embed.bias", "dynamics.place"):
        changed = build_model(model_spec("nano"), 3.0)
        with torch.no_grad():
            changed.network.get_parameter(part).view(-1)[0] += 1e-3
        checkpoint.save(tmp_path / part, changed.network, card)
        digests.add(checkpoint.load(tmp_path / part).digest)
    assert len(digests) == 3, "tokenizer and dynamics are both in the model's digest"
    nudged = plans.controls.astype(np.float64)
    nudged[0, 29, 1] += 1e-4
    task = Composite([TaskCritic(TaskConfig(discount=0.8)), VistaCritic()])
    seen = [
        key(replace(nano, model=checkpoint.load(tmp_path / "dynamics.place")), scene, plans),
        key(replace(nano, model=build_model("cv", 3.0)), scene, plans),
        key(replace(nano, model=build_model("cv", 2.5)), scene, plans),
        key(replace(nano, composite=task), scene, plans),
        key(replace(nano, composite=Composite([TaskCritic(), VistaCritic()])), scene, plans),
        key(replace(nano, seed=8), scene, plans),
        key(replace(nano, samples=4), scene, plans),
        key(nano, moved(scene), plans),
        key(nano, straight_road(BODIES, 8.1, "scene")[0], plans),
        key(nano, replace(scene, route=scene.route + np.float32(0.1)), plans),
        key(nano, scene, Plans.from_controls(nudged, 8.0)),
        key(nano, scene, Plans.from_controls(plans.controls.astype(np.float64), 8.1)),
    ]
    assert len({first, *seen}) == 1 + len(seen)
    assert key(replace(nano, memory=2 * MEMORY, racing=True), scene, plans) == first
    heavier = Composite(nano.composite.critics, CostWeights(collision=9.0))
    assert key(replace(nano, composite=heavier), scene, plans) == first, "weights price terms, they do not make them"


# ---------------------------------------------------------------------------------------- chunks and prefixes


def test_memory_and_companions_change_no_bit_and_steps_are_counted(nano, scene, tmp_path):
    plans = tree_plans()
    wide = nano.scene(scene)
    terms = wide.terms(plans)
    assert (wide.count.steps_asked, wide.count.steps_imagined) == (8 * 2 * 6, 2 * 2 * (2 + 4 + 8))
    assert (wide.count.imagined, wide.count.cached) == (8, 0)
    tight = replace(nano, memory=PASS_BYTES + int(3.5 * AROUND * row_bytes(nano.model, 2))).scene(scene)
    order = [5, 0, 3, 6, 1, 7, 2, 4]
    assert [len(part) for part in tight.parts(plans, 2)] == [3, 3, 2]
    assert np.array_equal(tight.terms(plans.select(order)).values, terms.values[order])
    assert 2 * 2 * (2 + 4 + 8) < tight.count.steps_imagined < 8 * 2 * 6, "what stands side by side is shared"
    with TermsCache(tmp_path) as cache:
        kept = replace(nano, cache=cache).scene(scene)
        kept.terms(plans.select([0, 3]))
        assert np.array_equal(kept.terms(plans).values, terms.values)
        assert (kept.count.imagined, kept.count.cached) == (8, 2)
        again = replace(nano, cache=cache).scene(scene)
        assert np.array_equal(again.terms(plans).values, terms.values)
        assert (again.count.imagined, again.count.cached, again.count.steps_imagined) == (0, 8, 0)
        assert again._context is None, "a scene that is known is not encoded"


def test_a_broken_plan_costs_nothing_and_is_not_counted(nano, scene):
    plans = tree_plans().select([0, 1])
    states = plans.states.copy()
    states[1, 3] = np.nan
    scorer = nano.scene(scene)
    values = scorer.terms(Plans(plans.controls, states)).values
    assert np.isfinite(values[0]).all()
    assert np.isnan(values[1]).all()
    assert scorer.count.steps_asked == 2 * 6


def test_a_budget_that_holds_no_candidate_is_refused(nano):
    least = PASS_BYTES + int(AROUND * row_bytes(nano.model, 64))
    assert rows_within(least, nano.model, 64) == 1
    with pytest.raises(
        InputError, match=r"memory for imagination is 64 MiB, expected at least .* 64 samples x 6 steps"
    ):
        rows_within(PASS_BYTES, nano.model, 64)


# ------------------------------------------------------------------------------------------------------ races


@pytest.fixture(scope="module")
def by_hand(nano, scene):
    """Eleven candidates, their terms and steps scored in full, and who is left after two halvings: one sample without
    the reward, then two with it, the better half each time."""
    plans = Plans.concatenate([tree_plans(2, seed) for seed in (0, 1)]).select(list(range(11)))
    full = replace(nano, samples=4).scene(scene)
    terms = full.terms(plans).values
    single = Composite([c for c in nano.composite.critics if c.name != "vista"])
    one = replace(nano, samples=1, composite=single).scene(scene).terms(plans)
    alive = np.sort(_order(single.judge(one))[:6])
    two = replace(nano, samples=2).scene(scene).terms(plans.select(alive))
    alive = np.sort(alive[_order(nano.composite.judge(two))[:3]])
    return plans, terms, full.count.steps_imagined, alive


def _order(judged: Judgement) -> np.ndarray:
    """From cheap to dear, whoever is refused behind all others."""
    refused = judged.verdict == Verdict.REFUSED
    return np.concatenate([np.flatnonzero(part)[np.argsort(judged.total[part])] for part in (~refused, refused)])


@pytest.mark.parametrize("memory", [MEMORY, PASS_BYTES + 3 * 2**22], ids=["kept", "imagined again"])
def test_a_race_halves_and_ends_with_the_terms_of_full_scoring(nano, scene, by_hand, memory):
    plans, terms, full_steps, alive = by_hand
    scorer = replace(nano, samples=4, memory=memory).scene(scene)
    raced = race(scorer, plans)
    assert sorted(raced.samples.tolist()) == [1] * 5 + [2] * 3 + [4] * 3
    there = raced.samples == 4
    assert np.flatnonzero(there).tolist() == alive.tolist()
    assert np.array_equal(raced.terms.values[there], terms[there])
    assert np.isnan(raced.terms.values[~there]).all()
    assert scorer.count.steps_asked == 11 * 4 * 6
    assert scorer.count.steps_imagined < (0.75 if memory == MEMORY else 1.0) * full_steps
    assert (scorer.count.imagined, scorer.count.cached) == (11, 0)


def test_a_raced_study_reads_back_what_it_stored(nano, scene, tmp_path):
    plans = tree_plans()
    with TermsCache(tmp_path) as cache:
        first = replace(nano, samples=4, cache=cache).scene(scene)
        raced = race(first, plans)
        again = replace(nano, samples=4, cache=cache).scene(scene)
        second = race(again, plans)
        assert np.array_equal(second.terms.values, raced.terms.values, equal_nan=True)
        assert np.array_equal(second.samples, raced.samples)
        assert (again.count.imagined, again.count.cached, again.count.steps_imagined) == (0, 8, 0)
        full = replace(nano, samples=4, cache=cache).scene(scene)
        full.terms(plans)
        assert full.count.cached == 2, "who reached the end is scored for good"


def test_a_few_are_not_raced(nano, scene):
    few = tree_plans().select(list(range(LEAST - 1)))
    assert (race(replace(nano, model=build_model("cv", 3.0)).scene(scene), few).samples == 2).all()


def test_refused_candidates_leave_first(nano, scene):
    scorer = replace(nano, model=build_model("cv", 3.0))
    plans = tree_plans(2, 3)
    terms = scorer.scene(scene).terms(plans)
    support = terms.column("support_p")
    third = float(np.sort(support)[-3])
    allowed = set(np.flatnonzero(support >= third).tolist())
    assert len(allowed) == 3
    refusing = Composite(nano.composite.critics, CostWeights(support=0.0, downweight_p=1.0, refuse_p=third))
    cheapest = np.argsort(refusing.judge(terms).total)[:4].tolist()
    assert not allowed <= set(cheapest), "cost alone would keep others"
    raced = race(replace(scorer, composite=refusing).scene(scene), plans)
    assert allowed <= set(np.flatnonzero(raced.samples == 2).tolist())


def test_ledger_of_a_race_says_who_was_scored_with_how_many_samples(nano, scene):
    pool = make("pool", PoolConfig(budget=20))
    scorer = replace(nano, samples=4, racing=True).scene(scene)
    decision, rows = decide(scene, start_of(scene), "pool", pool, scorer, 0)
    drivable = rows["infeasible"] == 0
    finalist = rows["round"] == -1
    count = int((drivable & ~finalist).sum())
    ends = (count + 1) // 2
    expected = {1: count - ends, 2: ends - (ends + 1) // 2, 4: (ends + 1) // 2 + int((drivable & finalist).sum())}
    assert rows.loc[drivable, "samples"].value_counts().to_dict() == expected
    assert (rows.loc[~drivable, "samples"] == 0).all()
    lost = drivable & (rows["samples"] < 4)
    assert np.isinf(rows.loc[lost, "cost"]).all()
    assert not rows.loc[lost, "eligible"].any()
    assert set(rows.loc[lost, "reasons"]) == {f"left the race after {n} of 4 samples" for n in (1, 2)}
    assert (decision.raced_out, decision.nonfinite) == (int(lost.sum()), 0)
    assert decision.raced_out + decision.refused + decision.downweighted + decision.trusted == int(drivable.sum())
    assert rows.loc[rows["chosen"], "samples"].tolist() == [4]
    np.testing.assert_array_equal(recompute(pd.DataFrame(rows), CostWeights()), rows["cost"])
