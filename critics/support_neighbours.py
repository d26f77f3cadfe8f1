"""Support by nearest neighbours: how far the nearest logged actions in like situations are.

A second opinion beside the density, with another failure: a mixture may rate a smooth outlier as likely, and a distance
does not know how dense the logs are where they are. Its columns stand in the ledger; the verdict goes by the density.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor

from critics.conformal import Conformal
from critics.storage import content_digest, load_fitted, save_fitted
from critics.support import assessed, check_examples, whitening
from critics.support_features import SupportExamples
from wmplan.contracts import Context, Imagined, SceneRaster, Terms
from wmplan.plans import Plans

SCHEMA = "wmplan.neighbours/1"


@dataclass(frozen=True)
class NeighboursConfig:
    """How near is measured."""

    neighbours: int = 8
    """The score is the mean distance to so many nearest logged (action, situation) pairs, whitened units."""
    most: int = 4000
    """At most so many logged pairs are kept, spread evenly over the training scenes."""
    tail: float = 0.95
    """Quantile of the calibration scores beyond which the excess counts."""


class SupportNeighbours:
    """Nonconformity = mean Euclidean distance to the nearest logged pairs of action and situation, and its conformal
    p-value; whitening is fitted on the training scenes only.

    References:
        `reference/evaluation.md` 3; Sun et al. (2022), "Out-of-distribution detection with deep nearest neighbors".
    """

    name = "neighbours"
    columns: tuple[str, ...] = ("neighbours_s", "neighbours_p", "neighbours_excess")

    def __init__(self, arrays: dict[str, ndarray], notes: dict[str, str]) -> None:
        self._arrays, self._notes = arrays, notes
        config = NeighboursConfig(**json.loads(notes["config"]))
        self._count = config.neighbours
        self.conformal = Conformal.of(arrays["calibration"], config.tail)
        self.digest = content_digest(SCHEMA, arrays, notes)

    @staticmethod
    def fit(
        train: SupportExamples, calibration: SupportExamples, config: NeighboursConfig | None = None
    ) -> SupportNeighbours:
        """Logged pairs of `train`, p-values from `calibration`; the two must not share a group.

        Raises:
            InputError: a shared group, too few examples, or a non-finite feature.
        """
        config = config or NeighboursConfig()
        check_examples(train, calibration)
        centre, scale = whitening(train)
        rows = np.unique(np.linspace(0, len(train) - 1, config.most).astype(int))
        logged = (np.concatenate([train.actions, train.contexts], axis=1)[rows] - centre) / scale
        arrays = {"centre": centre, "scale": scale, "logged": logged}
        arrays["calibration"] = _scores(arrays, calibration.actions, calibration.contexts, config.neighbours)
        notes = {
            "train_scenes": str(len(train)),
            "train_groups": str(len(set(train.groups))),
            "calibration_groups": str(len(set(calibration.groups))),
            "config": json.dumps(asdict(config), sort_keys=True),
        }
        return SupportNeighbours(arrays, notes)

    def save(self, path: Path) -> None:
        """Write to `path` (safetensors)."""
        save_fitted(path, SCHEMA, self._arrays, self._notes)

    @staticmethod
    def load(path: Path) -> SupportNeighbours:
        """Read what `save` wrote.

        Raises:
            InputError: missing, damaged, or something else.
        """
        return SupportNeighbours(*load_fitted(path, SCHEMA))

    def nonconformity(self, actions: Float64[ndarray, "K 9"], contexts: Float64[ndarray, "K 3"]) -> ndarray:
        """Mean distance to the nearest logged pairs, whitened units."""
        return _scores(self._arrays, actions, contexts, self._count)

    def assess(self, raster: SceneRaster, plans: Plans) -> Terms:
        """The three columns, without any imagination."""
        return assessed(self, self.conformal, raster, plans)

    def terms(self, context: Context, plans: Plans, imagined: Imagined) -> Terms:
        """The three columns; what is imagined plays no part."""
        return self.assess(context.raster, plans)


def nearest_squared(
    points: Float64[Tensor, "K D"], logged: Float64[Tensor, "N D"], count: int
) -> Float64[Tensor, "K neighbours"]:
    """Squared distances to the `count` nearest logged points, nearest first, by elementwise sums: a row's numbers do
    not depend on other rows. The same as `pytorch3d.ops.knn_points`, up to the rounding of its sums."""
    square = torch.zeros(len(points), len(logged), dtype=points.dtype)
    for d in range(points.shape[1]):
        square += (points[:, d, None] - logged[None, :, d]).square()
    return square.topk(min(count, len(logged)), dim=1, largest=False, sorted=True).values


def _scores(arrays: dict[str, ndarray], actions: ndarray, contexts: ndarray, count: int) -> Float64[ndarray, "K"]:
    points = torch.from_numpy((np.concatenate([actions, contexts], axis=1) - arrays["centre"]) / arrays["scale"])
    logged = torch.from_numpy(arrays["logged"])
    if find_spec("pytorch3d") is not None:
        from pytorch3d.ops import knn_points

        square = knn_points(points[None], logged[None], K=min(count, len(logged))).dists[0]
    else:
        square = nearest_squared(points, logged, count)
    return square.clamp(min=0.0).sqrt().mean(dim=1).numpy()
