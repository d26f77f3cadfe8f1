"""What each estimator says of each policy: a figure with its interval beside the truth, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from experiments.ope.entrants import at_the_wheel
from experiments.ope.joining import OPEN, Joined
from experiments.ope.preparing import Prepared
from experiments.ope.weighing import METHODS, refused
from wmplan.statistics.bootstrap import Interval, bootstrap_mean

LOGS_COLUMNS = ("estimator", "policy", "value", "low", "high", "n", "reason")


@dataclass(frozen=True)
class Estimated:
    """One policy's return by one estimator: the figure with its interval over groups of scenes, or why it is refused;
    beside it the truth of the same length. An open-loop figure is no return: it is minus a distance."""

    estimator: str
    policy: str
    score: str
    interval: Interval
    refused: str
    true: Interval


def estimates(run: Prepared, joined: Joined) -> list[Estimated]:
    """Every estimator's figure for every policy and score, refused ones with the reason."""
    command, found = run.settings.command, []
    groups = [joined.groups[scene] for scene in joined.scenes]
    names = run.settings.policies
    for score in command.scores:
        true = _intervals(joined.table(joined.truths[0], score, names), groups, command.seed)
        nothing = Interval(np.nan, np.nan, np.nan, 0, "")
        for estimator in joined.estimators:
            tables = _intervals(joined.table(estimator, score, names), groups, command.seed)
            found += [Estimated(estimator, p, score, tables[i], "", true[i]) for i, p in enumerate(names)]
        for estimator, policy, interval in _of_logs(run, joined, score):
            place = true[names.index(policy)]
            found.append(Estimated(estimator, policy, score, interval, _why(interval), place))
        # Who cannot drive is worth 0; minus a distance has no worst value.
        zero = Interval(0.0, np.nan, np.nan, 0, "it cannot drive: counts as 0")
        for policy, why in run.rejected.items():
            for estimator in joined.estimators:
                figure = nothing if estimator == OPEN else zero
                found.append(Estimated(estimator, policy, score, figure, why, nothing))
    return found


def estimates_table(rows: Sequence[Estimated]) -> pd.DataFrame:
    """`estimates.parquet`."""
    return pd.DataFrame(
        [
            {"estimator": r.estimator, "policy": r.policy, "score": r.score}
            | {"value": r.interval.value, "low": r.interval.low, "high": r.interval.high, "n": r.interval.count}
            | {"refused": r.refused, "true": r.true.value, "true_low": r.true.low, "true_high": r.true.high}
            | {"unit": "minus metres from the log" if r.estimator == OPEN else "score"}
            for r in rows
        ]
    )


def _intervals(table: Float[ndarray, "P S"], groups: Sequence[str], seed: int) -> list[Interval]:
    return [bootstrap_mean(row, seed, groups=groups) for row in table]


def _of_logs(run: Prepared, joined: Joined, score: str) -> list[tuple[str, str, Interval]]:
    """Estimator, policy, figure of the estimators that use logs alone; every policy has a figure or a reason."""
    rows = joined.weighed[joined.weighed["score"] == score] if len(joined.weighed) else joined.weighed
    found: list[tuple[str, str, Interval]] = []
    for estimator, policy, value, low, high, count, reason in zip(*(rows.get(name, ()) for name in LOGS_COLUMNS)):
        if policy in run.settings.policies:
            interval = Interval(float(value), float(low), float(high), int(count), str(reason))
            found.append((str(estimator), str(policy), interval))
    there = {policy for _, policy, _ in found}
    wheel = at_the_wheel(run.settings.policies)
    for policy in run.settings.policies:
        if policy not in there:
            why = refused(wheel[policy].deterministic, bool(len(joined.weighed)))
            found += [(method, policy, Interval(np.nan, np.nan, np.nan, 0, why)) for method in METHODS]
    return found


def _why(interval: Interval) -> str:
    return interval.reason if not np.isfinite(interval.value) else ""
