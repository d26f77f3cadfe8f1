"""Where a run keeps what it found out of each scene: one Parquet file a scene and part, whole or not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.files import write_atomically, write_text

ESTIMATES = "estimates"
"""Drives inside world models."""
TRUTH = "truth"
"""Its `sealed` is closed to processes that estimate."""
ROAD, REPLAY, DECISIONS, EGO, WEIGHED = "road", "replay", "decisions", "ego", "weighed"
"""Parts of the truth: drives on the road; drives among the logged others; logged decisions; where the log's ego went;
what weights and fitted values make of the logged decisions, a shard a policy."""
FAILED = "failed"


def folder(out: Path, part: str) -> Path:
    """The folder of a part's shards."""
    return out / ESTIMATES if part == ESTIMATES else out / TRUTH / "sealed" / part


def make_folders(out: Path) -> None:
    """Make them all: what a sealed process makes itself the kernel's guard would close."""
    for part in (ESTIMATES, ROAD, REPLAY, DECISIONS, EGO, WEIGHED):
        (folder(out, part) / FAILED).mkdir(parents=True, exist_ok=True)
    write_text(marker(out), "closed to processes that estimate\n")


def marker(out: Path) -> Path:
    """A file that only processes can read which may know the truth."""
    return out / TRUTH / "sealed" / "sealed.txt"


def write(out: Path, part: str, scene_id: str, rows: pd.DataFrame) -> Path:
    """Path of the shard, after it was written whole."""
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    path = folder(out, part) / f"{scene_id}.parquet"
    return write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def write_failure(out: Path, part: str, scene_id: str, reason: str) -> Path:
    """Path of the note that this scene cannot be done."""
    return write_text(folder(out, part) / FAILED / f"{scene_id}.txt", reason)


def done(out: Path, part: str, scene_ids: Sequence[str]) -> list[str]:
    """Those of the scenes that have a shard or cannot be done."""
    place = folder(out, part)
    there = {path.stem for path in [*place.glob("*.parquet"), *(place / FAILED).glob("*.txt")]}
    return [scene for scene in scene_ids if scene in there]


def failures(out: Path, part: str) -> dict[str, str]:
    """Why scenes could not be done."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder(out, part) / FAILED).glob("*.txt"))}


def read(out: Path, part: str) -> pd.DataFrame:
    """All rows of a part, by scene; without any, an empty table."""
    paths = sorted(folder(out, part).glob("*.parquet"))
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True) if paths else pd.DataFrame()
