"""What logs alone say of a policy: estimators by weights and by fitted values on the logged decisions, or why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.ope import shards
from experiments.ope.logged import features, trajectories
from experiments.ope.settings import Settings
from wmplan.ope.estimates import MODEL, WEIGHTED, evaluate
from wmplan.ope.fqe import Trees, cross_fitted
from wmplan.ope.overlap import Limits, Overlap, usable_decisions
from wmplan.scene import STEP_S

METHODS = (*WEIGHTED, *MODEL)
CURVES = ("ess", "max_share", "mean_weight", "common")
TREES = 25
"""Trees of a forest: half of the default, for there are hundreds of forests in a run."""


def weighing(settings: tuple[Settings, Path]) -> Callable[[str], str]:
    """A function that writes a policy's shard: a row an estimator and score, with the bootstrap's draws, so that
    agreement draws the same scenes; curves over all logged decisions in every row."""
    mine, truth = settings
    rows = shards.read(truth, shards.DECISIONS)
    rows = rows[rows["scene_id"].isin([one.scene_id for one in mine.scenes])]

    def weigh(policy: str) -> str:
        shards.write(mine.out, shards.WEIGHED, policy, weighed(rows, policy, mine))
        return ""

    return weigh


def weighed(rows: pd.DataFrame, policy: str, settings: Settings) -> pd.DataFrame:
    """The rows of one policy, which has the logs' rhythm (`refused` says it of the others)."""
    command = settings.command
    if f"target/{policy}" not in rows:
        hold = float(rows["hold"].iloc[0]) * STEP_S
        return _none(policy, command.scores, f"policy {policy} decides at other times than the logs, every {hold:g} s")
    decisions = round(command.horizon_s / (float(rows["hold"].iloc[0]) * STEP_S))
    found: list[dict[str, object]] = []
    for score in command.scores:
        logged = trajectories(rows, policy, score, decisions)
        values, why = None, f"{len(set(logged.drawn))} groups of drives, expected 5 or more to fit on"
        if len(set(logged.drawn)) >= 5:
            values, why = cross_fitted(logged, features(rows, policy, decisions), Trees(TREES), command.seed)
        done = evaluate(logged, None if why else values, command.seed, no_values=why)
        whole = trajectories(rows, policy, score, int(rows["decision"].max()) + 1)
        curves = _curves(evaluate(whole, None, command.seed, resamples=2).overlap)
        for one in done.estimates:
            interval = one.interval
            draws = one.sums.draws(command.seed) if one.sums is not None else np.zeros(0)
            found.append(
                {"policy": policy, "estimator": one.method, "score": score, "value": interval.value}
                | {"low": interval.low, "high": interval.high, "n": interval.count, "reason": interval.reason}
                | {"draws": draws, **curves}
            )
    return pd.DataFrame(found)


def refused(deterministic: bool, propensities: bool) -> str:
    """Why logs alone say nothing of a policy that does not hold its decisions as they do: equal words for all."""
    if not propensities:
        return "the logs hold no propensities"
    if deterministic:
        return "deterministic: decisions have no density, so there is no propensity"
    return f"decides every {STEP_S:g} s, the logs less often: its decisions are none of theirs"


def _none(policy: str, scores: tuple[str, ...], reason: str) -> pd.DataFrame:
    common = {"policy": policy, "value": np.nan, "low": np.nan, "high": np.nan, "n": 0, "reason": reason}
    lists: dict[str, object] = {name: [] for name in ("draws", *CURVES, "usable")}
    return pd.DataFrame([{**common, **lists, "estimator": m, "score": s} for s in scores for m in METHODS])


def _curves(seen: Overlap | None) -> dict[str, object]:
    if seen is None:
        return {name: [] for name in (*CURVES, "usable")}
    return {name: getattr(seen, name) for name in CURVES} | {"usable": [usable_decisions(seen, Limits())]}
