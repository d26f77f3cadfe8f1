"""What happened to a cache, and the cache that holds nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray


@dataclass
class CacheStats:
    """What happened since the cache was opened by this process. `damaged` counts stretches of files that were no whole
    rows (cut short by a kill, or changed since), `unstored` rows that found no room on the disk."""

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    stored: int = 0
    unstored: int = 0


class NoCache:
    """A cache that holds nothing: every look-up misses. It is what a study without a cache uses, by choice."""

    enabled = False
    trouble = ""

    def __init__(self) -> None:
        self.stats = CacheStats()

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Nothing for every key."""
        self.stats.misses += len(keys)
        return [None] * len(keys)

    def lookup(self, keys: list[bytes], columns: int) -> tuple[Bool[ndarray, "K"], Float32[ndarray, "K N"]]:
        """No row is found."""
        self.stats.misses += len(keys)
        return np.zeros(len(keys), dtype=bool), np.full((len(keys), columns), np.nan, dtype=np.float32)

    def store(self, keys: list[bytes], rows: Float32[ndarray, "K N"]) -> int:
        """Nothing is stored."""
        return 0

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> NoCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
