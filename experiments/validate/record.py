"""What a model has cleared, kept beside its checkpoint: `validation.json`, one entry for each data it saw."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.files import write_text
from wmplan.errors import InputError

FILE = "validation.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Recorded:
    """What the record says of one layer: cleared on which data, not cleared on which; names of data."""

    cleared: tuple[str, ...]
    missed: tuple[str, ...]

    @property
    def state(self) -> str:
        """In a few words."""
        words = [
            f"{state} on {', '.join(names)}"
            for state, names in (("cleared", self.cleared), ("not cleared", self.missed))
            if names
        ]
        return ", ".join(words)


def record(checkpoint: Path, summary: Mapping[str, Any]) -> Path:
    """Put a summary beside the checkpoint, in place of an earlier one of the same data; those of another model go."""
    path = checkpoint / FILE
    model, data = summary["model"]["digest"], summary["data"]["digest"]
    kept = [one for one in _entries(path) if one["model"]["digest"] == model and one["data"]["digest"] != data]
    return write_text(path, json.dumps([*kept, dict(summary)], indent=1) + "\n")


def recorded(checkpoint: Path, model_digest: str) -> dict[str, Recorded]:
    """What is kept of each layer of this very model; nothing of a layer that was never measured.

    Raises:
        InputError: a record that cannot be read.
    """
    found: dict[str, tuple[list[str], list[str]]] = {}
    for one in _entries(checkpoint / FILE):
        if one["model"]["digest"] != model_digest:
            continue
        for layer, verdict in one["layers"].items():
            if verdict["cleared"] is not None:
                cleared, missed = found.setdefault(layer, ([], []))
                (cleared if verdict["cleared"] else missed).append(str(one["data"]["name"]))
    return {layer: Recorded(tuple(cleared), tuple(missed)) for layer, (cleared, missed) in found.items()}


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        wrong = [one["schema_version"] for one in content if one["schema_version"] != SCHEMA_VERSION]
        for one in content:
            _ = one["model"]["digest"], one["data"]["digest"], one["data"]["name"], one["layers"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: {error!r}, expected what wmplan validate record=true wrote") from error
    if wrong:
        raise InputError(f"{path}: schema_version is {wrong[0]!r}, expected {SCHEMA_VERSION}: validate again")
    return list(content)
