"""`wmplan bench lattice`: the time of 1,024 candidates, projection and checks included, beside Frenetix (C++)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from experiments.bench.rows import Rows
from experiments.measure import measured
from experiments.results import FOLDER
from wmplan.errors import InputError

CURVATURE_PM = 1 / 60
"""Curvature of the polyline of the measured task."""
GOAL = 4.0
"""How many times faster than Frenetix the issue on optimizers asks for."""


@dataclass(frozen=True)
class LatticeBench:
    """What to measure."""

    rounds: int = 5
    """Rounds; every planner runs in each, the fastest counts."""
    calls: int = 40
    """Plans of each planner in a round."""
    core: int = 0
    """The core that everything runs on."""
    results: str = str(FOLDER)
    """Folder of the results."""

    def __post_init__(self) -> None:
        if min(self.rounds, self.calls) < 1:
            raise InputError(f"bench lattice: rounds={self.rounds}, calls={self.calls}, expected 1 or more of both")


@dataclass(frozen=True)
class LatticeTimes:
    """CPU ms a plan of 1,024 candidates, the fastest round's mean; compilation in s; feasible candidates by own bounds.

    `frenetix_priced` has five costs on top of projection and checks. `ask` is what a study waits for: a lattice three
    times as large, of which 1,024 candidates are chosen and handed over. `smoothing` is for three finalists.
    """

    ours: float
    frenetix: float
    frenetix_priced: float
    ask: float
    smoothing: float
    first_call_s: float
    ours_feasible: int
    frenetix_feasible: int


def run(config: LatticeBench) -> int:
    """Measure in a process of its own and record; the exit status."""
    words = [str(value) for value in (config.rounds, config.calls, config.core)]
    done = measured(["-m", "experiments.bench.lattice", *words])
    if done.status != 0:
        raise InputError(f"bench lattice: the measurement ended with status {done.status}")
    found = LatticeTimes(**json.loads(done.output.splitlines()[-1]))
    rows = Rows(5, "wmplan bench lattice", config.results)
    write(rows, found)
    return 0


def write(rows: Rows, found: LatticeTimes) -> None:
    """Record what was measured."""
    what = "lattice of 1,024 with projection and checks"
    rows.write(f"{what}, CPU ms a plan", found.ours)
    rows.write(f"{what}, first call, CPU s", found.first_call_s)
    rows.write("lattice, ask of 1,024 candidates out of 2,810, CPU ms", found.ask)
    rows.write("lattice, three finalists smoothed and certified, CPU ms", found.smoothing)
    rows.write(f"{what}, frenetix (C++), CPU ms a plan", found.frenetix)
    rows.write(f"{what} and five costs, frenetix (C++), CPU ms a plan", found.frenetix_priced)
    ratio = found.frenetix / found.ours
    rows.write(f"{what}, times faster than frenetix (C++)", ratio, f"at least {GOAL:g}", ratio >= GOAL)


def times(rounds: int, calls: int) -> LatticeTimes:
    """Our program and Frenetix on the same task in this process, in turns.

    The caller pins the process and gives every library one thread.

    Raises:
        InputError: where Frenetix is not installed.
    """
    from experiments.bench import lattice_task

    try:
        from experiments.bench.peers import frenetix

        bent = lattice_task.task(CURVATURE_PM)
        peer, _ = frenetix.prepared(bent, priced=False)
        priced, _ = frenetix.prepared(bent, priced=True)
    except ImportError as error:
        raise InputError(f"bench lattice: {error}; expected the extra `peers` to be installed") from error
    ours, _ = lattice_task.prepared(bent)
    began = time.process_time()
    feasible = ours()
    first = time.process_time() - began
    plans = (ours, peer, priced, *lattice_task.optimizer(bent))
    found = [[_cpu_ms(plan, calls) for plan in plans] for _ in range(rounds)]
    fastest = [min(column) for column in zip(*found, strict=True)]
    return LatticeTimes(fastest[0], fastest[1], fastest[2], fastest[3], fastest[4], first, feasible, peer())


def _cpu_ms(plan: Callable[[], int], calls: int) -> float:
    for _ in range(5):
        plan()
    began = time.process_time()
    for _ in range(calls):
        plan()
    return 1e3 * (time.process_time() - began) / calls


def _alone(rounds: int, calls: int, core: int) -> None:
    """In a process of its own: pin, measure, print."""
    from wmplan.threads import limit_threads

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    limit_threads(1)
    print(json.dumps(asdict(times(rounds, calls))))


if __name__ == "__main__":
    _alone(*map(int, sys.argv[1:4]))
