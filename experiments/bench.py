"""`wmplan bench`: the figures that README and docs quote, measured and written to `docs/results/`.

`study`: the embedded default. `logs`: a study of given logs, twice. `ingest`: a store ten times larger. `forecast`: a
model against constant velocity and persistence. Nothing here is asserted; a goal missed is written down as missed.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from experiments.files import sha256
from experiments.measure import Measured, measured
from experiments.progress import say
from experiments.results import FOLDER, record
from wmplan.errors import InputError

GIB = 2**30
SMALL_LOGS = 64


@dataclass(frozen=True)
class BenchConfig:
    """What to measure."""

    what: Literal["all", "study", "logs", "ingest", "forecast"] = "all"
    """`study` (embedded default), `logs` (a study of `logs` twice), `ingest` (a store ten times larger), `forecast`
    (`model` on the validation scenes of `store`); `all` measures those whose inputs are given."""
    logs: str = ""
    """For `logs`: what is studied, as words for `wmplan study`, e.g. logs=womd_json logs.path=/data model=runs/m."""
    model: str = ""
    """For `forecast`: a checkpoint folder."""
    store: str = ""
    """For `forecast`: a store with validation scenes."""
    scenes: int = 400
    """For `forecast`: at most so many validation scenes, a fixed random choice; 0 = all."""
    issue: int = 2
    """Issue whose file of results is written."""
    label: str = ""
    """Words that tell these logs or this model from others, put into the names of the figures."""
    results: str = str(FOLDER)
    """Folder of the results."""
    keep: str = ""
    """Folder for the runs of `logs`; empty = a temporary one."""


def run(config: BenchConfig) -> int:
    """Measure and record; the exit status."""
    wanted = {
        "study": (bench_study, True),
        "ingest": (bench_ingest, True),
        "logs": (bench_logs, bool(config.logs)),
        "forecast": (bench_forecast, bool(config.model and config.store)),
    }
    for name, (measure, ready) in wanted.items():
        if config.what == name and not ready:
            needs = "logs=" if name == "logs" else "model= and store="
            raise InputError(f"bench {name}: {needs} is missing, expected what to measure")
        if config.what == name or (config.what == "all" and ready):
            measure(config)
    return 0


def bench_study(config: BenchConfig) -> None:
    """Time and memory of `wmplan study` on the embedded default in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        cost = _study([], folder)
    write = _writer(config, "wmplan bench study")
    write("study of the embedded default, s", cost.seconds, "at most 300", cost.seconds <= 300.0)
    write("study of the embedded default, peak GiB", cost.peak_bytes / GIB, "at most 4", cost.peak_bytes <= 4 * GIB)


def bench_logs(config: BenchConfig) -> None:
    """Time of a study of given logs, of the same study again with the cache, and whether the ledgers are equal."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(config.keep or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        words = [*_split(config.logs), f"cache={folder / 'cache'}"]
        first = _study([*words, f"out={folder / 'first'}"], str(folder))
        second = _study([*words, f"out={folder / 'second'}"], str(folder))
        ledgers = [sha256(folder / name / "ranked_actions.parquet") for name in ("first", "second")]
    write = _writer(config, f"wmplan bench logs logs='{config.logs}'")
    share = second.seconds / first.seconds
    write("study of logs, s", first.seconds, "at most 900", first.seconds <= 900.0)
    write("study of logs, peak GiB", first.peak_bytes / GIB, "", None)
    write("the same study again, share of the first run's time", share, "at most 0.1", share <= 0.1)
    write("the same study again, s", second.seconds, "", None)
    write("ledgers of both runs, sha256", " = ".join(sorted(set(ledgers))), "equal", len(set(ledgers)) == 1)


def bench_ingest(config: BenchConfig) -> None:
    """Time and peak memory of an ingest of simulated logs and of one ten times larger, compilation apart."""
    costs = []
    for logs in (SMALL_LOGS, 10 * SMALL_LOGS):
        done = measured(["-m", "experiments.bench", str(logs)])
        if done.status != 0:
            raise InputError(f"bench ingest: the ingest of {logs} logs ended with status {done.status}")
        costs.append(json.loads(done.output.splitlines()[-1]))
    ratio = costs[1]["seconds"] / costs[0]["seconds"]
    growth = costs[1]["peak_bytes"] / costs[0]["peak_bytes"]
    write = _writer(config, "wmplan bench ingest")
    write(f"ingest of {10 * SMALL_LOGS} logs / of {SMALL_LOGS}, time", ratio, "8 to 12", 8.0 <= ratio <= 12.0)
    write(f"ingest of {10 * SMALL_LOGS} logs / of {SMALL_LOGS}, peak memory", growth, "1 (within 10 %)", growth <= 1.1)
    write("ingest, scenes a second", costs[1]["scenes"] / costs[1]["seconds"], "", None)


def bench_forecast(config: BenchConfig) -> None:
    """IoU of a model's forecast against both baselines on validation scenes, with paired intervals."""
    from experiments.forecasting import forecasts
    from wmplan.forecast import compare, summary, table

    frame = table(forecasts(Path(config.store), config.model, most=config.scenes))
    learned = next(name for name in frame["model"].unique() if name not in ("cv", "persistence"))
    write = _writer(config, f"wmplan bench forecast model={Path(config.model).name} store={Path(config.store).name}")
    for row in _of_iou(summary(frame, 0)):
        figure = f"forecast IoU at {row['seconds']:g} s, {row['model']}"
        write(figure, row["value"], "", None, (row["low"], row["high"]), row["scenes"])
    for other in ("cv", "persistence"):
        for row in _of_iou(compare(frame, learned, other, 0)):
            near = other == "cv" and row["seconds"] < 1.5
            goal, met = ("not below 0", row["high"] >= 0.0) if near else ("above 0", row["low"] > 0.0)
            figure = f"forecast IoU at {row['seconds']:g} s, {learned} - {other}"
            write(figure, row["value"], goal, met, (row["low"], row["high"]), row["scenes"])


def _of_iou(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows for IoU of everybody, averaged over scenes."""
    return frame[(frame["channel"] == "any") & (frame["score"] == "iou")].to_dict("records")  # type: ignore[return-value]


def _writer(config: BenchConfig, command: str) -> Callable[..., None]:
    def write(
        figure: str,
        value: float | str,
        goal: str,
        met: bool | None,
        interval: tuple[float, float] | None = None,
        n: int | None = None,
    ) -> None:
        if interval is not None and not all(map(math.isfinite, interval)):
            interval = None
        if isinstance(value, float) and not math.isfinite(value):
            value, met = "none", False if met is not None else None
        name = f"{figure} ({config.label})" if config.label else figure
        record(config.issue, name, value, interval, n, goal, met, command, Path(config.results))
        shown = value if isinstance(value, str) else f"{value:.4g}"
        verdict = {None: "", True: f"  goal {goal}: met", False: f"  goal {goal}: MISSED"}[met]
        print(f"{name}: {shown}{verdict}")

    return write


def _study(words: list[str], folder: str) -> Measured:
    done = measured(["-m", "experiments.cli", "study", *words], folder)
    if done.status not in (0, 3):
        raise InputError(f"bench: wmplan study {' '.join(words)} ended with status {done.status}")
    say(f"wmplan study {' '.join(words)}: {done.seconds:.0f} s, peak {done.peak_bytes / GIB:.2f} GiB")
    return done


def _split(words: str) -> list[str]:
    import shlex

    return shlex.split(words)


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
