"""One scene and one planner: candidates asked for, scored, told, ranked; the decision and its rows of the ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int32
from numpy import ndarray

from experiments.assembly import Planner
from experiments.ledger import FINALISTS, Decision
from experiments.racing import Raced, race
from experiments.scoring import SceneScorer
from optimizers.loop import plan as optimize
from wmplan.contracts import Optimizer, Terms
from wmplan.plans import Plans, Start
from wmplan.randomness import fold_in
from wmplan.ranking import Judgement, Ranking, Verdict
from wmplan.scene import Scene


def decide(
    scene: Scene, start: Start, name: str, planner: Planner, scorer: SceneScorer, seed: int
) -> tuple[Decision, pd.DataFrame]:
    """What the planner called `name` chose in this scene, and every candidate with its terms, cost, verdict and rank.

    The choice falls on the cheapest eligible row of all: finalists and every earlier round. The draws depend on seed,
    scene and name alone.
    """
    key = fold_in(seed, scene.scene_id, name)
    if isinstance(planner, Optimizer):
        asked = _optimized(planner, start, key, scorer)
    else:
        plans = planner.plan(scene, start, key)
        none = np.zeros(len(plans), dtype=np.int32)
        scored = none + scorer.noise.samples
        asked = _Asked(plans, ("policy",) * len(plans), none, none + FINALISTS, scorer.terms(plans), scored)
    lost = (asked.samples > 0) & (asked.samples < scorer.noise.samples)
    judgement = _named(scorer.scorer.composite.judge(asked.terms), lost, asked.samples, scorer.noise.samples)
    ranking = Ranking(scene.scene_id, name, asked.plans, asked.labels, asked.infeasible, asked.terms, judgement)
    rows = ranking.frame()
    rows.insert(1, "dataset", scene.dataset)
    rows.insert(2, "group", scene.group)
    rows.insert(4, "round", asked.rounds)
    rows.insert(7, "samples", asked.samples)
    return decision_of(ranking, lost), rows


@dataclass(frozen=True)
class _Asked:
    """All rows that a planner proposed, with their terms (NaN where nothing was imagined, or less than all samples) and
    how many samples they were scored with."""

    plans: Plans
    labels: tuple[str, ...]
    infeasible: Int32[ndarray, "K"]
    rounds: Int32[ndarray, "K"]
    terms: Terms
    samples: Int32[ndarray, "K"]


def _optimized(planner: Optimizer, start: Start, key: int, scorer: SceneScorer) -> _Asked:
    composite = scorer.scorer.composite
    known: list[Raced] = []

    def evaluate(round_: int, plans: Plans) -> Float64[ndarray, "K"]:
        if scorer.scorer.racing and round_ != FINALISTS:
            known.append(race(scorer, plans))
        else:
            known.append(Raced(scorer.terms(plans), np.full(len(plans), scorer.noise.samples, dtype=np.int32)))
        return composite.judge(known[-1].terms).total  # +inf for what left the race: it is compared with nothing

    found = optimize(planner, evaluate, start, key)
    values = np.full((len(found.plans), len(composite.columns)), np.nan, dtype=np.float32)
    samples = np.zeros(len(found.plans), dtype=np.int32)
    if known:
        values[found.evaluated] = np.concatenate([part.terms.values for part in known])
        samples[found.evaluated] = np.concatenate([part.samples for part in known])
    return _Asked(found.plans, found.labels, found.infeasible, found.rounds, Terms(composite.columns, values), samples)


def _named(judgement: Judgement, lost: Bool[ndarray, "K"], samples: Int32[ndarray, "K"], full: int) -> Judgement:
    """The judgement, with the race as the reason why those that left it are refused."""
    reasons = tuple(
        f"left the race after {n} of {full} samples" if out else reason
        for reason, out, n in zip(judgement.reasons, lost, samples)
    )
    return replace(judgement, reasons=reasons)


def decision_of(ranking: Ranking, lost: Bool[ndarray, "K"]) -> Decision:
    """The decision with its counts; "no plan" with counted reasons where nothing is eligible. `lost` marks the rows
    that left a race: they are neither refused nor broken."""
    judged = ranking.judgement
    drivable = (ranking.infeasible == 0) & ~lost
    chosen = ranking.chosen
    decision = Decision(
        ranking.scene_id,
        ranking.planner,
        "no_plan",
        ranking.message,
        candidates=len(ranking.plans),
        infeasible=int((ranking.infeasible != 0).sum()),
        raced_out=int(lost.sum()),
        nonfinite=int((drivable & (judged.nonfinite > 0)).sum()),
        refused=int((drivable & (judged.verdict == Verdict.REFUSED)).sum()),
        downweighted=int((drivable & (judged.verdict == Verdict.DOWNWEIGHTED)).sum()),
        trusted=int((drivable & (judged.verdict == Verdict.TRUSTED)).sum()),
    )
    if chosen is None:
        return decision
    known = "support_p" in ranking.terms.columns
    return replace(
        decision,
        status="planned",
        chosen_row=chosen,
        chosen_label=ranking.labels[chosen],
        chosen_cost=float(ranking.cost[chosen]),
        chosen_verdict=Verdict(int(judged.verdict[chosen])).word,
        chosen_support_p=float(ranking.terms.column("support_p")[chosen]) if known else float("nan"),
    )
