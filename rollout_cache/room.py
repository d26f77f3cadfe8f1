"""Which shards a store has, and keeping them within a budget: what was used longest ago goes first."""

from __future__ import annotations

import errno
import os
import string
from dataclasses import dataclass
from pathlib import Path

from rollout_cache.shard import SUFFIX, TEMPORARY

FULL, EMPTIED = 0.9, 0.8
"""Shares of the budget: shards are removed from the first on, down to the second."""


@dataclass(frozen=True)
class ShardFile:
    """A shard's file: its size in bytes and when a process last wrote or began to read it, seconds since 1970."""

    path: Path
    size: int
    used: float


def shards(folder: Path, most: int | None = None) -> list[ShardFile]:
    """All shards of a store, or the first few, in no order.

    Raises:
        OSError: the folder cannot be read, or holds what no store holds.
    """
    found: list[ShardFile] = []
    with os.scandir(folder) as parts:
        for part in parts:
            if part.name in ("data.mdb", "lock.mdb"):
                continue  # a store of the format before this one: nothing reads it
            hexadecimal = len(part.name) == 2 and all(letter in string.hexdigits for letter in part.name)
            if not (hexadecimal and part.is_dir()):
                raise OSError(errno.EINVAL, f"holds {part.name!r}")
            with os.scandir(part.path) as files:
                for file in files:
                    if file.name.endswith(SUFFIX):
                        try:
                            about = file.stat()
                        except FileNotFoundError:
                            continue  # another process made room
                        found.append(ShardFile(Path(file.path), about.st_size, about.st_mtime))
            if most is not None and len(found) >= most:
                break
    return found


def make_room(folder: Path, max_bytes: int) -> int:
    """How many shards were removed, least recently used first: none unless `FULL` of the budget is spent."""
    files = shards(folder)
    if sum(file.size for file in files) <= FULL * max_bytes:
        return 0
    return remove_oldest(files, int(EMPTIED * max_bytes))


def remove_oldest(files: list[ShardFile], max_bytes: int) -> int:
    """How many of these shards were removed, least recently used first, until the rest takes at most `max_bytes`."""
    total, removed = sum(file.size for file in files), 0
    for file in sorted(files, key=lambda file: (file.used, file.path.name)):
        if total <= max_bytes:
            break
        file.path.unlink(missing_ok=True)
        total -= file.size
        removed += 1
    return removed


def leftovers(folder: Path) -> list[Path]:
    """Temporary files of processes that were killed while they mended a shard."""
    return sorted(folder.glob(f"??/*{TEMPORARY}"))
