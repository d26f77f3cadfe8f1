"""`wmplan bench ingest`: time and memory of an ingest of simulated logs and of one ten times larger."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from dataclasses import dataclass

from experiments.bench.rows import Rows
from experiments.measure import measured
from experiments.results import FOLDER
from wmplan.errors import InputError

SMALL_LOGS = 64


@dataclass(frozen=True)
class IngestBench:
    """What to measure."""

    results: str = str(FOLDER)
    """Folder of the results."""


def run(config: IngestBench) -> int:
    """Measure, compilation apart, and record; the exit status."""
    costs = []
    for logs in (SMALL_LOGS, 10 * SMALL_LOGS):
        done = measured(["-m", "experiments.bench.ingest", str(logs)])
        if done.status != 0:
            raise InputError(f"bench ingest: the ingest of {logs} logs ended with status {done.status}")
        costs.append(json.loads(done.output.splitlines()[-1]))
    ratio = costs[1]["seconds"] / costs[0]["seconds"]
    growth = costs[1]["peak_bytes"] / costs[0]["peak_bytes"]
    rows = Rows(2, "wmplan bench ingest", config.results)
    sizes = f"ingest of {10 * SMALL_LOGS} logs / of {SMALL_LOGS}"
    rows.write(f"{sizes}, time", ratio, "8 to 12", 8.0 <= ratio <= 12.0)
    rows.write(f"{sizes}, peak memory", growth, "1 (within 10 %)", growth <= 1.1)
    rows.write("ingest, scenes a second", costs[1]["scenes"] / costs[1]["seconds"])
    return 0


def _ingest_alone(logs: int) -> None:
    """In a process of its own: ingest that many simulated logs after a first few that compile; print what it cost."""
    from experiments.ingest import IngestCommand, ingest
    from wmplan.threads import limit_threads

    limit_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ingest(IngestCommand(source="simulator:n=16,seed=7", out=f"{folder}/warm"))
        done = ingest(IngestCommand(source=f"simulator:n={logs},seed=8", out=f"{folder}/store"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": done.seconds, "scenes": done.scenes, "peak_bytes": peak}))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _ingest_alone(int(sys.argv[1]))
