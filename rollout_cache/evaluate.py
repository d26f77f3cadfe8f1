"""Terms of candidates, computed only where the cache has none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int
from numpy import ndarray

from rollout_cache.stats import NoCache
from rollout_cache.store import TermsCache

Compute = Callable[[Int[ndarray, "_J"]], Float32[ndarray, "_J _N"]]


def evaluate_cached(
    cache: TermsCache | NoCache, keys: list[bytes], columns: int, compute: Compute
) -> Float32[ndarray, "K N"]:
    """The rows of all keys, in order. `compute(indices)` gives the rows of the candidates that are missing.

    A key that stands twice is computed once. Rows are row-wise by contract, so a row computed among few candidates has
    the bytes it would have among many. What `compute` gives is stored as it is, non-finite numbers included: they are
    as much a result as any other.
    """
    found, values = cache.lookup(keys, columns)
    first: dict[bytes, int] = {}
    for i in np.flatnonzero(~found):
        first.setdefault(keys[i], int(i))
    if first:
        wanted = np.fromiter(first.values(), dtype=np.int64)
        rows = np.asarray(compute(wanted), dtype=np.float32)
        if rows.shape != (len(wanted), columns):
            raise ValueError(f"compute gave {rows.shape}, expected {(len(wanted), columns)}")
        cache.store(list(first), rows)
        place = {key: row for row, key in enumerate(first)}
        for i in np.flatnonzero(~found):
            values[i] = rows[place[keys[i]]]
    return values
