"""Doubly robust estimates: values of a fitted model, corrected by weighted errors of that model on the logs.

References:
    Jiang and Li (2016), DR; Thomas and Brunskill (2016), WDR and MAGIC; `reference/evaluation.md` 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import nnls

from wmplan.errors import InputError
from wmplan.ope.importance import scaled
from wmplan.ope.sums import Sums
from wmplan.ope.trajectories import Trajectories

MAGIC_LEVEL, MAGIC_RESAMPLES = 0.9, 200
"""Of the interval of WDR that biases are measured against, and of the covariance of returns."""


@dataclass(frozen=True)
class Values:
    """What a model says: `q` of the logged decision in its situation, `v` of the situation under the policy.

    Behind a drive's end both count as zero. Of use for intervals only if the model was fitted on other drives
    (`wmplan.ope.fqe.cross_fitted`) or on none.
    """

    q: Float[ndarray, "N T"]
    v: Float[ndarray, "N T"]


def direct(logged: Trajectories, values: Values) -> Sums:
    """DM, the mean of V at the first decision. The interval holds the model fixed: its error is not in it."""
    _check(logged, values)
    return Sums.mean(values.v[:, 0], logged.drawn)


def doubly_robust(logged: Trajectories, values: Values) -> Sums:
    """DR, mean_i sum_t g^t (w_{0:t} (r_t - Q_t) + w_{0:t-1} V_t): unbiased whatever the model is, if it was fitted on
    other drives; with little variance where the model is good."""
    error, value = _parts(logged, values)
    log = logged.log_weights()
    with np.errstate(over="ignore", invalid="ignore"):
        after, before = np.exp(log), np.exp(_shifted(log))
        total = (after * error + before * value).sum(1)
    return Sums.mean(total, logged.drawn)


def weighted_doubly_robust(logged: Trajectories, values: Values) -> Sums:
    """WDR: the weights of DR normalised over drives at each decision."""
    return _weighted(logged, values, np.ones(logged.rewards.shape[1]), np.ones(logged.rewards.shape[1]))


def magic(logged: Trajectories, values: Values, seed: int) -> Sums:
    """MAGIC: the blend of j-step returns (weighted doubly robust up to decision j, the model from there on) with the
    least estimated squared error x'(Omega + b b')x on the simplex.

    Omega is the bootstrap covariance of the returns, b their distance to WDR's interval. The interval of what is
    returned holds the blend fixed.
    """
    steps = logged.rewards.shape[1]
    whole = weighted_doubly_robust(logged, values)
    terms = whole.terms(seed, MAGIC_RESAMPLES)
    ready = terms[np.isfinite(terms).all(1)]
    if len(ready) < MAGIC_RESAMPLES // 2:
        return Sums.mean(np.full(len(logged), np.nan), logged.drawn)
    returns = _j_step(ready)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = _j_step((whole.numerators.sum(0) / whole.denominators.sum(0))[None])[0]
    low, high = np.quantile(returns[:, -1], [(1.0 - MAGIC_LEVEL) / 2.0, (1.0 + MAGIC_LEVEL) / 2.0])
    bias = np.maximum(centre - high, 0.0) - np.maximum(low - centre, 0.0)
    blend = simplex_minimum(np.atleast_2d(np.cov(returns, rowvar=False)) + np.outer(bias, bias))
    # blend[j + 1] belongs to the j-step return, j = -1 .. T - 1; decision t's error is in those with j >= t.
    later = np.cumsum(blend[::-1])[::-1]
    return _weighted(logged, values, later[1 : steps + 1], later[:steps])


def simplex_minimum(matrix: Float[ndarray, "J J"]) -> Float[ndarray, "J"]:
    """argmin x'Ax over x >= 0, sum x = 1, for a positive semi-definite A.

    min |L x|^2 + (1'x - 1)^2 over x >= 0 is a non-negative least squares problem; its solution is a multiple of x,
    since for x = s u the best s leaves u'Au / (1 + u'Au), which grows with u'Au.
    """
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    scale = float(np.abs(values).max())
    if scale == 0.0:
        return np.full(len(matrix), 1.0 / len(matrix))
    root = np.sqrt(np.maximum(values, 0.0) / scale)[:, None] * vectors.T
    # A little ridge decides between equally good blends (all returns may be the same number).
    ridge = 1e-9 * np.eye(len(matrix))
    system = np.concatenate([root, ridge, np.ones((1, len(matrix)))])
    solved, _ = nnls(system, np.concatenate([np.zeros(2 * len(matrix)), [1.0]]))
    return solved / solved.sum()


def _weighted(logged: Trajectories, values: Values, of_errors: ndarray, of_values: ndarray) -> Sums:
    """Terms: T of weighted errors times `of_errors`, then T of weighted values times `of_values`."""
    error, value = _parts(logged, values)
    log = logged.log_weights()
    after, before = scaled(log), scaled(_shifted(log))
    numerators = np.concatenate([after * error * of_errors, before * value * of_values], axis=1)
    return Sums(numerators, np.concatenate([after, before], axis=1), logged.drawn)


def _j_step(terms: Float[ndarray, "R _J"]) -> Float[ndarray, "R _N"]:
    """The j-step returns, j = -1 .. T - 1, from WDR's terms; the last one is WDR."""
    steps = terms.shape[1] // 2
    errors = np.concatenate([np.zeros((len(terms), 1)), np.cumsum(terms[:, :steps], axis=1)], axis=1)
    models = np.cumsum(terms[:, steps:], axis=1)
    return errors + np.concatenate([models, models[:, -1:]], axis=1)


def _parts(logged: Trajectories, values: Values) -> tuple[ndarray, ndarray]:
    """Discounted errors r - Q and values V, zero behind a drive's end."""
    _check(logged, values)
    discounts = logged.discount ** np.arange(logged.rewards.shape[1])
    error = np.where(logged.mask, logged.rewards - values.q, 0.0) * discounts
    return error, np.where(logged.mask, values.v, 0.0) * discounts


def _shifted(log: ndarray) -> ndarray:
    """w_{0:t-1}, with w_{0:-1} = 1."""
    return np.concatenate([np.zeros((len(log), 1)), log[:, :-1]], axis=1)


def _check(logged: Trajectories, values: Values) -> None:
    for name, part in (("q", values.q), ("v", values.v)):
        if part.shape != logged.rewards.shape:
            raise InputError(f"values.{name}: shape {part.shape}, expected {logged.rewards.shape}")
        bad = np.argwhere(logged.mask & ~np.isfinite(part))
        if len(bad):
            i, t = (int(j) for j in bad[0])
            raise InputError(f"scene {logged.scenes[i]}: {name} of decision {t} is {part[i, t]}, expected a number")
