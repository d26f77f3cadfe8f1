"""`wmplan cache info|verify|prune`: what the rollout cache holds, whether it is whole, and making it smaller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wmplan.errors import InputError

if TYPE_CHECKING:
    from rollout_cache import CacheInfo


@dataclass(frozen=True)
class CacheInfoConfig:
    """Which cache to describe."""

    cache: str = "runs/cache"
    """Folder of the cache, as `wmplan study cache=...` names it."""


@dataclass(frozen=True)
class CacheVerifyConfig:
    """Which cache to read through."""

    cache: str = "runs/cache"
    """Folder of the cache, as `wmplan study cache=...` names it."""
    drop: bool = False
    """Remove what is damaged; a study would do so when it comes across it."""


@dataclass(frozen=True)
class CachePruneConfig:
    """Which cache to make smaller."""

    gib: float
    """Size to keep, GiB; scenes used longest ago are removed first. 0 removes everything."""
    cache: str = "runs/cache"
    """Folder of the cache, as `wmplan study cache=...` names it."""


def run_info(config: CacheInfoConfig) -> int:
    """Print counts and sizes."""
    from rollout_cache import info

    _show(info(_terms(config.cache)))
    return 0


def run_verify(config: CacheVerifyConfig) -> int:
    """Look at every checksum and print what was found; exit status 3 where damage was found and left."""
    from rollout_cache import verify

    found = verify(_terms(config.cache), config.drop)
    _show(found)
    return 3 if found.damaged and not config.drop else 0


def run_prune(config: CachePruneConfig) -> int:
    """Remove what was used longest ago and print what is left."""
    from rollout_cache import prune

    if not config.gib >= 0.0:
        raise InputError(f"cache prune: gib is {config.gib}, expected 0 or more")
    _show(prune(_terms(config.cache), round(config.gib * 2**30)))
    return 0


def _terms(cache: str) -> Path:
    """Where in a study's cache the terms lie."""
    return Path(cache) / "terms"


def _show(found: CacheInfo) -> None:
    import datetime

    days = [
        "–" if time is None else f"{datetime.datetime.fromtimestamp(time):%Y-%m-%d %H:%M}"
        for time in (found.first_used, found.last_used)
    ]
    print(f"{found.path}: {found.shards} scenes (of one model and setting each), {found.bytes / 2**20:.1f} MiB")
    print(f"  longest unused {days[0]}, last used {days[1]}")
    if found.rows is not None:
        print(f"  {found.rows} rows whole, {found.damaged} places damaged")
