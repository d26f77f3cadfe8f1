"""Measured figures, one row each, in `docs/results/<issue>.json`: README and docs quote them from there."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path

from experiments.files import write_text

FOLDER = Path("docs/results")
"""Relative to where the command runs: the root of a checkout."""


def record(
    issue: int,
    figure: str,
    value: float | str,
    interval: tuple[float, float] | None,
    n: int | None,
    goal: str,
    met: bool | None,
    command: str,
    folder: Path = FOLDER,
) -> Path:
    """Path of the issue's file after the row of this figure is written or replaced; `met` is None where nothing was
    promised. The other rows stay as they are.
    """
    path = folder / f"{issue}.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    row = {
        "figure": figure,
        "value": value,
        "interval": None if interval is None else list(interval),
        "n": n,
        "goal": goal,
        "met": met,
        "command": command,
        "commit": commit(),
        "hardware": hardware(),
    }
    places = [i for i, old in enumerate(rows) if old["figure"] == figure]
    if places:
        rows[places[0]] = row
    else:
        rows.append(row)
    write_text(path, json.dumps(rows, indent=1, allow_nan=False) + "\n")
    return path


def commit() -> str:
    """The checkout's commit (12 digits, `+` where files differ from it); "unknown" outside a checkout."""
    here = Path(__file__).resolve().parents[1]
    try:
        asked = ["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"]
        name = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        changed = ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no", "--", "*.py"]
        dirty = subprocess.run(changed, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return name + ("+" if dirty else "")


def hardware() -> str:
    """Processor cores that may be used, memory, platform; nothing that names the machine."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    return f"{cores} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, no GPU used"
