"""A few executed scenes beside all imagined ones: each policy's return by prediction-powered inference.

`executed=20` gives the estimator the truth of so many scenes, drawn by seed; the truth of all others stays out of it.
Even these few are read only here, when estimates and truth are joined.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from experiments.ope.joining import Joined
from experiments.ope.preparing import Prepared
from wmplan.randomness import fold_in
from wmplan.statistics.bootstrap import Interval, bootstrap_mean
from wmplan.statistics.intervals import prediction_powered, tuned_weight

COLUMNS = (
    "estimator", "policy", "score", "value", "low", "high", "weight", "executed", "imagined", "alone", "alone_low",
    "alone_high", "width_share", "rest_true", "rest_true_low", "rest_true_high", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Powered:
    """One policy's return: by its executed scenes and one estimator's imagination of all (`powered`, with its weight),
    and by the executed scenes alone; beside them the truth of the scenes that were not executed."""

    estimator: str
    policy: str
    score: str
    powered: Interval
    weight: float
    alone: Interval
    rest: Interval
    imagined: int

    @property
    def width_share(self) -> float:
        """Width of the powered interval over that of the executed scenes alone; NaN where either has none."""
        wide = self.alone.high - self.alone.low
        return (self.powered.high - self.powered.low) / wide if wide > 0.0 else float("nan")


def chosen(scenes: list[str], count: int, seed: int) -> Bool[ndarray, "S"]:
    """Which of the scenes are executed for the estimator; it depends on their names alone."""
    drawn = set(sorted(scenes, key=lambda name: fold_in(seed, "executed for ope", name))[:count])
    return np.array([name in drawn for name in scenes])


def powered(run: Prepared, joined: Joined) -> list[Powered]:
    """Every policy by every estimator that has a figure for every scene, one score after another; nothing where no
    scene is executed.

    Raises:
        InputError: fewer scenes are left than that takes.
    """
    command, names = run.settings.command, run.settings.policies
    if command.executed == 0:
        return []
    command.check_executed(len(joined.scenes))
    few = chosen(joined.scenes, command.executed, command.seed)
    groups = np.array([joined.groups[scene] for scene in joined.scenes])
    found = []
    for score in command.scores:
        true = joined.table(joined.truths[0], score, names)
        for estimator in joined.estimators:
            table = joined.table(estimator, score, names)
            for policy, imagined, real in zip(names, table, true):
                about = _one(imagined, real[few], few, groups)
                rest = bootstrap_mean(real[~few], command.seed, groups=groups[~few].tolist())
                found.append(Powered(estimator, policy, score, *about, rest, int((~few).sum())))
    return found


def powered_table(rows: list[Powered]) -> pd.DataFrame:
    """`powered.parquet`."""
    return pd.DataFrame(
        [
            (
                row.estimator, row.policy, row.score, row.powered.value, row.powered.low, row.powered.high, row.weight,
                row.powered.count, row.imagined, row.alone.value, row.alone.low, row.alone.high, row.width_share,
                row.rest.value, row.rest.low, row.rest.high, row.powered.reason,
            )
            for row in rows
        ],
        columns=list(COLUMNS),
    )  # fmt: skip


def _one(
    imagined: Float[ndarray, "S"], real: Float[ndarray, "E"], few: Bool[ndarray, "S"], groups: ndarray
) -> tuple[Interval, float, Interval]:
    """By both, the weight of the imagination, by the executed scenes alone. Of the truth only `real` is seen.

    Without an interval where all executed outcomes are alike, as where none of them failed: they say nothing of how far
    others may be from them.
    """
    parts = imagined[~few], imagined[few], real
    if (real == real[0]).all():
        nothing = Interval(float(real[0]), np.nan, np.nan, len(real), "the executed scenes are all alike: no interval")
        return nothing, 0.0, nothing
    sides = groups[~few].tolist(), groups[few].tolist()
    return (
        prediction_powered(*parts, weight=None, groups=sides),
        tuned_weight(*parts),
        prediction_powered(*parts, weight=0.0, groups=sides),
    )
