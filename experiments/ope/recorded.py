"""The issue's figures of a run, in `docs/results/6.json`."""

from __future__ import annotations

import os
import threading
from dataclasses import asdict
from types import TracebackType

from experiments.bench.rows import GIB, Rows
from experiments.measure import resident
from experiments.ope.results import Finished, rows_of
from experiments.ope.settings import IRRELEVANT, OpeCommand
from wmplan.statistics.policies import LEAST_POLICIES

ISSUE = 6
GOALS = {"spearman": 0.95, "pearson": 0.95, "mmrv": 0.02, "regret_at_1": 0.01}
AT_MOST = ("mmrv", "regret_at_1")
ELSEWHERE = 0.85
"""Rank correlation on other roads than the simulator's own."""
MOST_S, MOST_GIB, AGAIN = 1200.0, 6.0, 0.1
EVERY_S = 0.5


class Watch:
    """Peak memory of this process and all that it starts, while it is entered."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(EVERY_S):
            self.peak_bytes = max(self.peak_bytes, resident(os.getpid()))


def record(found: Finished, command: OpeCommand, seconds: float, fresh: float, peak_bytes: int) -> None:
    """Write the rows. `fresh` is the share of scenes that this run worked out itself."""
    about, rows = found.manifest, Rows(ISSUE, words(command), command.results, command.label)
    home = command.road == "original" and command.logs.startswith("simulator")
    what = f"{about.estimators[0]}, {len(about.policies)} policies x {about.scenes} scenes"
    for score in about.scores:
        for truth in about.truths if score == about.scores[0] else about.truths[:1]:
            first = truth == about.truths[0] and score == about.scores[0]
            for row in rows_of(found.agreement, score, truth):
                if row.estimator != about.estimators[0] or row.metric not in GOALS:
                    continue
                goal, met = _goal(row.metric, row.value, home) if first else ("", None)
                name = f"{row.metric} of {score} against {truth}"
                rows.write(f"{name}: {what}", row.value, goal, met, row.over_scenes, about.scenes)
                if first:
                    name = f"{name}, interval over policies: {what}"
                    rows.write(name, row.value, interval=row.over_policies, n=row.policies)
    score, truth = about.scores[0], about.truths[0]
    for row in rows_of(found.differences, score, truth):
        if row.metric in GOALS and row.policies >= LEAST_POLICIES:
            sign = -1.0 if row.metric in AT_MOST else 1.0
            low, high = sorted(sign * bound for bound in row.over_scenes)
            name = f"{row.metric} of {score}, {row.first} better than {row.estimator} by"
            goal = "above 0 with the whole interval"
            rows.write(name, sign * row.value, goal, low > 0.0, (low, high), row.policies)
    for row in rows_of(found.agreement, score, truth):
        other = row.estimator != about.estimators[0] and row.policies >= LEAST_POLICIES
        if other and row.metric in GOALS:
            name = f"{row.metric} of {score} against {truth}: {row.estimator}"
            rows.write(name, row.value, interval=row.over_scenes, n=row.policies)
    if about.executed:
        mine = found.powered[(found.powered["score"] == score) & (found.powered["estimator"] == about.estimators[0])]
        share = mine["width_share"].dropna()
        name = f"median width of {score} from {about.executed} executed scenes: with {about.estimators[0]} over alone"
        rows.write(name, float(share.median()), n=len(share))
    size = f"{len(about.policies)} policies x {about.scenes} scenes"
    if fresh == 1.0:
        rows.write(f"OPE run of {size}, s", seconds, "1200", seconds <= MOST_S)
        gib = peak_bytes / GIB
        rows.write(f"OPE run of {size}, peak GiB of all processes", gib, "6", gib <= MOST_GIB)
    elif fresh == 0.0:
        rows.write(f"the same OPE run again ({size}), s", seconds, "120: 10 % of 20 minutes", seconds <= AGAIN * MOST_S)


def words(command: OpeCommand) -> str:
    """The command line that says the same."""
    plain, parts = asdict(OpeCommand()), []
    for name, value in asdict(command).items():
        if value != plain[name] and (name not in IRRELEVANT or name in ("truth", "workers", "executor", "executed")):
            text = f"[{','.join(map(str, value))}]" if isinstance(value, (list, tuple)) else str(value)
            parts.append(f"{name}={text}")
    return " ".join(["wmplan ope", *parts])


def _goal(metric: str, value: float, home: bool) -> tuple[str, bool | None]:
    if metric in AT_MOST and home:
        return f"at most {GOALS[metric]:g}", value <= GOALS[metric]
    if metric in GOALS and metric not in AT_MOST and (home or metric == "spearman"):
        bound = GOALS[metric] if home else ELSEWHERE
        return f"at least {bound:g}", value >= bound
    return "", None
