"""Support density: how usual an action is in its situation, in the training logs. Never the world model's variance."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from critics.conformal import Conformal
from critics.storage import content_digest, load_fitted, save_fitted
from critics.support_features import (
    ACTION_FEATURES,
    CONTEXT_FEATURES,
    SupportExamples,
    action_features,
    context_features,
)
from wmplan.contracts import Context, Imagined, SceneRaster, Terms
from wmplan.errors import InputError
from wmplan.plans import Plans
from wmplan.randomness import fold_in

SCHEMA = "wmplan.support/1"


@dataclass(frozen=True)
class SupportConfig:
    """How the density is fitted and calibrated."""

    components: int = 16
    """Gaussian components of the joint density of action and situation; fewer where examples are few."""
    examples_per_component: int = 30
    """At least so many training examples for each component."""
    ridge: float = 1e-2
    """Added to every component's covariance, in whitened units: keeps narrow components from claiming certainty."""
    tail: float = 0.95
    """Quantile of the calibration scores beyond which the excess counts."""
    seed: int = 0
    """Seed of the mixture's initialisation."""


class SupportDensity:
    """Nonconformity s = -log p(action | situation), its split-conformal p-value, the excess beyond the 95 % quantile.

    `support_p` = (1 + #{calibration scores >= s}) / (n + 1): the share of logged actions at least as unusual; under the
    logging policy it is below alpha in at most a share alpha of scenes, on average over calibration sets, when scenes
    are exchangeable (scenes of one recording are not quite: calibrate on many recordings). `support_excess` =
    max(0, s - q95) / IQR, and is positive only where p < 0.05. It judges actions, not scenes: a scene unlike any log
    is not seen.
    """

    name = "support"
    columns: tuple[str, ...] = ("support_s", "support_p", "support_excess")

    def __init__(self, arrays: dict[str, ndarray], notes: dict[str, str]) -> None:
        self._arrays, self._notes = arrays, notes
        self._mixture = _Mixture(arrays["weights"], arrays["means"], arrays["factors"])
        self.conformal = Conformal.of(arrays["calibration"], float(notes["tail"]))
        self.digest = content_digest(SCHEMA, arrays, notes)

    @property
    def calibration_scenes(self) -> int:
        """Scenes behind the p-values; the smallest p-value is one over this plus one."""
        return len(self.conformal.scores)

    @staticmethod
    def fit(
        train: SupportExamples, calibration: SupportExamples, config: SupportConfig | None = None
    ) -> SupportDensity:
        """Density fitted on `train`, p-values from `calibration`; the two must not share a group.

        Raises:
            InputError: a shared group, too few examples, or a non-finite feature.
        """
        config = config or SupportConfig()
        check_examples(train, calibration)
        joint = np.concatenate([train.actions, train.contexts], axis=1)
        centre, scale = whitening(train)
        count = int(np.clip(len(joint) // config.examples_per_component, 1, config.components))
        mixture = GaussianMixture(
            count, reg_covar=config.ridge, max_iter=300, random_state=fold_in(config.seed, "support") % 2**32
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit((joint - centre) / scale)
        arrays = {
            "centre": centre,
            "scale": scale,
            "weights": mixture.weights_,
            "means": mixture.means_,
            "factors": np.linalg.cholesky(mixture.covariances_),
        }
        score = _scores(arrays, calibration.actions, calibration.contexts)
        notes = {
            "train_scenes": str(len(train)),
            "train_groups": str(len(set(train.groups))),
            "calibration_groups": str(len(set(calibration.groups))),
            "config": json.dumps(asdict(config), sort_keys=True),
            "tail": repr(config.tail),
        }
        return SupportDensity({**arrays, "calibration": score}, notes)

    def save(self, path: Path) -> None:
        """Write to `path` (safetensors)."""
        save_fitted(path, SCHEMA, self._arrays, self._notes)

    @staticmethod
    def load(path: Path) -> SupportDensity:
        """Read what `save` wrote.

        Raises:
            InputError: missing, damaged, or not a support density.
        """
        return SupportDensity(*load_fitted(path, SCHEMA))

    def nonconformity(self, actions: Float64[ndarray, "K 9"], contexts: Float64[ndarray, "K 3"]) -> ndarray:
        """-log p(action | situation), in whitened units."""
        return _scores(self._arrays, actions, contexts)

    def assess(self, raster: SceneRaster, plans: Plans) -> Terms:
        """The three columns, without any imagination."""
        return assessed(self, self.conformal, raster, plans)

    def terms(self, context: Context, plans: Plans, imagined: Imagined) -> Terms:
        """The three columns; what is imagined plays no part."""
        return self.assess(context.raster, plans)


@runtime_checkable
class Estimator(Protocol):
    """What gives actions in situations a nonconformity score; `columns` are the score, its p-value, its excess."""

    columns: tuple[str, ...]

    def nonconformity(self, actions: Float64[ndarray, "K 9"], contexts: Float64[ndarray, "K 3"]) -> ndarray: ...


def assessed(estimator: Estimator, conformal: Conformal, raster: SceneRaster, plans: Plans) -> Terms:
    """Score, p-value and excess of each plan in the situation of the raster; NaN for a plan that is not finite."""
    finite = np.isfinite(plans.states).all(axis=(1, 2))
    safe = Plans(plans.controls, np.where(finite[:, None, None], plans.states, np.float32(0.0)))
    contexts = np.broadcast_to(context_features(raster), (len(plans), len(CONTEXT_FEATURES)))
    score = estimator.nonconformity(action_features(safe), contexts)
    score[~finite] = np.nan
    # Rounded before it is compared, so that p and excess can be had again from the saved score.
    score = score.astype(np.float32).astype(np.float64)
    values = np.stack([score, conformal.p_value(score), conformal.excess(score)], axis=1)
    return Terms(estimator.columns, values.astype(np.float32))


def check_examples(train: SupportExamples, calibration: SupportExamples) -> None:
    """Whether the one can be fitted on and the other calibrate it.

    Raises:
        InputError: a shared group, too few examples, or a non-finite feature.
    """
    shared = sorted(set(train.groups) & set(calibration.groups))
    if shared:
        raise InputError(f"support: group {shared[0]} is in both training and calibration, expected none to be")
    least = 2 * (len(ACTION_FEATURES) + len(CONTEXT_FEATURES))
    if len(train) < least:
        raise InputError(f"support: {len(train)} training scenes, expected at least {least}")
    if len(calibration) < 19:
        raise InputError(f"support: {len(calibration)} calibration scenes, expected at least 19, for p < 0.05")
    for name, part in (("training", train), ("calibration", calibration)):
        bad = np.flatnonzero(~np.isfinite(part.actions).all(axis=1) | ~np.isfinite(part.contexts).all(axis=1))
        if len(bad):
            raise InputError(f"support: {name} scene {bad[0]} has a non-finite feature, expected finite numbers")


def whitening(train: SupportExamples) -> tuple[Float64[ndarray, "N"], Float64[ndarray, "N"]]:
    """Centre and scale of actions and situations, action features first."""
    joint = np.concatenate([train.actions, train.contexts], axis=1)
    low, high = np.quantile(joint, [0.1, 0.9], axis=0)
    # An interdecile range survives features that are almost always zero better than an interquartile one.
    scale = np.maximum.reduce([(high - low) / 2.56, joint.std(axis=0) / 4.0, np.full(joint.shape[1], 1e-4)])
    return np.median(joint, axis=0), scale


@dataclass(frozen=True)
class _Mixture:
    """A Gaussian mixture by the Cholesky factors of its covariances, evaluated without matrix products over rows."""

    weights: Float64[ndarray, "J"]
    means: Float64[ndarray, "J D"]
    factors: Float64[ndarray, "J D D"]

    def log_density(self, points: Float64[ndarray, "K D"], first: int) -> Float64[ndarray, "K"]:
        """Log density of the dimensions from `first` on; dimensions before it are integrated out."""
        means = self.means[:, first:]
        covariance = self.factors @ np.swapaxes(self.factors, 1, 2)
        factors = np.linalg.cholesky(covariance[:, first:, first:])
        size = means.shape[1]
        rest = [points[:, first + d, None] - means[None, :, d] for d in range(size)]
        square = np.zeros((len(points), len(self.weights)))
        # Forward substitution; one row's numbers never meet another's.
        for d in range(size):
            value = rest[d] / factors[None, :, d, d]
            square = square + value * value
            for e in range(d + 1, size):
                rest[e] = rest[e] - value * factors[None, :, e, d]
        constant = np.log(self.weights) - np.log(factors[:, np.arange(size), np.arange(size)]).sum(axis=1)
        log_parts = constant[None] - 0.5 * square - 0.5 * size * np.log(2.0 * np.pi)
        most = log_parts.max(axis=1)
        total = np.zeros(len(points))
        for part in np.exp(log_parts - most[:, None]).T:
            total = total + part
        return most + np.log(total)


def _scores(arrays: dict[str, ndarray], actions: ndarray, contexts: ndarray) -> Float64[ndarray, "K"]:
    mixture = _Mixture(arrays["weights"], arrays["means"], arrays["factors"])
    joint = (np.concatenate([actions, contexts], axis=1) - arrays["centre"]) / arrays["scale"]
    return mixture.log_density(joint, len(ACTION_FEATURES)) - mixture.log_density(joint, 0)
