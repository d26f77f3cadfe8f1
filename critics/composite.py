"""Terms to one cost and a verdict, row by row; the total can be recomputed from a saved row bit for bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64
from numpy import ndarray

from critics.weights import COST_PARTS, CostWeights
from wmplan.contracts import Context, Critic, Imagined, Terms
from wmplan.errors import InputError
from wmplan.plans import Plans
from wmplan.ranking import Judgement, Verdict

DENSE = {
    "collision": "collision_cost",
    "ttc": "ttc_cost",
    "offroad": "offroad_cost",
    "direction": "direction_cost",
    "red_light": "red_light_cost",
    "progress": "progress_cost",
    "speed": "speed_cost",
    "discomfort": "discomfort_cost",
    "lateral": "lateral_cost",
}
"""Field of `CostWeights` and the column it weighs."""


class Composite:
    """Several critics as one: their columns side by side, one total cost, one verdict, row by row.

    Without a support critic nothing can be trusted: finite candidates are `downweighted`, "no support estimate".
    """

    name = "composite"

    def __init__(self, critics: Sequence[Critic], weights: CostWeights | None = None) -> None:
        self.critics = tuple(critics)
        self.weights = weights or CostWeights()
        self.columns = tuple(column for critic in self.critics for column in critic.columns)
        missing = sorted(_needed(self.weights) - set(self.columns))
        if missing:
            raise InputError(f"Composite: no critic gives {', '.join(missing)}, which form {self.weights.form!r} needs")
        if len(set(self.columns)) != len(self.columns):
            raise InputError(f"Composite: two critics give the same column among {self.columns}")
        content = [[critic.name, critic.digest, list(critic.columns)] for critic in self.critics]
        text = json.dumps([content, asdict(self.weights)], sort_keys=True)
        self.digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def terms_digest(self) -> str:
        """Identifies the terms alone: stored terms stay valid when only the weights change."""
        content = [[critic.name, critic.digest, list(critic.columns)] for critic in self.critics]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def terms(self, context: Context, plans: Plans, imagined: Imagined) -> Terms:
        """Every critic's columns, one row a candidate."""
        return Terms.join([critic.terms(context, plans, imagined) for critic in self.critics])

    def judge(self, terms: Terms) -> Judgement:
        """Cost parts, total, verdict and reasons of each row."""
        parts, total = _price({name: terms.column(name) for name in terms.columns}, self.weights)
        bad = ~np.isfinite(terms.values)
        bad_parts = ~np.isfinite(parts)
        nonfinite = (bad.sum(axis=1) + bad_parts.sum(axis=1)).astype(np.int32)
        total = np.where(nonfinite == 0, total, np.inf)
        support = terms.column("support_p") if "support_p" in terms.columns else None
        verdicts, reasons = [], []
        for row in range(len(total)):
            lost = [name for name, is_bad in zip(terms.columns, bad[row]) if is_bad]
            lost += [name for name, is_bad in zip(COST_PARTS, bad_parts[row]) if is_bad and not lost]
            verdict, reason = self._verdict(lost, len(terms.columns), None if support is None else float(support[row]))
            verdicts.append(verdict)
            reasons.append(reason)
        return Judgement(
            Terms(COST_PARTS, parts), total, np.array(verdicts, dtype=np.int8).reshape(-1), tuple(reasons), nonfinite
        )

    def _verdict(self, lost: list[str], columns: int, p: float | None) -> tuple[Verdict, str]:
        verdict, reasons = Verdict.TRUSTED, []
        if lost:
            verdict = Verdict.REFUSED
            if len(lost) == columns:
                reasons.append("no finite term")
            else:
                more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
                reasons.append(f"non-finite term {', '.join(lost[:3])}{more}")
        if p is None:
            verdict = max(verdict, Verdict.DOWNWEIGHTED)
            reasons.append("no support estimate")
        elif p < self.weights.refuse_p:
            verdict = Verdict.REFUSED
            reasons.append(f"support p {p:.3g} < {self.weights.refuse_p:g}")
        elif p < self.weights.downweight_p:
            verdict = max(verdict, Verdict.DOWNWEIGHTED)
            reasons.append(f"support p {p:.3g} < {self.weights.downweight_p:g}")
        return verdict, ";".join(reasons)


