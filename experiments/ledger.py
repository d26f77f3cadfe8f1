"""The study's tables: one shard a scene while it runs, merged into the ledger, one line a decision and the timings.

A shard is written whole or not at all and carries the digest of the study that made it: a killed study goes on from its
shards. The merged ledger holds nothing that depends on time, on the number of workers or on what was cached, so two
runs of one study give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from critics.weights import COST_PARTS
from experiments.files import write_atomically

LEDGER = "ranked_actions.parquet"
PER_SCENE = "per_scene.parquet"
TIMINGS = "timings.parquet"
SHARDS = "scenes"
FINALISTS = -1
"""`round` of the rows that are re-scored after the last round."""


@dataclass(frozen=True)
class Decision:
    """What one planner did with one scene: the line of `per_scene.parquet`."""

    scene_id: str
    planner: str
    status: Literal["planned", "no_plan", "failed"]
    message: str = ""
    candidates: int = 0
    infeasible: int = 0
    nonfinite: int = 0
    raced_out: int = 0
    """Candidates that left a race before its end: scored with fewer samples, compared with nothing, never chosen."""
    refused: int = 0
    downweighted: int = 0
    trusted: int = 0
    chosen_row: int = -1
    chosen_label: str = ""
    chosen_cost: float = float("nan")
    chosen_verdict: str = ""
    chosen_support_p: float = float("nan")


@dataclass(frozen=True)
class Timing:
    """What a decision cost; differs between runs, so it stays out of the ledger."""

    scene_id: str
    planner: str
    seconds: float
    imagined: int
    """Candidates whose futures were imagined."""
    cached: int
    """Candidates whose terms were found in the rollout cache."""
    steps_asked: int
    """Rollout steps (candidate x sample x 0.5 s) that scoring every candidate at all samples takes."""
    steps_imagined: int
    """Rollout steps that were computed: shared prefixes once, nothing that was cached, nothing after a lost race."""


@dataclass(frozen=True)
class SceneResult:
    """Everything a study keeps of one scene."""

    scene_id: str
    rows: pd.DataFrame
    decisions: tuple[Decision, ...]
    timings: tuple[Timing, ...]


def schema(term_columns: Sequence[str]) -> pa.Schema:
    """Columns of the ledger, in order, for critics with these term columns."""
    controls = pa.list_(pa.float32())
    head: list[tuple[str, pa.DataType]] = [
        ("scene_id", pa.string()),
        ("dataset", pa.string()),
        ("group", pa.string()),
        ("planner", pa.string()),
        ("round", pa.int32()),
        ("row", pa.int32()),
        ("label", pa.string()),
        ("samples", pa.int32()),
        ("infeasible", pa.int32()),
        ("accel", controls),
        ("curvature", controls),
    ]
    terms = [(name, pa.float32()) for name in term_columns]
    tail: list[tuple[str, pa.DataType]] = [
        ("verdict", pa.string()),
        ("reasons", pa.string()),
        *((name, pa.float32()) for name in COST_PARTS),
        ("cost", pa.float64()),
        ("nonfinite", pa.int32()),
        ("eligible", pa.bool_()),
        ("rank", pa.int32()),
        ("chosen", pa.bool_()),
    ]
    return pa.schema(head + terms + tail)


def shard_path(run: Path, scene_id: str) -> Path:
    """Where a scene's shard lies; readable where the id allows, never longer than a file name may be."""
    name = quote(scene_id, safe="")
    if len(name) > 150:
        name = f"{name[:100]}-{hashlib.blake2b(scene_id.encode(), digest_size=12).hexdigest()}"
    return run / SHARDS / f"{name}.parquet"


def write_shard(run: Path, digest: str, columns: Sequence[str], result: SceneResult) -> Path:
    """The shard's path, after it was written whole."""
    about = {
        "digest": digest,
        "scene_id": result.scene_id,
        "decisions": [asdict(decision) for decision in result.decisions],
        "timings": [asdict(timing) for timing in result.timings],
    }
    table = _table(result.rows, schema(columns)).replace_schema_metadata({b"wmplan": json.dumps(about).encode()})
    return write_atomically(
        shard_path(run, result.scene_id),
        lambda path: pq.write_table(table, path, compression="zstd", write_page_checksum=True),
    )


def read_shard(path: Path, digest: str) -> tuple[SceneResult, pa.Table] | None:
    """The shard's decisions and timings, and its rows as an Arrow table; None if it is damaged or of another study."""
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        about = json.loads((table.schema.metadata or {})[b"wmplan"])
        if about["digest"] != digest:
            return None
        decisions = tuple(Decision(**item) for item in about["decisions"])
        timings = tuple(Timing(**item) for item in about["timings"])
        return SceneResult(about["scene_id"], pd.DataFrame(), decisions, timings), table
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def finished(run: Path, digest: str, scene_ids: Iterable[str]) -> tuple[str, ...]:
    """Those of the scenes whose shard is there, whole, and of this study."""
    return tuple(scene for scene in scene_ids if read_shard(shard_path(run, scene), digest) is not None)


def merge(
    run: Path,
    digest: str,
    columns: Sequence[str],
    scene_ids: Sequence[str],
    planners: Sequence[str],
    lost: dict[str, str],
) -> pd.DataFrame:
    """Decisions of all scenes and planners, sorted by both, after ledger, decisions and timings were written.

    A scene without a shard (its worker died; `lost` says how) counts as failed for every planner. Streams: one scene is
    in memory at a time.
    """
    decisions: list[Decision] = []
    timings: list[Timing] = []

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, schema(columns), compression="zstd") as writer:
            for scene in sorted(scene_ids):
                shard = read_shard(shard_path(run, scene), digest)
                if shard is None:
                    message = lost.get(scene, "its shard is missing")
                    decisions.extend(Decision(scene, planner, "failed", message) for planner in sorted(planners))
                    continue
                result, table = shard
                decisions.extend(sorted(result.decisions, key=lambda item: item.planner))
                timings.extend(sorted(result.timings, key=lambda item: item.planner))
                if len(table):
                    writer.write_table(table.replace_schema_metadata(None))

    write_atomically(run / LEDGER, write)
    frame = frame_of(Decision, decisions)
    write_frame(run / PER_SCENE, frame)
    write_frame(run / TIMINGS, frame_of(Timing, timings))
    return frame


def frame_of(kind: type, items: Sequence[object]) -> pd.DataFrame:
    """A table with one column a field of the dataclass, also when there are no items."""
    return pd.DataFrame([asdict(item) for item in items], columns=list(kind.__dataclass_fields__))  # type: ignore


def write_frame(path: Path, frame: pd.DataFrame) -> Path:
    """The path, after the table was written whole, without anything that differs between equal tables."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    return write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def _table(rows: pd.DataFrame, wanted: pa.Schema) -> pa.Table:
    if rows.empty:
        return wanted.empty_table()
    ordered = rows.sort_values(["planner", "row"], kind="stable")
    arrays = [pa.array(ordered[field.name].tolist(), type=field.type) for field in wanted]
    return pa.Table.from_arrays(arrays, schema=wanted)
