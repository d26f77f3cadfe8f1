"""`wmplan bench logs`: a study of given logs, twice: time, memory, what the cache saves, equal bytes."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from experiments.bench.rows import GIB, Rows
from experiments.bench.study import measured_study
from experiments.files import sha256
from experiments.results import FOLDER


@dataclass(frozen=True)
class LogsBench:
    """What to measure."""

    logs: str
    """What is studied, as words for `wmplan study`, e.g. "logs=womd_json logs.path=/data/womd model=runs/m"."""
    label: str = ""
    """Words that tell these logs from others, put into the names of the figures."""
    keep: str = ""
    """Folder for the runs; empty = a temporary one."""
    results: str = str(FOLDER)
    """Folder of the results."""


def run(config: LogsBench) -> int:
    """Measure and record; the exit status."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(config.keep or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        words = [*shlex.split(config.logs), f"cache={folder / 'cache'}"]
        first = measured_study([*words, f"out={folder / 'first'}"], str(folder))
        second = measured_study([*words, f"out={folder / 'second'}"], str(folder))
        ledgers = [sha256(folder / name / "ranked_actions.parquet") for name in ("first", "second")]
    rows = Rows(2, f"wmplan bench logs logs='{config.logs}'", config.results, config.label)
    share = second.seconds / first.seconds
    rows.write("study of logs, s", first.seconds, "at most 900", first.seconds <= 900.0)
    rows.write("study of logs, peak GiB", first.peak_bytes / GIB)
    rows.write("the same study again, share of the first run's time", share, "at most 0.1", share <= 0.1)
    rows.write("the same study again, s", second.seconds)
    rows.write("ledgers of both runs, sha256", " = ".join(sorted(set(ledgers))), "equal", len(set(ledgers)) == 1)
    return 0
