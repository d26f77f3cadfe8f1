"""Does the support know when the critic is wrong? Errors by how usual an action is, what is kept when the unusual is
left out, perturbed actions told from driven ones, refusals where nothing is wrong.

The critic's error is the distance between the imagined and the executed PDMS of a candidate. Progress counts against
the same reference on both sides, so that no error is a matter of definition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.stats import rankdata

from experiments.audit.joined import Joined, scenes_of
from experiments.audit.pooling import DISTANCES_M, LOGGED, PERTURBED, SHAKEN
from wmplan.randomness import fold_in
from wmplan.statistics import Interval, auroc_interval, bootstrap_mean
from wmplan.statistics.conformal import RefusalBand, refusal_band
from wmplan.statistics.grouped import bootstrap_groups
from wmplan.statistics.selective import RiskCoverage, aurc_interval, risk_coverage

ESTIMATORS = {
    "support": ("support_s", 1.0),
    "neighbours": ("neighbours_s", 1.0),
    "vista_log_reward": ("vista_log_reward", -1.0),
    "vista_swept": ("vista_swept", -1.0),
    "vista_epistemic": ("vista_epistemic", -1.0),
    "vista_aleatoric": ("vista_aleatoric", -1.0),
    "probe": ("probe_error", 1.0),
}
"""What could know, by name: its column, and the sign with which more of it is more doubt."""
ALPHAS = (0.01, 0.05, 0.1, 0.2)
CONFOUNDERS = ("end_speed_mps", "length_m", "curvature_pm")
ROUNDING = 1e-3
"""Errors of a score in [0, 1] that say nothing."""
VISTA = ("vista_reward", "vista_swept", "vista_epistemic", "vista_aleatoric")
"""Its variants; the logarithm has the ranks of the reward, the last two are of an ensemble's members."""


@dataclass(frozen=True)
class Bin:
    """Candidates of one tenth by support: their p-values, imagined and executed PDMS, and the mean error."""

    p_low: float
    p_high: float
    count: int
    imagined: Interval
    real: Interval
    error: Interval


@dataclass(frozen=True)
class Doubt:
    """How an estimator's doubt goes with the error: rank correlation over all candidates and within scenes (mean), and
    the highest that any estimator without ties could have, given how many errors are none; risk and coverage when the
    most doubtful are left out."""

    name: str
    correlation: Interval
    within: Interval
    highest: float
    aurc: Interval
    curve: RiskCoverage


@dataclass(frozen=True)
class Told:
    """AUROC of an estimator for perturbed against driven actions; `distance_m` is NaN for all and for shaken ones."""

    name: str
    kind: str
    distance_m: float
    auroc: Interval


@dataclass(frozen=True)
class Refusals:
    """Share of driven actions with a p-value below alpha, and the band that it should lie in."""

    alpha: float
    rate: float
    trials: int
    band: RefusalBand

    @property
    def inside(self) -> bool:
        """Whether it does."""
        return self.band.low <= self.rate <= self.band.high


@dataclass(frozen=True)
class Confound:
    """Rank correlations of a Vista variant within scenes, means: with the executed PDMS, the same with speed, length
    and curvature held fixed, and with each of these."""

    name: str
    real: Interval
    partial: Interval
    given: tuple[Interval, ...]


def errors(rows: pd.DataFrame) -> Float[ndarray, "N"]:
    """The critic's error of each candidate; 1, the largest there is, where nothing finite was imagined. Below
    `ROUNDING` it is how both sides measure metres along a route, and counts as none."""
    error = np.abs(rows["pdms"].to_numpy(np.float64) - rows["real_pdms"].to_numpy(np.float64))
    return np.where(np.isfinite(error), np.where(error < ROUNDING, 0.0, error), 1.0)


def by_support(joined: Joined, seed: int, resamples: int, parts: int = 10) -> list[Bin]:
    """Tenths of all candidates, the least supported first; none without a support."""
    rows = joined.rows
    if "support_s" not in rows:
        return []
    order = np.argsort(-rows["support_s"].to_numpy(), kind="stable")
    error, draw = errors(rows), fold_in(seed, "bootstrap")
    found = []
    for members in np.array_split(order, parts):
        part = rows.iloc[members]
        groups, p = part["group"].tolist(), part["support_p"]
        imagined, real, off = (
            bootstrap_mean(np.asarray(values, dtype=np.float64), draw, groups=groups, resamples=resamples)
            for values in (part["pdms"], part["real_pdms"], error[members])
        )
        found.append(Bin(float(p.min()), float(p.max()), len(part), imagined, real, off))
    return found


