"""L2, joint: does the imagination keep gap, relative speed and both accelerations together as traffic does?

`energy_distance` is 2 E|X - Y| - E|X - X'| - E|Y - Y'| on (gap, speed difference, other's acceleration, ego's
acceleration), each divided by its standard deviation in the truth; unbiased, 0 when equal. `c2st` is the AUC of a
gradient-boosted tree (depth 3) that tells imagined rows from true ones of scenes that it was not trained on: 0.5 when
it cannot.

References:
    Szekely and Rizzo (2013), Energy statistics; Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold

from wmplan.randomness import fold_in
from wmplan.statistics import Interval, Measure, auroc_interval
from wmplan.validation.discrepancy import blocks, distance_of, negative_distance
from wmplan.validation.encounters import SceneEncounters, measure_encounters
from wmplan.validation.layers import Gate, Layer, figure

C2ST = Gate(at_most=0.7)
MOST = 3000
"""At most so many rows a side, a random choice: enough for the interval, and pairs fit in memory."""
FOLDS = 5
TREES = 100
DEPTH = 3


def summarise(rows: Sequence[SceneEncounters], seed: int) -> list[Measure]:
    """Energy distance and classifier two-sample test, on the same rows."""
    true, imagined = ([getattr(row, side).relations for row in rows] for side in ("true", "imagined"))
    true, imagined = (_thinned(parts, fold_in(seed, "relations") % 2**32) for parts in (true, imagined))
    counts = [sum(map(len, side)) for side in (true, imagined)]
    if min(counts) < 2 or len({row.group for row in rows}) < FOLDS:
        reason = f"{counts[0]} true and {counts[1]} imagined rows of {len({row.group for row in rows})} groups"
        nothing = Interval(math.nan, math.nan, math.nan, len(rows), reason)
        return [figure("energy_distance", nothing, 0), figure("c2st", nothing, 0, C2ST)]
    scale = np.concatenate(true).std(axis=0)
    scale = np.where(scale > 0.0, scale, 1.0)
    scaled = [[part / scale for part in side] for side in (true, imagined)]
    found = blocks(scaled[0], scaled[1], [row.group for row in rows], negative_distance)
    return [distance_of("energy_distance", found, rows, seed), _c2st(true, imagined, rows, seed)]


LAYER = Layer("L2 joint", measure_encounters, summarise)


def _c2st(
    true: Sequence[Float64[ndarray, "_N 4"]],
    imagined: Sequence[Float64[ndarray, "_M 4"]],
    rows: Sequence[SceneEncounters],
    seed: int,
) -> Measure:
    groups = np.concatenate(
        [np.repeat([row.group for row in rows], [len(part) for part in side]) for side in (true, imagined)]
    )
    x = np.concatenate([*true, *imagined])
    y = np.arange(len(x)) >= sum(map(len, true))
    scores = np.full(len(x), np.nan)
    for inside, outside in GroupKFold(FOLDS).split(x, y, groups):
        if len(set(y[inside])) < 2:
            continue
        tree = HistGradientBoostingClassifier(
            max_depth=DEPTH, max_iter=TREES, early_stopping=False, random_state=seed % 2**32
        )
        scores[outside] = tree.fit(x[inside], y[inside]).predict_proba(x[outside])[:, 1]
    kept = np.isfinite(scores)
    interval = auroc_interval(y[kept], scores[kept], groups[kept].tolist(), seed)
    return figure("c2st", interval, sum(len(a) + len(b) > 0 for a, b in zip(true, imagined)), C2ST)


def _thinned(parts: Sequence[Float64[ndarray, "_N 4"]], seed: int) -> list[Float64[ndarray, "_M 4"]]:
    """The same share of every scene's rows, drawn alike for equal rows, so that equal sides stay equal."""
    total = sum(map(len, parts))
    if total <= MOST:
        return list(parts)
    keep = np.random.default_rng(seed).random(total) < MOST / total
    edges = np.cumsum([len(part) for part in parts])[:-1]
    return [part[chosen] for part, chosen in zip(parts, np.split(keep, edges))]
