"""One file a scene and step of the audit, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.files import write_atomically
from wmplan.plans import Plans

POOLS, SCORES, KINDS, TRUTH, CEILING = "pools", "scores", "sealed/kinds", "sealed/truth", "sealed/ceiling"


def shard(run: Path, step: str, scene_id: str) -> Path:
    """Where a scene's file of a step lies."""
    return run / step / f"{quote(scene_id, safe='')}.parquet"


def write_rows(path: Path, frame: pd.DataFrame, notes: Mapping[str, str] = {}) -> Path:
    """The path, after the rows were written, with notes beside them."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({name.encode(): text.encode() for name, text in notes.items()})
    return write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def read_rows(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows and the notes."""
    table = pq.read_table(path)
    notes = {name.decode(): text.decode() for name, text in (table.schema.metadata or {}).items()}
    return table.to_pandas(), notes


def write_plans(path: Path, plans: Plans) -> Path:
    """Controls alone: states follow from them and the scene's speed."""
    columns: dict[str, Any] = {"accel": list(plans.controls[:, :, 0]), "curvature": list(plans.controls[:, :, 1])}
    return write_rows(path, pd.DataFrame(columns))


def read_plans(path: Path, speed: float) -> Plans:
    """What `write_plans` wrote, rolled again from the scene's speed."""
    rows = read_rows(path)[0]
    controls = np.stack([np.stack(rows["accel"].tolist()), np.stack(rows["curvature"].tolist())], axis=-1)
    return Plans.from_controls(controls.astype(np.float64), speed)
