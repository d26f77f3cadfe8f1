"""Importance sampling: whole drives or decision by decision, plain or self-normalised.

References:
    Precup, Sutton and Singh (2000); `reference/evaluation.md` 2.
"""

from __future__ import annotations

import numpy as np

from wmplan.ope.sums import Sums
from wmplan.ope.trajectories import Trajectories


def importance_sampling(logged: Trajectories) -> Sums:
    """IS, mean_i w_i G_i: unbiased; one large weight ruins it."""
    with np.errstate(over="ignore"):
        weights = np.exp(logged.log_weights()[:, -1])
    return Sums.mean(_product(weights, logged.returns), logged.drawn)


def weighted_importance_sampling(logged: Trajectories) -> Sums:
    """WIS, sum_i w_i G_i / sum_i w_i: biased for few drives, consistent, never outside the returns seen."""
    weights = scaled(logged.log_weights()[:, -1:])
    return Sums(weights * logged.returns[:, None], weights, logged.drawn)


def per_decision(logged: Trajectories) -> Sums:
    """PDIS, mean_i sum_t g^t w_{i,0:t} r_{i,t}: unbiased; a reward is weighed by what led to it only."""
    with np.errstate(over="ignore"):
        weights = np.exp(logged.log_weights())
    return Sums.mean(_product(weights, logged.paid).sum(1), logged.drawn)


def weighted_per_decision(logged: Trajectories) -> Sums:
    """PDWIS, sum_t g^t sum_i w_{i,0:t} r_{i,t} / sum_i w_{i,0:t}: biased for few drives, consistent."""
    weights = scaled(logged.log_weights())
    return Sums(weights * logged.paid, weights, logged.drawn)


def scaled(log: np.ndarray) -> np.ndarray:
    """Weights divided by the largest of their column, which self-normalisation does not notice; zero if all are."""
    most = log.max(axis=0)
    return np.exp(log - np.where(np.isfinite(most), most, 0.0))


def _product(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A weight of infinity times a value of zero is not zero: the estimate does not exist then."""
    with np.errstate(invalid="ignore"):
        return weights * values