def recompute(frame: pd.DataFrame, weights: CostWeights) -> Float64[ndarray, "K"]:
    """Total costs from the saved term columns of a ledger; equal, bit for bit, to its saved `cost`.

    Infeasible rows (column `infeasible`, where present) and rows with a non-finite term cost +inf.

    Raises:
        InputError: a column that the weights need is missing.
    """
    missing = sorted(_needed(weights) - set(frame.columns))
    if missing:
        raise InputError(f"ledger: no column {', '.join(missing)}, expected by form {weights.form!r}")
    known = {name: frame[name].to_numpy(dtype=np.float32) for name in _known(weights) if name in frame.columns}
    parts, total = _price(known, weights)
    cost = np.where(np.isfinite(parts).all(axis=1), total, np.inf)
    if "nonfinite" in frame.columns:
        cost = np.where(frame["nonfinite"].to_numpy() == 0, cost, np.inf)
    if "infeasible" in frame.columns:
        cost = np.where(frame["infeasible"].to_numpy() == 0, cost, np.inf)
    return cost


def total_of_parts(frame: pd.DataFrame) -> Float64[ndarray, "K"]:
    """Sum of the saved `cost_*` columns in float64, in the order of `COST_PARTS`; +inf where one is not finite."""
    parts = np.stack([frame[name].to_numpy(dtype=np.float32) for name in COST_PARTS], axis=1)
    return np.where(np.isfinite(parts).all(axis=1), _sum(parts), np.inf)


def _needed(weights: CostWeights) -> set[str]:
    """Columns without which the task cost is undefined."""
    score = {"pdms": {"pdms"}, "nuplan": {"nuplan_score"}, "dense": set()}[weights.form]
    return score | {column for field, column in DENSE.items() if getattr(weights, field) > 0.0}


def _known(weights: CostWeights) -> set[str]:
    return _needed(weights) | {"vista_log_reward", "probe_error", "support_p", "support_excess"}


def _price(
    columns: Mapping[str, Float32[ndarray, "K"]], weights: CostWeights
) -> tuple[Float32[ndarray, "K 4"], Float64[ndarray, "K"]]:
    """Parts and total from columns, by exactly rounded elementwise operations only: a row never depends on others."""
    wide = {name: values.astype(np.float64) for name, values in columns.items()}
    rows = len(next(iter(wide.values())))
    dense = np.zeros(rows)
    for field, column in DENSE.items():
        if getattr(weights, field) > 0.0:
            dense = dense + getattr(weights, field) * wide[column]
    if weights.form == "dense":
        task = dense
    else:
        score = wide["pdms" if weights.form == "pdms" else "nuplan_score"]
        task = weights.score * (1.0 - score) + weights.shaping * dense
    reward = probe = support = np.zeros(rows)
    if "vista_log_reward" in wide:
        reward = weights.reward * np.minimum(
            (0.0 - wide["vista_log_reward"]) / weights.reward_scale, weights.reward_cap
        )
    if "probe_error" in wide:
        probe = weights.probe * np.minimum(wide["probe_error"], weights.probe_cap)
    if "support_excess" in wide:
        outside = wide["support_p"] < weights.downweight_p
        excess = wide["support_excess"]
        with np.errstate(invalid="ignore"):  # what is infinite becomes NaN and is refused, as every non-finite term is
            penalty = weights.support * weights.downweight_factor * (excess / (1.0 + excess))
        support = np.where(outside | np.isnan(penalty), penalty, 0.0)
    with np.errstate(over="ignore"):
        parts = np.stack([task, reward, probe, support], axis=1).astype(np.float32)
    return parts, _sum(parts)


def _sum(parts: Float32[ndarray, "K 4"]) -> Float64[ndarray, "K"]:
    """Sum from left to right in float64: one fixed order."""
    total = np.zeros(len(parts))
    with np.errstate(invalid="ignore"):
        for i in range(parts.shape[1]):
            total = total + parts[:, i].astype(np.float64)
    return total
