"""Distances between two distributions from paired samples, unbiased: kernel sums, with pairs of one group left out.

True and imagined samples come from the same scenes, so a pair of one scene is not a pair of independent draws. Here
every expectation runs over pairs of different groups only: the true future read as a forecast has distance 0 exactly,
and duplicates in a resample never meet themselves.

With a kernel k the statistic E k(X, X') + E k(Y, Y') - 2 E k(X, Y) is the squared maximum mean discrepancy; with
-|x - y| in its place it is the energy distance.

References:
    Gretton et al. (2012), A kernel two-sample test, equation 4 (the U-statistic over pairs (x_i, y_i)).
    Szekely and Rizzo (2013), Energy statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray

from wmplan.statistics import Interval, Measure
from wmplan.validation.layers import NOTHING, Gate, OfScene, figure, groups_of, resampled

Kernel = Callable[[Float64[ndarray, "N D"], Float64[ndarray, "M D"]], Float64[ndarray, "N M"]]


@dataclass(frozen=True)
class Blocks:
    """Kernel sums and numbers of pairs between scenes: true with true, imagined with imagined, true with imagined;
    none between scenes of one group."""

    sums: Float64[ndarray, "3 S S"]
    pairs: Float64[ndarray, "3 S S"]

    def statistic(self, counts: Float64[ndarray, "R S"]) -> Float64[ndarray, "R"]:
        """The distance when each scene is drawn so many times; NaN where a side has no pair of groups."""
        means = []
        for sums, pairs in zip(self.sums, self.pairs):
            top = np.einsum("rs,rs->r", counts @ sums, counts)
            bottom = np.einsum("rs,rs->r", counts @ pairs, counts)
            means.append(np.divide(top, bottom, out=np.full(len(counts), np.nan), where=bottom > 0.0))
        return means[0] + means[1] - 2.0 * means[2]


def blocks(
    true: Sequence[Float[ndarray, "_N D"]],
    imagined: Sequence[Float[ndarray, "_M D"]],
    groups: Sequence[str],
    kernel: Kernel,
) -> Blocks:
    """Sums between all scenes, given what was found in each of them."""
    scenes = len(groups)
    sides = [
        (np.concatenate(parts).astype(np.float64), np.repeat(np.arange(scenes), [len(part) for part in parts]))
        for parts in (true, imagined)
    ]
    member = np.unique(np.asarray(groups), return_inverse=True)[1]
    apart = (member[:, None] != member[None]).astype(np.float64)
    sums, pairs = np.zeros((3, scenes, scenes)), np.zeros((3, scenes, scenes))
    for n, (a, b) in enumerate(((0, 0), (1, 1), (0, 1))):
        (x, of_x), (y, of_y) = sides[a], sides[b]
        gathered = np.zeros((scenes, len(y)))
        np.add.at(gathered, of_x, kernel(x, y))
        np.add.at(sums[n].T, of_y, gathered.T)
        sums[n] *= apart
        pairs[n] = apart * np.outer(*(np.bincount(of, minlength=scenes) for of in (of_x, of_y)))
    return Blocks(sums, pairs)


def distance_of(
    metric: str, found: Blocks, rows: Sequence[OfScene], seed: int, gate: Gate | None = None, value: float | None = None
) -> Measure:
    """The distance with its interval from drawing groups again; `value` in place of that over all scenes."""
    names = groups_of(rows)
    if not names:
        return figure(metric, Interval(math.nan, math.nan, math.nan, 0, NOTHING), 0, gate)
    member = np.unique(np.asarray(names), return_inverse=True)[1]
    interval = resampled(lambda counts: found.statistic(counts[:, member]), int(member.max()) + 1, seed)
    if value is not None:
        interval = replace(interval, value=value)
    return figure(metric, interval, len(rows), gate)


def cubic(x: Float64[ndarray, "N D"], y: Float64[ndarray, "M D"]) -> Float64[ndarray, "N M"]:
    """(x.y / d + 1)^3, the kernel of KID."""
    kernel: Float64[ndarray, "N M"] = (x @ y.T / x.shape[1] + 1.0) ** 3
    return kernel


def negative_distance(x: Float64[ndarray, "N D"], y: Float64[ndarray, "M D"]) -> Float64[ndarray, "N M"]:
    """-|x - y|, the kernel of the energy distance."""
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2.0 * x @ y.T
    return -np.sqrt(np.maximum(squares, 0.0))
