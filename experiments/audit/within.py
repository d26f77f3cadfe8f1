"""Within-scene ranking: does the imagined order of a scene's candidates match the order of what they truly came to?

Each metric is computed within scenes, then averaged; groups of scenes are drawn again. A scene whose candidates all
came to the same holds no order and is left out. Where a critic gives every candidate of a scene the same number it says
nothing there and counts as chance: the expectation over random orders.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from critics.weights import COST_PARTS
from experiments.audit.joined import LOGGED_PDMS, Joined, scenes_of
from wmplan.randomness import fold_in
from wmplan.statistics import Interval, bootstrap_mean, ndcg, paired_bootstrap, pairwise_accuracy, regret_at_k, spearman
from wmplan.statistics.placebos import permuted_labels

METRICS = ("pairwise_accuracy", "ndcg_at_5", "selection_regret", "spearman")
CHANCE = {"pairwise_accuracy": 0.5, "spearman": 0.0}
COST, PERMUTED = "cost", "labels permuted"
SCORES = ("real_pdms", "real_nuplan_score", f"real_{LOGGED_PDMS}")
LOWER_IS_BETTER = (
    "collision_", "contact_", "offroad_", "against_", "red_light", "outside_", "lateral_", "cost",
)  # fmt: skip
"""How the columns begin of which less is better."""
LESS = ("_cost", "_s", "_excess", "_error")
"""How they end."""
UNORDERED = ("probe_accel",)
"""Columns that prefer nothing."""


@dataclass(frozen=True)
class Ranking:
    """How well one critic's numbers order candidates: each metric with its interval over groups of scenes."""

    contender: str
    critic: str
    real: str
    metrics: Mapping[str, Interval]


@dataclass(frozen=True)
class Difference:
    """How much better the model's cost orders than the same cost under a placebo, on the same scenes."""

    placebo: str
    real: str
    metric: str
    interval: Interval


@dataclass(frozen=True)
class Within:
    """All rankings: every critic by the model, the composite by every contender; differences to placebos."""

    rankings: tuple[Ranking, ...]
    differences: tuple[Difference, ...]

    def of(self, contender: str, critic: str = COST, real: str = SCORES[0]) -> Ranking | None:
        """One ranking, None where it was not measured."""
        found = [one for one in self.rankings if (one.contender, one.critic, one.real) == (contender, critic, real)]
        return found[0] if found else None


def within(joined: Joined, model: str, seed: int, resamples: int) -> Within:
    """Every ranking of an audit."""
    draw, groups = fold_in(seed, "bootstrap"), list(joined.groups)
    how: dict[str, Any] = {"groups": groups, "resamples": resamples}
    rankings: list[Ranking] = []
    differences: list[Difference] = []
    for real in SCORES:
        asked = _asked(joined, model, real)
        tables = {(who, critic): _table(joined, estimate, real) for who, critic, estimate in asked}
        permuted = _permuted(joined, real, seed)
        tables[PERMUTED, COST] = _table(joined, -joined.by[model][COST].to_numpy(), real, permuted)
        for (who, critic), table in tables.items():
            found = {name: bootstrap_mean(table[name].to_numpy(), draw, **how) for name in METRICS}
            rankings.append(Ranking(who, critic, real, found))
        own = tables[model, COST]
        for who in [*joined.by, PERMUTED]:
            for name in METRICS if who != model else ():
                other = tables[who, COST][name].to_numpy()
                gain = paired_bootstrap(own[name].to_numpy(), other, draw, **how)
                differences.append(Difference(who, real, name, gain))
    return Within(tuple(rankings), tuple(differences))


def scene_metrics(estimate: Float[ndarray, "K"], real: Float[ndarray, "K"]) -> dict[str, float]:
    """The metrics of one scene, higher estimates claimed better; NaN where the real side holds no order.

    An estimate that is no number ranks last.
    """
    estimate = np.where(np.isnan(estimate), -np.inf, estimate)
    if len(np.unique(real)) < 2:
        return dict.fromkeys(METRICS, math.nan)
    spread = float(real.max() - real.min())
    if len(np.unique(estimate)) < 2:
        gains = np.sort(real - real.min())[::-1][:5] / spread
        discount = 1.0 / np.log2(np.arange(len(gains)) + 2.0)
        mean = float((real - real.min()).mean()) / spread
        return CHANCE | {
            "ndcg_at_5": mean * float(discount.sum()) / float(gains @ discount),
            "selection_regret": float(real.max() - real.mean()) / spread,
        }
    return {
        "pairwise_accuracy": pairwise_accuracy(estimate=estimate, real=real).value,
        "ndcg_at_5": ndcg(estimate=estimate, real=real, k=5).value,
        "selection_regret": regret_at_k(estimate=estimate, real=real, k=1).value,
        "spearman": spearman(estimate=estimate, real=real).value,
    }


def orientation(column: str) -> int:
    """1 where more of the column is claimed better, -1 where less, 0 where it prefers nothing."""
    if column in UNORDERED:
        return 0
    return -1 if column.startswith(LOWER_IS_BETTER) or column.endswith(LESS) else 1


def _asked(joined: Joined, model: str, real: str) -> Iterator[tuple[str, str, ndarray]]:
    """Contender, critic, estimate (higher is claimed better)."""
    frame = joined.by[model]
    for critic in (COST, *COST_PARTS, *(joined.terms if real == SCORES[0] else ())):
        sign = orientation(critic)
        if sign:
            yield model, critic, sign * frame[critic].to_numpy(dtype=np.float64)
    for contender, other in joined.by.items():
        if contender != model:
            for critic in (COST, "cost_task", "pdms"):
                yield contender, critic, orientation(critic) * other[critic].to_numpy(dtype=np.float64)
        elif real != SCORES[0]:
            for critic in ("pdms", "nuplan_score"):
                yield model, critic, frame[critic].to_numpy(dtype=np.float64)


def _table(joined: Joined, estimate: ndarray, real: str, truth: ndarray | None = None) -> pd.DataFrame:
    truth = joined.rows[real].to_numpy(dtype=np.float64) if truth is None else truth
    found = [scene_metrics(estimate[members], truth[members]) for members in scenes_of(joined.rows)]
    return pd.DataFrame(found, columns=list(METRICS))


def _permuted(joined: Joined, real: str, seed: int) -> ndarray:
    return permuted_labels(joined.rows[real].to_numpy(dtype=np.float64), joined.rows["scene_id"].tolist(), seed)
