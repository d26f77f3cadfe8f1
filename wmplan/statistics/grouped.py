"""Bootstrap of any statistic where whole groups of rows are drawn: all windows of a recording, all plans of a scene."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from wmplan.statistics.bootstrap import LEVEL, RESAMPLES, Interval, percentiles


def bootstrap_groups(
    statistic: Callable[[Int[ndarray, "R"]], float],
    groups: Sequence[str],
    seed: int,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """The statistic of all rows, called again with the rows of each resample of groups; NaN results are left out.

    `groups` names the group of each row; `count` is the number of groups. Row numbers come in ascending order of
    groups' names, so that a statistic must not depend on the order of its rows.
    """
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    count = len(names)
    if not count:
        return Interval(math.nan, math.nan, math.nan, 0, "no rows: no interval")
    value = float(statistic(np.arange(len(members))))
    if count < 2:
        return Interval(value, math.nan, math.nan, count, "one group: no interval")
    order = np.argsort(members, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(members))[:-1])
    alone = len(order) == count
    rng = np.random.default_rng(seed)
    draws = np.empty(resamples)
    for i in range(resamples):
        picks = rng.integers(0, count, count)
        draws[i] = statistic(order[picks] if alone else np.concatenate([rows[pick] for pick in picks]))
    return percentiles(value, draws[~np.isnan(draws)], resamples, level, count)
