"""`TermsCache`: rows of float32 by key in plain files, shared by any number of processes."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import OrderedDict
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from rollout_cache.keys import SHARD_BYTES
from rollout_cache.room import make_room, shards
from rollout_cache.shard import Shard
from rollout_cache.stats import CacheStats
from wmplan.errors import InputError

log = logging.getLogger(__name__)

OPEN_SHARDS = 8
"""Shards whose rows a process keeps in memory: those of the scene at hand."""
CHECKS = 256
"""The size of the store is looked at whenever this process has written so many parts of the budget."""


class TermsCache:
    """Rows of terms on disk. Reading never raises for what is on disk: what is damaged is dropped, counted and missing.

    Each process opens it itself; any number may read and write. When the budget is nearly spent, the shards (scenes)
    that were used longest ago are removed. `trouble` says why nothing is stored any more, empty while all is well.
    """

    enabled = True

    def __init__(self, path: str | Path, max_bytes: int = 8 << 30) -> None:
        """Opens or creates the folder `path`; the store is kept within `max_bytes`.

        Raises:
            InputError: the folder cannot be used, or holds something else.
        """
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.stats = CacheStats()
        self.trouble = ""
        self._unchecked = max_bytes  # what others wrote is not known: look at the first opportunity
        self._shards: OrderedDict[bytes, Shard] = OrderedDict()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            shards(self.path, most=1)
        except OSError as error:
            raise InputError(f"{self.path}: {error}, expected a folder with a rollout cache or none at all") from error

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The float32 bytes of each key's row, little-endian; None where there is none or it is damaged."""
        return [None if row is None else row.astype("<f4").tobytes() for row in self._read(keys, None)]

    def lookup(self, keys: list[bytes], columns: int) -> tuple[Bool[ndarray, "K"], Float32[ndarray, "K N"]]:
        """Which rows are there, and the rows; NaN where not. A row of another width counts as damaged."""
        values = np.full((len(keys), columns), np.nan, dtype=np.float32)
        found = np.zeros(len(keys), dtype=bool)
        for i, row in enumerate(self._read(keys, columns)):
            if row is not None:
                values[i], found[i] = row, True
        return found, values

    def store(self, keys: list[bytes], rows: Float32[ndarray, "K N"]) -> int:
        """Stores each row under its key and gives how many were; an older row is replaced.

        What this has stored a kill of the process cannot take away. A full disk is said once, and the study goes on
        without storing.
        """
        if len(keys) != len(rows):
            raise ValueError(f"store: {len(rows)} rows, expected {len(keys)} (one a key)")
        by_shard: dict[bytes, list[tuple[bytes, Float32[ndarray, "_N"]]]] = {}
        for key, row in zip(keys, rows, strict=True):
            own = np.array(row, dtype=np.float32)  # kept in memory: the caller may write to its own
            by_shard.setdefault(key[:SHARD_BYTES], []).append((key[SHARD_BYTES:], own))
        done = 0
        for name, items in by_shard.items():
            if self.trouble:
                break
            try:
                self._make_room(sum(row.nbytes for _, row in items))
                self._shard(name).append(items)
            except OSError as error:
                self._give_up(error)
                break
            done += len(items)
        self.stats.stored += done
        self.stats.unstored += len(keys) - done
        return done

    def close(self) -> None:
        """Forgets what is in memory. Nothing is left to write."""
        self._shards.clear()

    def __enter__(self) -> TermsCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, keys: list[bytes], columns: int | None) -> list[Float32[ndarray, "_N"] | None]:
        held = {name: self._refreshed(name) for name in dict.fromkeys(key[:SHARD_BYTES] for key in keys)}
        found: list[Float32[ndarray, "_N"] | None] = []
        for key in keys:
            row = held[key[:SHARD_BYTES]].rows.get(key[SHARD_BYTES:])
            if row is not None and columns is not None and len(row) != columns:
                self.stats.damaged += 1
                row = None
            found.append(row)
        hits = sum(row is not None for row in found)
        self.stats.hits += hits
        self.stats.misses += len(keys) - hits
        return found

    def _refreshed(self, name: bytes) -> Shard:
        """The shard with what is in its file by now; the file is marked as used."""
        known = name in self._shards
        shard = self._shard(name)
        try:
            damaged = shard.read()
            if not known and shard.rows:
                with contextlib.suppress(OSError):  # another's file: its age is then what it was
                    os.utime(shard.path)
        except OSError as error:
            self._give_up(error)
            return shard
        if damaged:
            self.stats.damaged += damaged
            log.warning("%s: %d damaged places dropped, they are computed again", shard.path, damaged)
        return shard

    def _shard(self, name: bytes) -> Shard:
        if name not in self._shards:
            self._shards[name] = Shard(self.path, name)
            while len(self._shards) > OPEN_SHARDS:
                self._shards.popitem(last=False)
        self._shards.move_to_end(name)
        return self._shards[name]

    def _make_room(self, more: int) -> None:
        self._unchecked += more
        if self._unchecked > self.max_bytes // CHECKS:
            self._unchecked = 0
            make_room(self.path, self.max_bytes)

    def _give_up(self, error: Exception) -> None:
        """Says once that nothing is stored from now on, and why."""
        if not self.trouble:
            self.trouble = f"{self.path}: {error}; the study goes on without storing more"
            log.warning(self.trouble)
