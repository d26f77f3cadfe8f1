"""`wmplan bench study`: time and memory of the embedded default."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

from experiments.bench.rows import GIB, Rows
from experiments.measure import Measured, measured
from experiments.progress import say
from experiments.results import FOLDER
from wmplan.errors import InputError


@dataclass(frozen=True)
class StudyBench:
    """What to measure."""

    results: str = str(FOLDER)
    """Folder of the results."""


def run(config: StudyBench) -> int:
    """Measure and record `wmplan study` in an empty folder; the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        cost = measured_study([], folder)
    rows = Rows(2, "wmplan bench study", config.results)
    rows.write("study of the embedded default, s", cost.seconds, "at most 300", cost.seconds <= 300.0)
    rows.write(
        "study of the embedded default, peak GiB", cost.peak_bytes / GIB, "at most 4", cost.peak_bytes <= 4 * GIB
    )
    return 0


def measured_study(words: list[str], folder: str) -> Measured:
    """What `wmplan study <words>` cost.

    Raises:
        InputError: the study ended with an error.
    """
    done = measured(["-m", "experiments.cli", "study", *words], folder)
    if done.status not in (0, 3):
        raise InputError(f"bench: wmplan study {' '.join(words)} ended with status {done.status}")
    say(f"wmplan study {' '.join(words)}: {done.seconds:.0f} s, peak {done.peak_bytes / GIB:.2f} GiB")
    return done
