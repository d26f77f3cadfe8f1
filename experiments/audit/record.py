"""The figures of an audit where they are kept: tables and one JSON in its folder, rows with goals in docs/results."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.audit.figures import Figures
from experiments.audit.joined import Joined
from experiments.audit.prepared import Audit
from experiments.bench.rows import Rows
from experiments.files import write_text
from experiments.ledger import write_frame

CANDIDATES, RANKINGS, FIGURES = "candidates.parquet", "rankings.parquet", "audit.json"
ISSUE = 6


def write(audit: Audit, joined: Joined, found: Figures) -> Path:
    """Path of `audit.json`: the headlines; beside it every candidate and every ranking as tables."""
    write_frame(audit.run / CANDIDATES, joined.rows)
    write_frame(audit.run / RANKINGS, rankings(found))
    content = {
        "digest": audit.digest,
        "model": audit.name,
        "store": str(audit.store),
        "scenes": int(joined.rows["scene_id"].nunique()),
        "groups": int(joined.rows["group"].nunique()),
        "candidates": audit.config.candidates,
        "headlines": [
            _plain({**asdict(one), **asdict(one.value), "value": one.value.value}) for one in found.headlines
        ],
        "skipped": [{"scene_id": scene, "why": why} for scene, why in sorted(joined.skipped.items())],
    }
    return write_text(audit.run / FIGURES, json.dumps(content, indent=1, allow_nan=False) + "\n")


def record(audit: Audit, found: Figures, command: str) -> None:
    """Put the headlines into docs/results/6.json."""
    logs = audit.config.logs
    data = Path(logs.path).name if logs.format == "store" else logs.format
    who = "" if audit.config.drivers == "logged" else f", {audit.config.drivers} drivers"
    rows = Rows(ISSUE, command, label=f"{data}, {audit.config.candidates} candidates{who}")
    for one in found.headlines:
        value = one.value
        interval = (value.low, value.high) if value.valid else None
        rows.write(f"audit: {one.name}", value.value, one.goal, one.met, interval, value.count)


def rankings(found: Figures) -> pd.DataFrame:
    """One row a contender, critic, real score and metric."""
    rows = [
        {"contender": one.contender, "critic": one.critic, "real": one.real, "metric": metric, **asdict(value)}
        for one in found.within.rankings
        for metric, value in one.metrics.items()
    ]
    return pd.DataFrame(rows)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
