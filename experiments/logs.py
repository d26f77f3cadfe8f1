"""Where a study's scenes come from: a store, or logs that are ingested once and found again."""

from __future__ import annotations

from dataclasses import dataclass

FORMATS = ("simulator", "store", "auto", "womd", "womd_json", "womd_tfrecord", "scenarionet", "commonroad", "nuplan")
"""What `logs=` may be: a reader's name, `auto` (by the files), `womd` (TFRecord or JSON), `store` (ingested before)."""


@dataclass(frozen=True)
class LogsConfig:
    """Where the scenes come from."""

    format: str = "simulator"
    """A reader's name, `auto`, or `store` for a folder that `wmplan ingest` wrote."""
    path: str = ""
    """File or folder of the logs or of the store; the simulator needs none."""
    n: int = 24
    """How many logs the simulator makes."""
    seed: int = 1000
    """Which logs the simulator makes; the shipped model was trained on other seeds."""
    ego: str = "recorded"
    """Which tracks are egos: `recorded` (the recording car) or `any` (every track of at least six seconds)."""