def doubts(joined: Joined, seed: int, resamples: int) -> list[Doubt]:
    """Every estimator that the model has."""
    rows, draw = joined.rows, fold_in(seed, "bootstrap")
    error, groups = errors(rows), rows["group"].tolist()
    best = _correlation(np.argsort(np.argsort(error, kind="stable"), kind="stable").astype(np.float64), error)
    found = []
    for name, (column, sign) in ESTIMATORS.items():
        if column not in rows:
            continue
        doubt = sign * rows[column].to_numpy(np.float64)
        doubt = np.where(np.isfinite(doubt), doubt, np.inf)
        within = [_correlation(doubt[m], error[m]) for m in scenes_of(rows)]
        found.append(
            Doubt(
                name,
                bootstrap_groups(partial(_of_rows, doubt, error), groups, draw, resamples=_few(resamples)),
                bootstrap_mean(np.array(within), draw, groups=list(joined.groups), resamples=resamples),
                best,
                aurc_interval(confidence=-doubt, losses=error, scenes=groups, seed=draw, resamples=_few(resamples)),
                risk_coverage(confidence=-doubt, losses=error),
            )
        )
    return found


def told(joined: Joined, seed: int, resamples: int) -> list[Told]:
    """Driven actions against perturbed ones: shaken, all that end near, and by how near they end."""
    rows, draw = joined.rows, fold_in(seed, "bootstrap")
    found = []
    driven = rows[rows["kind"] == LOGGED]
    cases = [(SHAKEN, math.nan), (PERTURBED, math.nan), *((PERTURBED, distance) for distance in DISTANCES_M)]
    for name in ("support", "neighbours"):
        column = ESTIMATORS[name][0]
        if column not in rows or driven.empty:
            continue
        for kind, distance in cases:
            others = rows[(rows["kind"] == kind) & (math.isnan(distance) | (rows["distance_m"] == distance))]
            if others.empty:
                continue
            both = pd.concat([driven, others])
            labels = np.arange(len(both)) >= len(driven)
            scores = both[column].to_numpy(np.float64)
            value = auroc_interval(labels, scores, both["group"].tolist(), draw, resamples=resamples)
            found.append(Told(name, kind, distance, value))
    return found


def refusals(joined: Joined) -> list[Refusals]:
    """At several levels; none without a support."""
    rows = joined.rows
    if not joined.calibration:
        return []
    p = rows.loc[rows["kind"] == LOGGED, "support_p"].to_numpy(np.float64)
    if not len(p):
        return []
    return [
        Refusals(
            alpha,
            float((p < alpha).mean()),
            len(p),
            refusal_band(calibration=joined.calibration, trials=len(p), alpha=alpha),
        )
        for alpha in ALPHAS
    ]


def confounds(joined: Joined, seed: int, resamples: int) -> list[Confound]:
    """Vista's variants, as far as the model has them."""
    rows, draw, groups = joined.rows, fold_in(seed, "bootstrap"), list(joined.groups)

    def mean(values: list[float]) -> Interval:
        return bootstrap_mean(np.array(values), draw, groups=groups, resamples=resamples)

    found = []
    for name in (name for name in VISTA if name in rows):
        value, real = rows[name].to_numpy(np.float64), rows["real_pdms"].to_numpy(np.float64)
        given = rows[list(CONFOUNDERS)].to_numpy(np.float64)
        kept = [m[np.isfinite(value[m])] for m in scenes_of(rows)]
        found.append(
            Confound(
                name,
                mean([_correlation(value[m], real[m]) for m in kept]),
                mean([partial_spearman(value[m], real[m], given[m]) for m in kept]),
                tuple(mean([_correlation(value[m], given[m, i]) for m in kept]) for i in range(len(CONFOUNDERS))),
            )
        )
    return found


def partial_spearman(a: Float[ndarray, "N"], b: Float[ndarray, "N"], given: Float[ndarray, "N G"]) -> float:
    """The rank correlation of two sides with the ranks of others held fixed (linear in ranks); NaN where a side has
    nothing left."""
    if len(a) < given.shape[1] + 3:
        return math.nan
    fixed = np.column_stack([np.ones(len(a)), *(rankdata(column) for column in given.T)])
    left = []
    for side in (a, b):
        ranks = rankdata(side)
        rest = ranks - fixed @ np.linalg.lstsq(fixed, ranks, rcond=None)[0]
        if rest.std() <= 1e-9 * max(ranks.std(), 1e-12) or ranks.std() == 0.0:
            return math.nan
        left.append(rest / rest.std())
    return float(np.clip((left[0] * left[1]).mean(), -1.0, 1.0))


def _correlation(a: ndarray, b: ndarray) -> float:
    """Spearman; NaN where a side is constant."""
    if len(a) < 2:
        return math.nan
    ranks = rankdata(a), rankdata(b)
    if ranks[0].std() == 0.0 or ranks[1].std() == 0.0:
        return math.nan
    return float(np.corrcoef(*ranks)[0, 1])


def _of_rows(doubt: ndarray, error: ndarray, rows: Int[ndarray, "R"]) -> float:
    return _correlation(doubt[rows], error[rows])


def _few(resamples: int) -> int:
    """Fewer where each resample sorts all candidates."""
    return max(100, resamples // 4)
