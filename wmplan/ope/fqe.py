"""Fitted Q evaluation: what a policy is worth by regression on logged steps, without propensities.

The loss is (Q(s, a) - r - g Q'(s', a'))^2 with a' what the policy does in s', the *next* situation. Features of the
next situation are those of the next decision of the same drive, so that they cannot be taken for those of s.

References:
    Le, Voloshin and Yue (2019); Ernst, Geurts and Wehenkel (2005) for averaging trees, which cannot diverge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.ensemble import ExtraTreesRegressor

from wmplan.errors import InputError
from wmplan.ope.doubly_robust import Values
from wmplan.ope.trajectories import Trajectories
from wmplan.randomness import fold_in

Predictor = Callable[[Float[ndarray, "M F"]], Float[ndarray, "M"]]
BEYOND = 10.0
"""Fitted values so many times beyond what any drive could earn have diverged."""


@dataclass(frozen=True)
class Features:
    """F numbers of a situation and a decision in it: `taken` with the decision of the log, `wished` with A decisions of
    the policy, each with its probability in `shares` (draws have equal ones). Where time is short the time left has to
    be among the features: the same situation is worth less with less of it left."""

    taken: Float[ndarray, "N T F"]
    wished: Float[ndarray, "N T A F"]
    shares: Float[ndarray, "N T A"]

    def select(self, rows: ndarray) -> Features:
        """Those of these drives."""
        return Features(self.taken[rows], self.wished[rows], self.shares[rows])


@runtime_checkable
class Regressor(Protocol):
    """Fits a function of features to targets."""

    def fit(self, features: Float[ndarray, "M F"], targets: Float[ndarray, "M"], seed: int) -> Predictor: ...


@dataclass(frozen=True)
class Ridge:
    """Linear in the features, with a constant; `penalty` on coefficients of standardised features, for each row.

    Exact on one-hot features. May diverge elsewhere where the policy leaves the logs; that is found and said.
    """

    penalty: float = 1e-6

    def fit(self, features: Float[ndarray, "M F"], targets: Float[ndarray, "M"], seed: int) -> Predictor:
        """The least-squares fit."""
        centre, scale = features.mean(0), features.std(0)
        scale = np.where(scale > 1e-9, scale, 1.0)
        x = (features - centre) / scale
        offset = float(targets.mean())
        gram = x.T @ x / len(x) + self.penalty * np.eye(x.shape[1])
        slope = np.linalg.solve(gram, x.T @ (targets - offset) / len(x))
        return lambda new: offset + ((new - centre) / scale) @ slope


@dataclass(frozen=True)
class Trees:
    """Extremely randomised trees. Each value is a mean of targets seen, so fitted values stay within what rewards
    allow, however far the policy leaves the logs: chosen over a neural network, whose target needs tuning to converge,
    and over boosted trees, which extrapolate."""

    trees: int = 50
    leaf: int = 10
    """least rows in a leaf"""

    def fit(self, features: Float[ndarray, "M F"], targets: Float[ndarray, "M"], seed: int) -> Predictor:
        """The mean of the trees."""
        forest = ExtraTreesRegressor(
            self.trees, min_samples_leaf=self.leaf, max_features=1.0, random_state=seed % 2**32, n_jobs=1
        )
        forest.fit(features, targets)
        return lambda new: np.asarray(forest.predict(new), np.float64)


@dataclass(frozen=True)
class FittedQ:
    """A fitted Q. `change` is the largest change of a fitted value in the last round, 0 where it is done; `diverged`
    says that values grew beyond what rewards allow."""

    predictor: Predictor
    change: float
    diverged: bool

    def values(self, features: Features) -> Values:
        """Q of what was done, V of what the policy would do."""
        drives, steps, choices, size = features.wished.shape
        # Behind a drive's end there may be anything; nobody reads the values there.
        taken, wished = (np.where(np.isfinite(x), x, 0.0) for x in (features.taken, features.wished))
        q = self.predictor(taken.reshape(-1, size)).reshape(drives, steps)
        each = self.predictor(wished.reshape(-1, size)).reshape(drives, steps, choices)
        return Values(q, (features.shares * each).sum(2))


def fit_q(
    logged: Trajectories, features: Features, regressor: Regressor, seed: int, rounds: int | None = None
) -> FittedQ:
    """Q after `rounds` rounds of regression; T + 1 by default: the last changes nothing if features tell the time.

    Behind a drive's last decision, nothing is earned. Decisions that the mask leaves out are not used.

    Raises:
        InputError: features of other shapes, not finite, or probabilities that do not sum to one.
    """
    _check(logged, features)
    steps = logged.rewards.shape[1]
    used = logged.mask
    follows = np.concatenate([used[:, 1:], np.zeros((len(used), 1), bool)], axis=1)
    size, choices = features.taken.shape[2], features.wished.shape[2]
    taken, rewards = features.taken[used], logged.rewards[used].astype(np.float64)
    # Row i of `coming` belongs to the i-th used decision that another one follows: its successor, not itself.
    coming = features.wished[:, 1:][follows[:, :-1]].reshape(-1, size)
    shares = features.shares[:, 1:][follows[:, :-1]]
    goes_on = follows[used]
    bound = BEYOND * steps * max(float(np.abs(rewards).max()), 1e-12)
    predictor = regressor.fit(taken, rewards, fold_in(seed, "fqe", 0))
    fitted, change = predictor(taken), np.inf
    for _ in range(1, steps + 1 if rounds is None else rounds):
        targets = rewards.copy()
        if len(coming):
            targets[goes_on] += logged.discount * (shares * predictor(coming).reshape(-1, choices)).sum(1)
        predictor = regressor.fit(taken, targets, fold_in(seed, "fqe", 0))
        again = predictor(taken)
        fitted, change = again, float(np.abs(again - fitted).max())
        if not np.abs(fitted).max() <= bound:
            return FittedQ(predictor, change, True)
        if change <= 1e-9 * bound:
            break
    return FittedQ(predictor, change, False)


def cross_fitted(
    logged: Trajectories, features: Features, regressor: Regressor, seed: int, folds: int = 5
) -> tuple[Values, str]:
    """Values of each drive by a Q that was fitted on other groups of drives, and why they are of no use (or "").

    Raises:
        InputError: fewer groups than folds, or as `fit_q`.
    """
    _check(logged, features)
    names, members = np.unique(np.asarray(logged.drawn), return_inverse=True)
    if not 2 <= folds <= len(names):
        raise InputError(f"fqe: {folds} folds of {len(names)} groups of drives, expected 2 folds or more, of one each")
    fold = np.random.default_rng(fold_in(seed, "folds")).permutation(len(names))[members] % folds
    q, v = np.empty(logged.rewards.shape), np.empty(logged.rewards.shape)
    reason = ""
    for number in range(folds):
        rest, mine = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        fitted = fit_q(logged.select(rest), features.select(rest), regressor, fold_in(seed, "fold", number))
        if fitted.diverged:
            reason = f"policy {logged.policy}: fitted Q grew beyond {BEYOND:g} times what rewards allow"
        values = fitted.values(features.select(mine))
        q[mine], v[mine] = values.q, values.v
    return Values(q, v), reason


def _check(logged: Trajectories, features: Features) -> None:
    drives, steps = logged.rewards.shape
    shapes = {
        "taken": features.taken.shape[:2],
        "wished": features.wished.shape[:2],
        "shares": features.shares.shape[:2],
    }
    for name, shape in shapes.items():
        if shape != (drives, steps):
            raise InputError(f"features.{name}: of {shape} drives and decisions, expected {(drives, steps)}")
    for name, part in (("taken", features.taken), ("wished", features.wished), ("shares", features.shares)):
        flat = part.reshape(drives, steps, -1)
        bad = np.argwhere(logged.mask & ~np.isfinite(flat).all(2))
        if len(bad):
            i, t = (int(j) for j in bad[0])
            raise InputError(f"scene {logged.scenes[i]}: features.{name} of decision {t} are not finite")
    wrong = np.argwhere(logged.mask & (np.abs(features.shares.sum(2) - 1.0) > 1e-6))
    if len(wrong):
        i, t = (int(j) for j in wrong[0])
        raise InputError(f"scene {logged.scenes[i]}: features.shares of decision {t} do not sum to one")
