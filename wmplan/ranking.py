"""All candidates of one decision with every term, cost, verdict and reason: the ledger. Never one scalar alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int8, Int32
from numpy import ndarray

from wmplan.contracts import Infeasible, Terms
from wmplan.plans import Plans


class Verdict(IntEnum):
    """How far a candidate's cost may be believed. A refused candidate stays in the ledger and is never chosen."""

    TRUSTED = 0
    DOWNWEIGHTED = 1
    REFUSED = 2

    @property
    def word(self) -> str:
        """The verdict as the ledger writes it: `trusted`, `downweighted` or `refused`."""
        return self.name.lower()


@dataclass(frozen=True)
class Judgement:
    """Cost and verdict of K candidates, row by row.

    `parts` are the `cost_*` columns; `total` is their sum in float64, taken from the float32 numbers that are saved, so
    it can be recomputed from a saved row bit for bit. A row with any non-finite number has total +inf and verdict
    `REFUSED`; `nonfinite` counts its non-finite terms. `reasons` are joined by ";", empty for a trusted candidate.
    """

    parts: Terms
    total: Float64[ndarray, "K"]
    verdict: Int8[ndarray, "K"]
    reasons: tuple[str, ...]
    nonfinite: Int32[ndarray, "K"]

    def __post_init__(self) -> None:
        rows = len(self.total)
        for name in ("verdict", "reasons", "nonfinite"):
            if len(getattr(self, name)) != rows:
                raise ValueError(f"Judgement.{name} has {len(getattr(self, name))} rows, expected {rows}")
        if len(self.parts.values) != rows:
            raise ValueError(f"Judgement.parts has {len(self.parts.values)} rows, expected {rows}")

    @property
    def eligible(self) -> Bool[ndarray, "K"]:
        """Which candidates may be chosen: not refused, cost finite."""
        return (self.verdict != Verdict.REFUSED) & np.isfinite(self.total)

    def select(self, rows: ndarray | list[int] | slice) -> Judgement:
        """The judgement of these candidates, in this order."""
        index = np.arange(len(self.total))[rows]
        return Judgement(
            Terms(self.parts.columns, self.parts.values[index]),
            self.total[index],
            self.verdict[index],
            tuple(self.reasons[i] for i in index),
            self.nonfinite[index],
        )


@dataclass(frozen=True)
class Ranking:
    """The candidates of one planner in one scene, cheapest first by `rank`, and which one was chosen, if any.

    `infeasible` holds `Infeasible` flags; such rows are listed, last, and never chosen. Their terms are NaN: nothing
    was imagined for them.
    """

    scene_id: str
    planner: str
    plans: Plans
    labels: tuple[str, ...]
    infeasible: Int32[ndarray, "K"]
    terms: Terms
    judgement: Judgement

    def __post_init__(self) -> None:
        rows = len(self.plans)
        sizes = {
            "labels": len(self.labels),
            "infeasible": len(self.infeasible),
            "terms": len(self.terms.values),
            "judgement": len(self.judgement.total),
        }
        for name, size in sizes.items():
            if size != rows:
                raise ValueError(f"Ranking.{name} has {size} rows, expected {rows} (one a candidate)")

    @property
    def cost(self) -> Float64[ndarray, "K"]:
        """Total cost; +inf where the candidate cannot be driven or holds a non-finite number."""
        return np.where((self.infeasible == 0) & np.isfinite(self.judgement.total), self.judgement.total, np.inf)

    @property
    def eligible(self) -> Bool[ndarray, "K"]:
        """Which candidates may be chosen: drivable, finite, not refused."""
        return self.judgement.eligible & (self.infeasible == 0)

    @property
    def order(self) -> ndarray:
        """Row numbers, cheapest first; ties keep the order in which they were proposed."""
        return np.argsort(self.cost, kind="stable")

    @property
    def rank(self) -> Int32[ndarray, "K"]:
        """Place of each row in `order`, from 1."""
        rank = np.empty(len(self.plans), dtype=np.int32)
        rank[self.order] = np.arange(1, len(self.plans) + 1, dtype=np.int32)
        return rank

    @property
    def chosen(self) -> int | None:
        """Row of the cheapest eligible candidate; None where there is none ("no plan")."""
        eligible = self.eligible
        return next((int(row) for row in self.order if eligible[row]), None)

    @property
    def message(self) -> str:
        """Why there is no plan, with counts; empty where there is one."""
        if self.chosen is not None:
            return ""
        if not len(self.plans):
            return "no plan: no candidates"
        return "no plan: " + ", ".join(f"{n} x {why}" for why, n in self.counts().most_common())

    def counts(self) -> Counter[str]:
        """How many candidates were set aside, by the first reason of each."""
        counted: Counter[str] = Counter()
        for row in np.flatnonzero(~self.eligible):
            if flags := int(self.infeasible[row]):
                counted["infeasible " + "+".join(str(flag.name).lower() for flag in Infeasible if flag & flags)] += 1
            else:
                reason = self.judgement.reasons[row].split(";")[0]
                counted["support p" if reason.startswith("support p") else reason or "non-finite cost"] += 1
        return counted

    def frame(self) -> pd.DataFrame:
        """The ledger of this decision: one row a candidate, in the order of proposal."""
        chosen = self.chosen
        head: dict[str, object] = {
            "scene_id": self.scene_id,
            "planner": self.planner,
            "row": np.arange(len(self.plans), dtype=np.int32),
            "label": list(self.labels),
            "infeasible": self.infeasible,
            "accel": list(self.plans.controls[:, :, 0]),
            "curvature": list(self.plans.controls[:, :, 1]),
        }
        terms = {name: self.terms.column(name) for name in self.terms.columns}
        tail: dict[str, object] = {
            "verdict": [Verdict(v).word for v in self.judgement.verdict],
            "reasons": list(self.judgement.reasons),
            **{name: self.judgement.parts.column(name) for name in self.judgement.parts.columns},
            "cost": self.cost,
            "nonfinite": self.judgement.nonfinite,
            "eligible": self.eligible,
            "rank": self.rank,
            "chosen": np.arange(len(self.plans)) == (-1 if chosen is None else chosen),
        }
        return pd.DataFrame({**head, **terms, **tail})
