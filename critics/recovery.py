"""What the inverse-control probe says of a whole model, with scene bootstrap intervals and honest baselines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.stats import rankdata

from critics.inverse_control import InverseControlProbe, ProbeExamples
from wmplan.errors import InputError
from wmplan.randomness import fold_in


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % scene bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ProbeSummary:
    """Controllability of a model: does the imagined response of others follow the ego's command?

    `rho_valid` is the mean Spearman correlation of command and recovered command over the scenes in which the recovered
    command moves at all (NaN where there are none); `coverage` their share; `rho_all` the product of the two, where a
    silent scene counts 0. `mae` is the recovery error (m/s2), beside a uniform guess on the range (`chance`) and the
    best constant.

    References:
        `reference/evaluation.md` 5.
    """

    scenes: int
    rho_valid: Interval
    coverage: Interval
    rho_all: Interval
    mae: Interval
    chance: float
    constant: float


def probe_summary(
    probe: InverseControlProbe, examples: ProbeExamples, *, resamples: int = 1000, seed: int = 0
) -> ProbeSummary:
    """The summary over held-out scenes (scenes that the probe was not fitted on).

    Raises:
        InputError: no scenes.
    """
    names = sorted(set(examples.scenes))
    if not names:
        raise InputError("probe summary: no scenes, expected at least one")
    recovered = probe.recover(examples.features)
    member = np.array([names.index(scene) for scene in examples.scenes])
    rho = np.array([_spearman(examples.commands[member == s], recovered[member == s]) for s in range(len(names))])
    error = np.array([np.abs(recovered - examples.commands)[member == s].mean() for s in range(len(names))])
    rng = np.random.default_rng(fold_in(seed, "probe_summary"))
    draws = rng.integers(0, len(names), (resamples, len(names)))
    valid = np.isfinite(rho)
    low, high = examples.commands.min(), examples.commands.max()
    chance = ((examples.commands - low) ** 2 + (high - examples.commands) ** 2) / (2.0 * max(high - low, 1e-12))
    constant = np.abs(examples.commands - np.median(examples.commands)).mean()
    return ProbeSummary(
        scenes=len(names),
        rho_valid=_interval(_mean_valid(rho[None])[0], _mean_valid(rho[draws])),
        coverage=_interval(valid.mean(), valid[draws].mean(axis=1)),
        rho_all=_interval(np.where(valid, rho, 0.0).mean(), np.where(valid, rho, 0.0)[draws].mean(axis=1)),
        mae=_interval(error.mean(), error[draws].mean(axis=1)),
        chance=float(chance.mean()),
        constant=float(constant),
    )


def _spearman(a: Float64[ndarray, "N"], b: Float64[ndarray, "N"]) -> float:
    """Pearson correlation of average ranks; NaN where a side does not vary."""
    if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _mean_valid(values: Float64[ndarray, "R S"]) -> Float64[ndarray, "R"]:
    valid = np.isfinite(values)
    count = valid.sum(axis=1)
    return np.where(count > 0, np.where(valid, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _interval(value: float, draws: Float64[ndarray, "R"]) -> Interval:
    known = draws[np.isfinite(draws)]
    if not len(known):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))
