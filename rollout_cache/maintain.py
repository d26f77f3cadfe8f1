"""What is in a cache, whether it is whole, and making it smaller: for a command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lmdb

from rollout_cache import rows
from wmplan.errors import InputError


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds: rows, their bytes, bytes on disk, and how many rows were found damaged (None: not looked)."""

    path: Path
    entries: int
    row_bytes: int
    disk_bytes: int
    damaged: int | None = None


def info(path: str | Path) -> CacheInfo:
    """Counts and sizes; nothing is read through.

    Raises:
        InputError: no cache there.
    """
    with _open(path, write=False) as env:
        stat = env.stat()
        pages = stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
        return CacheInfo(Path(path), stat["entries"], pages, _disk_bytes(path))


def verify(path: str | Path, drop: bool = False) -> CacheInfo:
    """The same with every row's checksum looked at; `drop` removes the damaged ones.

    Raises:
        InputError: no cache there.
    """
    with _open(path, write=drop) as env, env.begin(write=drop) as transaction:
        entries, size, bad = 0, 0, []
        for key, value in transaction.cursor():
            entries, size = entries + 1, size + len(value)
            if rows.unpack(key, value) is None:
                bad.append(key)
        for key in bad if drop else []:
            transaction.delete(key)
    return CacheInfo(Path(path), entries, size, _disk_bytes(path), len(bad))


def prune(path: str | Path, max_bytes: int) -> CacheInfo:
    """Removes rows until the rest takes at most `max_bytes` of rows, and gives what is left.

    Rows have no age (keys are hashes), so which go is arbitrary; what is missing is computed again. The file itself
    keeps its size: LMDB uses the freed pages for the next rows.

    Raises:
        InputError: no cache there.
    """
    with _open(path, write=True) as env, env.begin(write=True) as transaction:
        kept = 0
        over = []
        for key, value in transaction.cursor():
            size = len(key) + len(value)
            if kept + size > max_bytes:
                over.append(key)
            else:
                kept += size
        for key in over:
            transaction.delete(key)
    return info(path)


def _open(path: str | Path, write: bool) -> lmdb.Environment:
    if not (Path(path) / "data.mdb").is_file():
        raise InputError(f"{path}: no data.mdb, expected the folder of a rollout cache")
    try:
        size = max(_disk_bytes(path), 1 << 20)
        return lmdb.open(str(path), map_size=2 * size if write else size, readonly=not write, create=write)
    except lmdb.Error as error:
        raise InputError(f"{path}: {error}, expected the folder of a rollout cache") from error


def _disk_bytes(path: str | Path) -> int:
    return (Path(path) / "data.mdb").stat().st_size
