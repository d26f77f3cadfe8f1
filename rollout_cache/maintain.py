"""What is in a cache, whether it is whole, and making it smaller: for a command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rollout_cache import rows
from rollout_cache.room import ShardFile, leftovers, remove_oldest, shards
from rollout_cache.shard import Shard, shard_name
from wmplan.errors import InputError


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds. `shards` are files, one for each scene, model and setting; `rows` and `damaged` places are
    None where nothing was read through. Times are seconds since 1970, None in an empty cache."""

    path: Path
    shards: int
    bytes: int
    first_used: float | None
    last_used: float | None
    rows: int | None = None
    damaged: int | None = None


def info(path: str | Path) -> CacheInfo:
    """Counts and sizes; nothing is read through.

    Raises:
        InputError: no cache there.
    """
    files = _shards(path)
    used = [file.used for file in files]
    return CacheInfo(
        Path(path), len(files), sum(file.size for file in files), min(used, default=None), max(used, default=None)
    )


def verify(path: str | Path, drop: bool = False) -> CacheInfo:
    """The same with every row's checksum looked at; `drop` removes what is damaged and what killed processes left.

    Raises:
        InputError: no cache there, or a file that cannot be read or mended.
    """
    found, damaged = 0, 0
    try:
        for file in _shards(path):
            name = shard_name(file.path)
            scanned = rows.scan(name, file.path.read_bytes())
            found, damaged = found + len(scanned.rows), damaged + scanned.damaged
            if drop and scanned.damaged:
                Shard(Path(path), name).mend()
        if drop:
            for rest in leftovers(Path(path)):
                rest.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}, expected the files of a rollout cache") from error
    after = info(path)
    return CacheInfo(
        after.path, after.shards, after.bytes, after.first_used, after.last_used, rows=found, damaged=damaged
    )


def prune(path: str | Path, max_bytes: int) -> CacheInfo:
    """What is left after the shards used longest ago were removed, until the rest takes at most `max_bytes`.

    Raises:
        InputError: no cache there.
    """
    remove_oldest(_shards(path), max_bytes)
    return info(path)


def _shards(path: str | Path) -> list[ShardFile]:
    try:
        return shards(Path(path))
    except OSError as error:
        raise InputError(f"{path}: {error}, expected the folder of a rollout cache") from error
