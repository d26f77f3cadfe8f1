"""One scene and one planner: candidates asked for, scored, told, ranked; the decision and its rows of the ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int32
from numpy import ndarray

from experiments.assembly import Planner
from experiments.ledger import FINALISTS, Decision
from experiments.scoring import SceneScorer
from optimizers.loop import plan as optimize
from wmplan.contracts import Optimizer, Terms
from wmplan.plans import Plans, Start
from wmplan.randomness import fold_in
from wmplan.ranking import Ranking, Verdict
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
        asked = _Asked(plans, ("policy",) * len(plans), none, none + FINALISTS, scorer.terms(plans))
    judgement = scorer.scorer.composite.judge(asked.terms)
    ranking = Ranking(scene.scene_id, name, asked.plans, asked.labels, asked.infeasible, asked.terms, judgement)
    rows = ranking.frame()
    rows.insert(1, "dataset", scene.dataset)
    rows.insert(2, "group", scene.group)
    rows.insert(4, "round", asked.rounds)
    return decision_of(ranking), rows


@dataclass(frozen=True)
class _Asked:
    """All rows that a planner proposed, with their terms (NaN where nothing was imagined)."""

    plans: Plans
    labels: tuple[str, ...]
    infeasible: Int32[ndarray, "K"]
    rounds: Int32[ndarray, "K"]
    terms: Terms


def _optimized(planner: Optimizer, start: Start, key: int, scorer: SceneScorer) -> _Asked:
    composite = scorer.scorer.composite
    known: list[Terms] = []

    def evaluate(round_: int, plans: Plans) -> Float64[ndarray, "K"]:
        known.append(scorer.terms(plans))
        return composite.judge(known[-1]).total

    found = optimize(planner, evaluate, start, key)
    values = np.full((len(found.plans), len(composite.columns)), np.nan, dtype=np.float32)
    if known:
        values[found.evaluated] = np.concatenate([part.values for part in known])
    return _Asked(found.plans, found.labels, found.infeasible, found.rounds, Terms(composite.columns, values))


def decision_of(ranking: Ranking) -> Decision:
    """The decision with its counts; "no plan" with counted reasons where nothing is eligible."""
    judged = ranking.judgement
    drivable = ranking.infeasible == 0
    chosen = ranking.chosen
    decision = Decision(
        ranking.scene_id,
        ranking.planner,
        "no_plan",
        ranking.message,
        candidates=len(ranking.plans),
        infeasible=int((~drivable).sum()),
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
