"""The figures of the agreement pass: what `agreement.json` says, each with a 95 % scene bootstrap and what it rests on.

Everything is computed within scenes first; scenes that share traffic (a group) are drawn together. Two subsets stand
side by side: `all` scenes, and `unseen`, those whose group the model was not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from experiments.agreement import LOG_REPLAY
from wmplan.randomness import fold_in
from wmplan.statistics import Interval, auroc_interval, bootstrap_mean, paired_bootstrap, pairwise_accuracy, spearman

if TYPE_CHECKING:
    from experiments.study import StudyConfig

EVENTS = ("hard_braking", "short_ttc")
SCORE = "real_pdms"
"""The real score that planners are compared by: PDMS of the chosen plan against the road users of the log."""
NORMAL_95, NORMAL_80 = 1.959964, 0.841621
"""A two-sided 5 % test finds a difference of their sum, in standard errors, in 80 % of studies."""


def figures(
    outcomes: pd.DataFrame,
    decisions: pd.DataFrame,
    scenes: pd.DataFrame,
    skipped: Mapping[str, str],
    config: StudyConfig,
) -> dict[str, Any]:
    """Everything that `agreement.json` holds but the digest. Non-finite numbers become null, with a reason.

    `scenes` has `group` and `group_trained_on` of every scene of the study, by scene id.
    """
    draw = _Draw(config.seed, config.agreement.resamples)
    found: dict[str, Any] = {
        "skipped": [{"scene_id": scene, "why": why} for scene, why in sorted(skipped.items())],
        **{name: {} for name in ("scenes", "executed", "prediction", "order", "planners", "pairs")},
    }
    for name, part in (("all", scenes), ("unseen", scenes[~scenes["group_trained_on"]])):
        rows = outcomes[outcomes["scene_id"].isin(part.index)] if len(outcomes) else outcomes
        scores = score_table(rows, decisions, part)
        found["scenes"][name] = len(part)
        found["executed"][name] = executed_rank(rows, draw)
        found["prediction"][name] = [prediction(rows, event, draw) for event in EVENTS]
        found["order"][name] = real_order(rows, draw)
        found["planners"][name] = planner_scores(scores, decisions, part["group"], draw)
        found["pairs"][name] = planner_pairs(scores, part["group"], draw)
    return found


class _Draw:
    """Seed and number of resamples of every interval."""

    def __init__(self, seed: int, resamples: int) -> None:
        self.seed, self.resamples = fold_in(seed, "bootstrap"), resamples

    def mean(self, values: pd.Series, groups: pd.Series) -> dict[str, Any]:
        """A mean over scenes (NaN = no value)."""
        return plain(
            bootstrap_mean(values.to_numpy(dtype=np.float64), self.seed, groups=list(groups), resamples=self.resamples)
        )


def executed_rank(outcomes: pd.DataFrame, draw: _Draw) -> dict[str, Any]:
    """Is the plan that was driven cheaper than its perturbations?

    `pairwise_accuracy` is the share of perturbations that cost more (ties count half), per scene, then the mean;
    `cheapest` the share of scenes in which none costs less; `placebo` the same as the first with the label "executed"
    given to a random plan of the scene: it must lie at one half.
    """
    rows: list[dict[str, Any]] = []
    kinds = outcomes[outcomes["kind"] != "chosen"] if len(outcomes) else outcomes
    for scene, part in kinds.groupby("scene_id", sort=True) if len(kinds) else ():
        cost = part["cost"].to_numpy()
        drove = int(np.flatnonzero(part["kind"] == "executed")[0])
        others = np.delete(np.arange(len(part)), drove)
        if not len(others):
            continue
        wins = _wins(cost[others], cost[drove])
        random = int(np.random.default_rng(fold_in(draw.seed, str(scene), "placebo")).integers(len(part)))
        placebo = _wins(np.delete(cost, random), cost[random])
        row = {"group": part["group"].iloc[0], "accuracy": wins.mean(), "placebo": placebo.mean()}
        row["cheapest"] = float((cost[others] >= cost[drove]).all())
        for distance in sorted(set(part["distance_m"].iloc[others])):
            row[f"at {distance!r}"] = wins[part["distance_m"].to_numpy()[others] == distance].mean()
        rows.append(row)
    table = pd.DataFrame(rows, columns=["group", "accuracy", "placebo", "cheapest"] if not rows else None)
    distances = sorted(float(name.removeprefix("at ")) for name in table.columns if name.startswith("at "))
    return {
        "pairwise_accuracy": draw.mean(table["accuracy"], table["group"]),
        "cheapest": draw.mean(table["cheapest"], table["group"]),
        "placebo": draw.mean(table["placebo"], table["group"]),
        "by_distance": [
            {"distance_m": distance, **draw.mean(table[f"at {distance!r}"], table["group"])} for distance in distances
        ],
    }


def prediction(outcomes: pd.DataFrame, event: str, draw: _Draw) -> dict[str, Any]:
    """Does the imagined cost of the executed plan predict what followed within the horizon? AUROC, one row a scene.

    Only scenes whose log allows the label. `placebo` is the same with the labels permuted.
    """
    drove = outcomes[outcomes["kind"] == "executed"] if len(outcomes) else outcomes
    if not len(drove):
        return {"event": event, "positives": 0, "auroc": _nothing("no executed plan"), "placebo": _nothing("none")}
    drove = drove[drove[event].notna()]
    labels = drove[event].to_numpy() > 0.5
    costs, groups = drove["cost"].to_numpy(), list(drove["group"])
    permuted = np.random.default_rng(fold_in(draw.seed, event, "permuted")).permutation(labels)
    found = [
        plain(auroc_interval(label, costs, groups, draw.seed, resamples=draw.resamples))
        if len(label)
        else _nothing("none")
        for label in (labels, permuted)
    ]
    return {"event": event, "positives": int(labels.sum()), "auroc": found[0], "placebo": found[1]}


def real_order(outcomes: pd.DataFrame, draw: _Draw) -> dict[str, Any]:
    """Does the imagined order of a scene's plans match the order of their real scores? Per scene, then the mean.

    Scenes whose plans all score alike hold no order and are left out; `n` tells how many stayed. `placebo` permutes
    the real scores within the scene.
    """
    rows = []
    for scene, part in outcomes.groupby("scene_id", sort=True) if len(outcomes) else ():
        real = part[SCORE].to_numpy(dtype=np.float64)
        kept = np.isfinite(real)
        estimate, real = -part["cost"].to_numpy(dtype=np.float64)[kept], real[kept]
        shuffled = np.random.default_rng(fold_in(draw.seed, str(scene), "order")).permutation(real)
        rows.append(
            {
                "group": part["group"].iloc[0],
                "accuracy": pairwise_accuracy(estimate=estimate, real=real).value,
                "spearman": spearman(estimate=estimate, real=real).value,
                "placebo": pairwise_accuracy(estimate=estimate, real=shuffled).value,
            }
        )
    table = pd.DataFrame(rows, columns=["group", "accuracy", "spearman", "placebo"])
    return {
        "pairwise_accuracy": draw.mean(table["accuracy"], table["group"]),
        "spearman": draw.mean(table["spearman"], table["group"]),
        "placebo": draw.mean(table["placebo"], table["group"]),
    }


def planner_scores(
    scores: pd.DataFrame, decisions: pd.DataFrame, groups: pd.Series, draw: _Draw
) -> list[dict[str, Any]]:
    """Real score of each planner with its interval; a scene that failed or has no plan counts 0."""
    found = []
    for planner in scores.columns:
        mine = decisions[(decisions["planner"] == planner) & decisions["scene_id"].isin(scores.index)]
        status = mine["status"].value_counts()
        planned = int(status.get("planned", 0)) if len(mine) else int(scores[planner].notna().sum())
        found.append(
            {
                "planner": planner,
                "planned": planned,
                "no_plan": int(status.get("no_plan", 0)),
                "failed": int(status.get("failed", 0)),
                "score": draw.mean(scores[planner], groups),
            }
        )
    return found


def planner_pairs(scores: pd.DataFrame, groups: pd.Series, draw: _Draw) -> list[dict[str, Any]]:
    """Difference of real scores of each pair of planners on shared scenes, and what difference could be found."""
    found = []
    for first, second in combinations(scores.columns, 2):
        a, b = scores[first].to_numpy(), scores[second].to_numpy()
        interval = paired_bootstrap(a, b, draw.seed, groups=list(groups), resamples=draw.resamples)
        error = (interval.high - interval.low) / (2.0 * NORMAL_95)
        found.append(
            {
                "first": first,
                "second": second,
                "difference": plain(interval),
                "minimum_detectable": error * (NORMAL_95 + NORMAL_80) if math.isfinite(error) else None,
            }
        )
    return found


def score_table(outcomes: pd.DataFrame, decisions: pd.DataFrame, scenes: pd.DataFrame) -> pd.DataFrame:
    """Real score of each planner (columns, log replay last) in each scene (rows, as in `scenes`).

    0 where the planner failed or had no plan; NaN where nothing can be said: log replay where the log does not show the
    ego long enough, every planner where the comparison itself failed.
    """
    planners = [*sorted(decisions["planner"].unique()), LOG_REPLAY]
    table = pd.DataFrame(np.nan, index=scenes.index, columns=planners)
    if len(outcomes):
        driven = outcomes[outcomes["kind"].isin(["chosen", "executed"])]
        table.update(driven.pivot(index="scene_id", columns="planner", values=SCORE))
    for row in decisions[decisions["status"] != "planned"].itertuples():
        if row.scene_id in table.index:
            table.loc[row.scene_id, row.planner] = 0.0
    return table


def plain(interval: Interval) -> dict[str, Any]:
    """An interval as JSON: `value`, `lower`, `upper`, `n` (scenes or groups drawn), `reason` where there is none."""
    numbers = {"value": interval.value, "lower": interval.low, "upper": interval.high}
    known = {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}
    return {**known, "n": interval.count, "reason": interval.reason}


def _nothing(reason: str) -> dict[str, Any]:
    return {"value": None, "lower": None, "upper": None, "n": 0, "reason": reason}


def _wins(others: Float[ndarray, "N"], mine: float) -> Float[ndarray, "N"]:
    """1 where another costs more, one half where it costs the same."""
    return (others > mine) + 0.5 * (others == mine)
