"""Every estimate of one policy's value from the same logs, each with its interval or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from wmplan.ope.doubly_robust import Values, direct, doubly_robust, magic, weighted_doubly_robust
from wmplan.ope.importance import (
    importance_sampling,
    per_decision,
    weighted_importance_sampling,
    weighted_per_decision,
)
from wmplan.ope.overlap import Limits, Overlap, overlap, refusal
from wmplan.ope.sums import Sums
from wmplan.ope.trajectories import Trajectories
from wmplan.statistics.bootstrap import LEVEL, RESAMPLES, Interval

WEIGHTED: dict[str, Callable[[Trajectories], Sums]] = {
    "is": importance_sampling,
    "wis": weighted_importance_sampling,
    "pdis": per_decision,
    "pdwis": weighted_per_decision,
}
"""Need propensities only."""
MODEL = ("fqe", "dr", "wdr", "magic")
"""Need a model's values; all but the first propensities too."""


@dataclass(frozen=True)
class Estimate:
    """What one estimator says of one policy. A refused one has no value: `reason` says why.

    `sums` is what the figure is made of, for differences on the same drives.
    """

    policy: str
    method: str
    interval: Interval
    sums: Sums | None = field(repr=False)

    @property
    def value(self) -> float:
        """The estimated return; NaN where it was refused."""
        return self.interval.value

    @property
    def reason(self) -> str:
        """Why there is no estimate, or no interval."""
        return self.interval.reason


@dataclass(frozen=True)
class Evaluation:
    """All estimates of one policy, and how far the logs speak for it (None without densities)."""

    policy: str
    estimates: tuple[Estimate, ...]
    overlap: Overlap | None

    def method(self, name: str) -> Estimate:
        """The estimate of this name.

        Raises:
            KeyError: there is none.
        """
        for estimate in self.estimates:
            if estimate.method == name:
                return estimate
        raise KeyError(name)


def evaluate(
    logged: Trajectories,
    values: Values | None,
    seed: int,
    *,
    limits: Limits = Limits(),  # noqa: B008
    no_values: str = "no fitted values were given",
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Evaluation:
    """Every estimator on these logs. Whatever uses weights is refused by `limits` (`wmplan.ope.overlap.refusal`);
    whatever uses a model is left out with `no_values` as the reason where there are no values."""
    refused = refusal(logged, limits)
    found: list[Estimate] = []
    for method in (*WEIGHTED, *MODEL):
        reason = refused if method != "fqe" else ""
        if method in MODEL and values is None:
            reason = reason or no_values
        if reason:
            none = Interval(math.nan, math.nan, math.nan, len(set(logged.drawn)), reason)
            found.append(Estimate(logged.policy, method, none, None))
            continue
        sums = _sums(method, logged, values, seed)
        found.append(Estimate(logged.policy, method, sums.interval(seed, resamples=resamples, level=level), sums))
    densities = logged.behaviour is not None and logged.target is not None and not logged.deterministic
    return Evaluation(logged.policy, tuple(found), overlap(logged) if densities else None)


def _sums(method: str, logged: Trajectories, values: Values | None, seed: int) -> Sums:
    if method in WEIGHTED:
        return WEIGHTED[method](logged)
    assert values is not None
    if method == "magic":
        return magic(logged, values, seed)
    return {"fqe": direct, "dr": doubly_robust, "wdr": weighted_doubly_robust}[method](logged, values)
