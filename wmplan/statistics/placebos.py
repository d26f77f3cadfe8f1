"""Placebos: tables without the thing that is believed to matter. A figure that survives them is no proof.

A table has a row for each candidate, in any order; `scenes` names the scene of each row. What a scene draws follows
from its name and the seed alone, whatever else is in the table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped
from numpy import ndarray

from wmplan.randomness import fold_in


def shuffled_candidates(
    imagined: Shaped[ndarray, "N ..."], scenes: Sequence[str], seed: int
) -> Shaped[ndarray, "N ..."]:
    """What was imagined for a candidate, given to a random candidate of the same scene: rows move as wholes.

    What a critic says of a scene stays, what it says of this candidate against that one goes.
    """
    return imagined[_rows(scenes, seed, "placebo:candidates")]


def permuted_labels(real: Shaped[ndarray, "N ..."], scenes: Sequence[str], seed: int) -> Shaped[ndarray, "N ..."]:
    """Real outcomes permuted within each scene; independent of `shuffled_candidates` of the same seed."""
    return real[_rows(scenes, seed, "placebo:labels")]


def scene_mean(imagined: Shaped[ndarray, "N ..."], scenes: Sequence[str]) -> Shaped[ndarray, "N ..."]:
    """Every candidate gets its scene's mean; NaN in a scene and column with a value that is not finite."""
    names, members = np.unique(np.asarray(scenes), return_inverse=True)
    flat = imagined.reshape(len(imagined), -1).astype(np.float64)
    finite = np.isfinite(flat)
    count = np.bincount(members, minlength=len(names)).astype(np.float64)
    means = np.empty((len(names), flat.shape[1]))
    for column in range(flat.shape[1]):
        sums = np.bincount(members, np.where(finite[:, column], flat[:, column], 0.0), minlength=len(names))
        broken = np.bincount(members, ~finite[:, column], minlength=len(names)) > 0
        means[:, column] = np.where(broken, np.nan, sums / count)
    return means[members].reshape(imagined.shape)


def _rows(scenes: Sequence[str], seed: int, purpose: str) -> Int[ndarray, "N"]:
    names, members = np.unique(np.asarray(scenes), return_inverse=True)
    rows = np.arange(len(members))
    for i, name in enumerate(names):
        mine = np.flatnonzero(members == i)
        rows[mine] = np.random.default_rng(fold_in(seed, purpose, str(name))).permutation(mine)
    return rows
