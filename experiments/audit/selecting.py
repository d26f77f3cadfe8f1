"""What choosing does: the winner's curse with and without the support's gate, the stop bias, the rule of the verdicts.

The choice falls on the lowest cost. Ungated, that is the cost without the support's part, and everything may be chosen;
gated, it is the whole cost, and what is refused is never chosen. Both look as good as their imagined PDMS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from experiments.audit.joined import Joined, scenes_of
from experiments.audit.pooling import LOGGED
from wmplan.randomness import fold_in
from wmplan.statistics import Interval, bootstrap_mean
from wmplan.statistics.selection import SelectionCurve, selection_curve

STANDS_MPS = 0.5
"""A candidate that ends slower than this stands still."""
MOVES_MPS = 2.0
"""The log moves where its ego ends faster than this."""


@dataclass(frozen=True)
class Selecting:
    """`ungated` and `gated` curses over pool sizes; `shared`: the gated curse over the ungated at the largest size,
    absent where there is no curse. `stop`: share of scenes in which the log moves and a standing candidate is chosen.
    `reordered`: pairs inside the support whose order the penalty changes, of `inside` pairs. `gain`: what the gated
    choice is truly worth above the ungated one."""

    ungated: SelectionCurve
    gated: SelectionCurve
    stop: Interval
    stop_ungated: Interval
    reordered: int
    inside: int
    gain: Interval


def selecting(joined: Joined, seed: int, resamples: int) -> Selecting:
    """What choosing by the model's cost does."""
    draw = fold_in(seed, "bootstrap")
    rows = joined.rows
    groups = list(joined.groups)
    size = int(rows.groupby("scene_id", sort=True).size().min())
    bare = -without_support(rows)
    whole = -rows["cost"].to_numpy(dtype=np.float64)
    may = np.isfinite(whole) & (rows["verdict"] != "refused").to_numpy()
    looks, real = rows["pdms"].to_numpy(dtype=np.float64), rows["real_pdms"].to_numpy(dtype=np.float64)
    usable = np.isfinite(bare) & np.isfinite(looks)

    def curve(by: ndarray, gate: ndarray) -> SelectionCurve:
        table = lambda values: np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).reshape(len(groups), size)  # noqa: E731
        return selection_curve(
            estimate=table(by), looks=table(looks), real=table(real), gate=gate.reshape(len(groups), size),
            sizes=sizes_of(size), scenes=groups, seed=draw, resamples=resamples,
        )  # fmt: skip

    chosen, free = choices(rows, whole, may), choices(rows, bare, usable)
    reordered, inside = reordered_inside(rows)
    gain = [r - f for r, f in zip(_worth(real, chosen), _worth(real, free))]
    return Selecting(
        curve(bare, usable),
        curve(whole, may),
        bootstrap_mean(_stops(rows, chosen), draw, groups=groups, resamples=resamples),
        bootstrap_mean(_stops(rows, free), draw, groups=groups, resamples=resamples),
        reordered,
        inside,
        bootstrap_mean(np.array(gain), draw, groups=groups, resamples=resamples),
    )


def sizes_of(size: int) -> tuple[int, ...]:
    """1, 4, 16, ... and the pool itself."""
    powers = [4**i for i in range(10) if 4**i < size]
    return (*powers, size)


def without_support(rows: pd.DataFrame) -> Float[ndarray, "N"]:
    """The cost without the support's part; +inf where it is not finite."""
    total = sum(rows[name].to_numpy(dtype=np.float64) for name in ("cost_task", "cost_reward", "cost_probe"))
    return np.where(np.isfinite(total), total, np.inf)


def choices(rows: pd.DataFrame, estimate: Float[ndarray, "N"], may: Bool[ndarray, "N"]) -> list[int]:
    """The chosen row of each scene, the first of those that tie; -1 where nothing may be chosen."""
    place = np.where(may, estimate, -np.inf)
    found = []
    for members in scenes_of(rows):
        best = members[np.argmax(place[members])]
        found.append(int(best) if may[best] else -1)
    return found


def reordered_inside(rows: pd.DataFrame, downweight_p: float = 0.05) -> tuple[int, int]:
    """Pairs of candidates of one scene inside the support that the penalty puts into another order, and all pairs."""
    if "support_p" not in rows:
        return 0, 0
    reordered = total = 0
    inside = (rows["support_p"] >= downweight_p).to_numpy() & np.isfinite(rows["cost"].to_numpy())
    before, after = without_support(rows), rows["cost"].to_numpy(dtype=np.float64)
    for members in scenes_of(rows):
        kept = members[inside[members]]
        i, j = np.triu_indices(len(kept), 1)
        reordered += int((np.sign(before[kept][i] - before[kept][j]) != np.sign(after[kept][i] - after[kept][j])).sum())
        total += len(i)
    return reordered, total


def _stops(rows: pd.DataFrame, chosen: list[int]) -> Float[ndarray, "S"]:
    """1 where a standing candidate is chosen, NaN where the log stands, is not known, or nothing is chosen."""
    found = []
    ends, kinds = rows["end_speed_mps"].to_numpy(), rows["kind"].to_numpy()
    for row, members in zip(chosen, scenes_of(rows)):
        logged = members[kinds[members] == LOGGED]
        moves = len(logged) and ends[logged[0]] > MOVES_MPS
        found.append(float(ends[row] < STANDS_MPS) if moves and row >= 0 else np.nan)
    return np.array(found)


def _worth(real: Float[ndarray, "N"], chosen: list[int]) -> list[float]:
    return [float(real[row]) if row >= 0 else np.nan for row in chosen]
