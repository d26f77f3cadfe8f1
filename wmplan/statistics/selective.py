"""Selective prediction: is the error small where the confidence is high? Risk-coverage curves, safe under ties.

Items of one confidence are taken in random order, by exact expectation, so that the order of the input never matters.

References:
    Geifman and El-Yaniv (2017), AURC; Geifman et al. (2019), E-AURC; Traub et al. (2024), AUGRC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.statistics.bootstrap import LEVEL, RESAMPLES, Interval
from wmplan.statistics.grouped import bootstrap_groups


@dataclass(frozen=True)
class RiskCoverage:
    """The mean loss of the most confident share of items, for each share: `risk[k - 1]` at a coverage of k/n.

    `oracle` is the same when items are sorted by their loss; a random order has the mean loss at each coverage.
    """

    coverage: Float[ndarray, "N"]
    risk: Float[ndarray, "N"]
    oracle: Float[ndarray, "N"]

    @property
    def random(self) -> float:
        """The mean loss: risk and AURC of a confidence that says nothing."""
        return float(self.risk[-1])

    @property
    def aurc(self) -> float:
        """Mean risk over all coverages; lower is better."""
        return float(self.risk.mean())

    @property
    def oracle_aurc(self) -> float:
        """AURC of the best confidence there can be."""
        return float(self.oracle.mean())

    @property
    def e_aurc(self) -> float:
        """AURC above the oracle's, 0 is best."""
        return self.aurc - self.oracle_aurc

    @property
    def augrc(self) -> float:
        """Integral of coverage x risk over coverage, by trapezoids from 0: half the mean loss for a random order."""
        return _generalised(self.coverage, self.risk)

    @property
    def oracle_augrc(self) -> float:
        """AUGRC of the best confidence there can be."""
        return _generalised(self.coverage, self.oracle)

    @property
    def share_of_random_excess(self) -> float:
        """(AURC - oracle) / (random - oracle): 0 for the oracle, 1 for random, NaN where all losses are alike."""
        room = self.random - self.oracle_aurc
        return self.e_aurc / room if room > 1e-12 * max(abs(self.random), 1e-300) else math.nan


def risk_coverage(*, confidence: Float[ndarray, "N"], losses: Float[ndarray, "N"]) -> RiskCoverage:
    """The curve. Confidence may be infinite, it is only ranked.

    Raises:
        ValueError: no item, a confidence that is NaN, or a loss that is not finite.
    """
    if not len(losses):
        raise ValueError("risk_coverage: 0 items, expected 1 or more")
    if np.isnan(confidence).any():
        raise ValueError(f"risk_coverage: confidence[{int(np.flatnonzero(np.isnan(confidence))[0])}] is NaN")
    if not np.isfinite(losses).all():
        raise ValueError(f"risk_coverage: losses[{int(np.flatnonzero(~np.isfinite(losses))[0])}] is not finite")
    group = np.unique(confidence, return_inverse=True)[1]
    losses = losses.astype(np.float64)
    shared = (np.bincount(group, losses) / np.bincount(group))[group]
    taken = np.arange(1, len(losses) + 1)
    best = np.cumsum(np.sort(losses)) / taken
    return RiskCoverage(taken / len(losses), np.cumsum(shared[np.argsort(-group, kind="stable")]) / taken, best)


def aurc_interval(
    *,
    confidence: Float[ndarray, "N"],
    losses: Float[ndarray, "N"],
    scenes: Sequence[str],
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """AURC with a bootstrap over scenes (or groups): all items of a scene are drawn together."""

    def statistic(rows: ndarray) -> float:
        return risk_coverage(confidence=confidence[rows], losses=losses[rows]).aurc

    return bootstrap_groups(statistic, scenes, seed, resamples=resamples, level=level)


def _generalised(coverage: ndarray, risk: ndarray) -> float:
    heights = np.concatenate([[0.0], coverage * risk])
    return float((0.5 * (heights[1:] + heights[:-1])).mean())
