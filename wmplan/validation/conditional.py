"""L2, conditional: given the gap and how hard the ego brakes, does the other accelerate as it truly would?

The Jensen-Shannon divergence (bits, 0 to 1) between true and imagined accelerations of vehicles in the ego's lane, in
each of 3 gap by 4 ego-acceleration bins, averaged over the bins where both sides have 20 values or more. Few values
make a divergence between equals: `floor` is the same figure between the truths of two halves of the scenes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from wmplan.randomness import fold_in
from wmplan.statistics import Measure
from wmplan.validation.encounters import SceneEncounters, measure_encounters
from wmplan.validation.layers import Gate, Layer, statistic_of

DIVERGENCE = Gate(at_most=0.15)
GAPS_M = (10.0, 20.0)
"""Edges between near, middle and far."""
EGO_ACCELS_MPS2 = (-3.0, -1.0, 1.0)
"""Edges between hard braking, braking, cruising and speeding up."""
ACCELS_MPS2 = (-3.0, -1.5, -0.5, 0.5, 1.5)
LEAST = 20
CELLS = (len(GAPS_M) + 1) * (len(EGO_ACCELS_MPS2) + 1)
VALUES = len(ACCELS_MPS2) + 1


def summarise(rows: Sequence[SceneEncounters], seed: int) -> list[Measure]:
    """The mean divergence, the floor, and how many of the 12 bins it rests on."""
    true, imagined = (
        np.array([counts(getattr(row, side).relations) for row in rows]).reshape(-1, CELLS * VALUES)
        for side in ("true", "imagined")
    )
    half = np.array([fold_in(seed, "half", row.group) % 2 for row in rows], dtype=bool).reshape(-1, 1)
    halves = np.hstack([np.where(half, true, 0.0), np.where(half, 0.0, true)])
    return [
        statistic_of("js_conditional, bits", np.hstack([true, imagined]), _mean, rows, seed, DIVERGENCE),
        statistic_of("js_conditional, floor, bits", halves, _mean, rows, seed),
        statistic_of("js_conditional, bins of 12", np.hstack([true, imagined]), _used, rows, seed),
    ]


LAYER = Layer("L2 conditional", measure_encounters, summarise)


def counts(relations: Float64[ndarray, "N 4"]) -> Float64[ndarray, "B"]:
    """How many of the other's accelerations fall into each bin, by cell of gap and ego acceleration."""
    gap, _, other, ego = relations.T
    cell = np.digitize(gap, GAPS_M) * (len(EGO_ACCELS_MPS2) + 1) + np.digitize(ego, EGO_ACCELS_MPS2)
    return np.bincount(cell * VALUES + np.digitize(other, ACCELS_MPS2), minlength=CELLS * VALUES).astype(np.float64)


def divergence(p: Float64[ndarray, "*B V"], q: Float64[ndarray, "*B V"]) -> Float64[ndarray, "*B"]:
    """Jensen-Shannon divergence in bits of two distributions given as counts; NaN where one has none."""
    totals = [x.sum(-1, keepdims=True) for x in (p, q)]
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = p / totals[0], q / totals[1]
    middle = 0.5 * (p + q)

    def bits(x: ndarray) -> ndarray | np.float64:
        logs = np.log2(np.where(x > 0.0, x, 1.0)) - np.log2(np.where(middle > 0.0, middle, 1.0))
        return np.where(np.isnan(x), np.nan, np.where(x > 0.0, x, 0.0) * logs).sum(-1)

    return np.asarray(0.5 * (bits(p) + bits(q)))


def _cells(sums: Float64[ndarray, "R N"]) -> tuple[Float64[ndarray, "R C"], ndarray]:
    p, q = (side.reshape(len(sums), CELLS, VALUES) for side in np.hsplit(sums, 2))
    return divergence(p, q), (p.sum(-1) >= LEAST) & (q.sum(-1) >= LEAST)


def _mean(sums: Float64[ndarray, "R N"]) -> Float64[ndarray, "R"]:
    found, used = _cells(sums)
    number = used.sum(1)
    total = np.where(used, found, 0.0).sum(1)
    return np.divide(total, number, out=np.full(len(sums), np.nan), where=number > 0)


def _used(sums: Float64[ndarray, "R N"]) -> Float64[ndarray, "R"]:
    return _cells(sums)[1].sum(1).astype(np.float64)
