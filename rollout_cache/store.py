"""`TermsCache`: rows of float32 by key in LMDB, shared by any number of processes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import lmdb
import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from rollout_cache import rows as packing
from wmplan.errors import InputError

log = logging.getLogger(__name__)

FIRST_MAP_BYTES = 64 << 20
"""The map grows from here by doubling, up to the budget."""
BATCH_ROWS = 4096
"""Rows of one write transaction: a killed process loses at most these, and never half a row."""


@dataclass
class CacheStats:
    """What happened since the cache was opened by this process. `unstored` rows found no room or no disk."""

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    stored: int = 0
    unstored: int = 0


class NoCache:
    """A cache that holds nothing: every look-up misses. It is what a study without a cache uses, by choice."""

    enabled = False

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


class TermsCache:
    """Rows of terms on disk. Reading never raises for what is on disk: what is damaged is dropped, counted and missing.

    One writer at a time (LMDB's lock), any number of readers; open it once in each process, never across a fork.
    """

    enabled = True

    def __init__(self, path: str | Path, max_bytes: int = 8 << 30) -> None:
        """Opens or creates the folder `path`; the store never grows beyond `max_bytes`.

        Raises:
            InputError: the folder cannot be used, or holds something else.
        """
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.stats = CacheStats()
        self._full = False
        data = self.path / "data.mdb"
        size = min(max(FIRST_MAP_BYTES, data.stat().st_size if data.is_file() else 0), max_bytes)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(self.path), map_size=size, max_readers=512, sync=True, metasync=False)
        except (OSError, lmdb.Error) as error:
            raise InputError(f"{self.path}: {error}, expected a folder with a rollout cache or none at all") from error

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The float32 bytes of each key's row, little-endian; None where there is none or it is damaged."""
        found = self._read(keys)
        return [None if row is None else row.astype("<f4").tobytes() for row in found]

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

        A full disk or a spent budget is said once, and the study goes on without storing.
        """
        if len(keys) != len(rows):
            raise ValueError(f"store: {len(rows)} rows, expected {len(keys)} (one a key)")
        done = 0
        items = [(key, packing.pack(key, row)) for key, row in zip(keys, rows, strict=True)]
        for first in range(0, len(items), BATCH_ROWS):
            batch = items[first : first + BATCH_ROWS]
            if self._full or not self._write(batch):
                break
            done += len(batch)
        self.stats.stored += done
        self.stats.unstored += len(items) - done
        return done

    def close(self) -> None:
        """Writes what is left and closes; the cache cannot be used after."""
        self._env.close()

    def __enter__(self) -> TermsCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, keys: list[bytes], columns: int | None = None) -> list[Float32[ndarray, "_N"] | None]:
        found: list[Float32[ndarray, "_N"] | None] = []
        try:
            with self._begin() as transaction:
                values = [transaction.get(key) for key in keys]
        except lmdb.Error as error:
            self._give_up(error)
            values = [None] * len(keys)
        damaged = []
        for key, value in zip(keys, values, strict=True):
            row = None if value is None else packing.unpack(key, bytes(value))
            if row is not None and columns is not None and len(row) != columns:
                row = None
            if value is not None and row is None:
                damaged.append(key)
            found.append(row)
        hits = sum(row is not None for row in found)
        self.stats.hits += hits
        self.stats.misses += len(keys) - hits
        if damaged:
            self.stats.damaged += len(damaged)
            log.warning("%s: %d damaged rows dropped, they are computed again", self.path, len(damaged))
            self._drop(damaged)
        return found

    def _begin(self, write: bool = False) -> lmdb.Transaction:
        """A transaction; another process may have grown the map since, which LMDB says instead of beginning."""
        try:
            return self._env.begin(write=write)
        except lmdb.MapResizedError:
            self._env.set_mapsize(0)
            return self._env.begin(write=write)

    def _write(self, batch: list[tuple[bytes, bytes]]) -> bool:
        while True:
            try:
                with self._begin(write=True) as transaction:
                    for key, value in batch:
                        transaction.put(key, value)
                return True
            except lmdb.MapFullError as error:
                if not self._grow():
                    self._give_up(error)
                    return False
            except lmdb.Error as error:
                self._give_up(error)
                return False

    def _grow(self) -> bool:
        size = self._env.info()["map_size"]
        if size >= self.max_bytes:
            return False
        self._env.set_mapsize(min(2 * size, self.max_bytes))
        return True

    def _drop(self, keys: list[bytes]) -> None:
        try:
            with self._begin(write=True) as transaction:
                for key in keys:
                    transaction.delete(key)
        except lmdb.Error as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Says once that nothing is stored from now on, and why."""
        if not self._full:
            log.warning(
                "%s: %s; the study goes on without storing more (budget %d bytes)", self.path, error, self.max_bytes
            )
        self._full = True


def open_cache(path: str | Path | None, max_bytes: int = 8 << 30) -> TermsCache | NoCache:
    """The cache in this folder, or one that holds nothing where `path` is None."""
    return NoCache() if path is None else TermsCache(path, max_bytes)
