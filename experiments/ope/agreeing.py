"""How well each estimator's order of policies agrees with the true one, and how much better one is than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from experiments.ope.batched import batched
from experiments.ope.joining import Joined
from experiments.ope.preparing import Prepared
from experiments.ope.weighing import METHODS
from wmplan.ope.sums import Sums
from wmplan.statistics import kendall_tau_b, mmrv, pearson, regret_at_k, spearman
from wmplan.statistics.bootstrap import LEVEL, RESAMPLES, Interval, percentiles
from wmplan.statistics.policies import Agreed, Metric, in_words, of_enough

METRICS: dict[str, Metric] = {
    "spearman": spearman,
    "pearson": pearson,
    "kendall": kendall_tau_b,
    "mmrv": mmrv,
    "regret_at_1": partial(regret_at_k, k=1),
}


@dataclass(frozen=True)
class Agreeing:
    """How well an estimator's order of policies agrees with a truth by one metric; both intervals; in words."""

    estimator: str
    truth: str
    score: str
    metric: str
    agreed: Agreed
    scenes: int
    policies: int
    words: str


@dataclass(frozen=True)
class Differing:
    """By how much a metric of the first estimator is above another one's, on the policies that both speak of; scenes
    and policies are drawn for both together."""

    estimator: str
    first: str
    truth: str
    score: str
    metric: str
    agreed: Agreed
    policies: int


@dataclass(frozen=True)
class Side:
    """Figures of some policies, and the same for every resample of groups of scenes."""

    policies: tuple[str, ...]
    value: Float[ndarray, "P"]
    draws: Float[ndarray, "R P"]

    def of(self, policies: Sequence[str]) -> Side:
        """Those of these policies."""
        rows = [self.policies.index(name) for name in policies]
        return Side(tuple(policies), self.value[rows], self.draws[:, rows])

    @staticmethod
    def of_table(table: Float[ndarray, "P S"], policies: tuple[str, ...], groups: tuple[str, ...], seed: int) -> Side:
        """Means over scenes; `groups` names the group of each."""
        draws = np.stack([Sums.mean(row, groups).draws(seed) for row in table], axis=1)
        return Side(policies, table.mean(1), draws)


@dataclass(frozen=True)
class Measured:
    """One metric: its value, over resamples of scenes, over resamples of policies; why there is none."""

    value: float
    scenes: Float[ndarray, "R"]
    policies: Float[ndarray, "R"]
    reason: str = ""

    def minus(self, other: Measured) -> Measured:
        """The difference, resample by resample; none where either has no order."""
        if reason := self.reason or other.reason:
            return Measured(np.nan, np.zeros(0), np.zeros(0), reason)
        return Measured(self.value - other.value, self.scenes - other.scenes, self.policies - other.policies)

    def agreed(self, figure: str, groups: int, policies: int) -> Agreed:
        """With both intervals."""
        if self.reason:
            nothing = Interval(np.nan, np.nan, np.nan, policies, self.reason)
            return Agreed(figure, nothing, nothing)
        over_scenes = _interval(self.value, self.scenes, groups, "group of scenes")
        return Agreed(figure, over_scenes, of_enough(_interval(self.value, self.policies, policies, "policy")))


def measure(metric: str, side: Side, real: Side, seed: int) -> Measured:
    """The metric of a side against what is real, on the side's policies. For one seed, sides of as many policies have
    the same policies drawn."""
    real = real.of(side.policies)
    whole = METRICS[metric](estimate=side.value, real=real.value)
    if not whole.valid:
        return Measured(np.nan, np.zeros(0), np.zeros(0), whole.reason)
    rng, count = np.random.default_rng(seed), len(side.policies)
    rows = np.stack([rng.integers(0, count, count) for _ in range(RESAMPLES)])
    return Measured(
        whole.value,
        batched(metric, side.draws, real.draws),
        batched(metric, side.value[rows], real.value[rows]),
    )


def agreements(run: Prepared, joined: Joined) -> tuple[list[Agreeing], list[Differing]]:
    """Every estimator against every truth by every metric; and the first model's metric minus every other's."""
    command = run.settings.command
    names, count = run.settings.policies, len(set(joined.groups.values()))
    groups = tuple(joined.groups[scene] for scene in joined.scenes)
    found: list[Agreeing] = []
    apart: list[Differing] = []
    for score in command.scores:
        sides = {
            e: Side.of_table(joined.table(e, score, names), names, groups, command.seed) for e in joined.estimators
        }
        sides |= of_logs(joined, score, names)
        first = next(iter(sides), "")
        for truth in joined.truths:
            real = Side.of_table(joined.table(truth, score, names), names, groups, command.seed)

            @cache
            def of(
                estimator: str,
                policies: tuple[str, ...],
                metric: str,
                sides: Mapping[str, Side] = sides,  # type: ignore[assignment]
                real: Side = real,
            ) -> Measured:
                return measure(metric, sides[estimator].of(policies), real, command.seed)

            for estimator, side in sides.items():
                both = tuple(name for name in sides[first].policies if name in side.policies)
                for metric in METRICS:
                    one = of(estimator, side.policies, metric).agreed(metric, count, len(side.policies))
                    words = in_words(one) if np.isfinite(one.value) else one.over_scenes.reason
                    found.append(Agreeing(estimator, truth, score, metric, one, len(groups), len(side.policies), words))
                    if estimator != first:
                        gap = of(first, both, metric).minus(of(estimator, both, metric))
                        gapped = gap.agreed(metric, count, len(both))
                        apart.append(Differing(estimator, first, truth, score, metric, gapped, len(both)))
    return found, apart


def of_logs(joined: Joined, score: str, policies: Sequence[str]) -> dict[str, Side]:
    """The estimators that use logs alone, of the policies that they were not refused for. Their draws are of the same
    groups of scenes as everybody's, for they have the same seed and the same groups."""
    if not len(joined.weighed):
        return {}
    sides: dict[str, Side] = {}
    mine = joined.weighed[(joined.weighed["score"] == score) & np.isfinite(joined.weighed["value"])]
    mine = mine[mine["policy"].isin(policies)]
    for estimator, rows in mine.groupby("estimator", sort=False):
        draws = np.stack([np.asarray(draw, np.float64) for draw in rows["draws"]], axis=1)
        sides[str(estimator)] = Side(tuple(rows["policy"]), rows["value"].to_numpy(np.float64), draws)
    return {name: sides[name] for name in METHODS if name in sides}


def agreement_table(rows: Sequence[Agreeing] | Sequence[Differing]) -> pd.DataFrame:
    """`agreement.parquet` or `differences.parquet`."""
    return pd.DataFrame([_flat(row) for row in rows])


def _flat(row: Agreeing | Differing) -> dict[str, object]:
    scenes, policies = row.agreed.over_scenes, row.agreed.over_policies
    keys = {"estimator": row.estimator, "truth": row.truth, "score": row.score, "metric": row.metric}
    figures = {
        "value": scenes.value,
        "low_scenes": scenes.low,
        "high_scenes": scenes.high,
        "low_policies": policies.low,
        "high_policies": policies.high,
        "policies": row.policies,
    }
    if isinstance(row, Differing):
        return {"first": row.first, **keys, **figures, "reason": scenes.reason}
    return {**keys, **figures, "scenes": row.scenes, "words": row.words}


def _interval(value: float, draws: Float[ndarray, "R"], count: int, what: str) -> Interval:
    if count < 2:
        return Interval(value, np.nan, np.nan, count, f"one {what}: no interval")
    return percentiles(value, draws[~np.isnan(draws)], RESAMPLES, LEVEL, count)
