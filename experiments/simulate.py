"""`wmplan simulate`: simulated drives into a store of scenes, propensities of their decisions sealed with the futures.

One scene of 10 s a log: 2 s of history, 8 s of future. Processes simulate chunks of logs ahead while this one writes;
the store has the same bytes whatever their number, and the first scenes are the same however many follow.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.processes import in_order, run_tasks
from experiments.progress import track
from wmplan.errors import InputError
from wmplan.scene import FUTURE_STEPS, STEP_S, Future, Log, Scene
from wmplan.store import SourceFile
from wmplan.store_writer import StoreWriter
from wmplan.windows import HISTORY_S, WindowConfig, cut

if TYPE_CHECKING:
    from wmplan.simulator.source import Source

WINDOWS = WindowConfig(min_history_s=HISTORY_S, min_future_s=FUTURE_STEPS * STEP_S)


@dataclass(frozen=True)
class SimulateCommand:
    """What to simulate, and where to write it."""

    out: str
    """folder of the new store"""
    n: int = 1000
    """number of logs, a scene each"""
    seed: int = 0
    """log i of a seed is always the same"""
    map: str = "mixed"
    """straight, merge, crossing, t_junction, roundabout, or mixed: each as often, by chance"""
    behaviour: str = "mixture"
    """how the ego drives: mixture (noisy drivers, drawn anew at t0, propensities recorded), mixture_per_log (one
    for a whole log), explore (varied, no propensities), or a policy of graded skill that is not learned, such as
    idm_normal"""
    val_fraction: float = 0.2
    """share of the groups (logs on one map) marked for validation, by a hash of the group's name"""
    workers: int = 0
    """processes that simulate; 0 = as many as there are cores"""
    overwrite: bool = False
    """replace the store that is there"""


@dataclass(frozen=True)
class Simulated:
    """What was written."""

    out: Path
    digest: str
    scenes: int
    train: int
    val: int
    decisions: int
    seconds: float


def run(config: SimulateCommand) -> int:
    """Simulate, say what came out, and give the exit status."""
    done = simulate(config)
    known = f"{done.decisions} decisions with known densities" if done.decisions else "no propensities"
    print(
        f"{done.out}: {done.scenes} scenes ({done.train} train, {done.val} val), {known}, "
        f"{done.seconds:.0f} s ({done.scenes / done.seconds:.1f} scenes a second)"
    )
    return 0


def simulate(config: SimulateCommand) -> Simulated:
    """Simulate the logs and write the store.

    Raises:
        InputError: a value that cannot be, `out` exists, or a process failed. Then no store is left.
    """
    began = time.monotonic()
    if config.n < 1:
        raise InputError(f"simulate: n is {config.n}, expected 1 or more")
    if config.seed < 0 or config.workers < 0:
        raise InputError(f"simulate: seed is {config.seed}, workers {config.workers}, expected 0 or more")
    settings = {name: value for name, value in asdict(config).items() if name not in ("out", "overwrite", "workers")}
    decisions = 0
    # The writer comes first: an `out` that cannot be is told before anything is simulated.
    with StoreWriter(Path(config.out), WINDOWS.map_radius_m, config.val_fraction, settings, config.overwrite) as writer:
        source, chunk = _source(config)
        tasks = [str(first) for first in range(0, config.n, chunk)]
        outcomes = in_order(run_tasks("experiments.simulate:job", source, tasks, _workers(config, len(tasks))), tasks)
        for done in track(outcomes, "simulate", len(tasks), note=lambda _: f"{writer.scenes} scenes"):
            if done.error:
                raise InputError(f"simulate: logs from {done.task} on: {done.error}")
            for log, scene, future in done.result:
                writer.add(log, scene, future)
                decisions += len(future.driven.steps) if future.driven else 0
        text = f"simulator:n={config.n},seed={config.seed},map={config.map},behaviour={config.behaviour}"
        made = SourceFile(text, "simulator", hashlib.sha256(text.encode()).hexdigest(), config.n, writer.scenes)
        manifest = writer.finish([made], [])
    counts = manifest.counts
    return Simulated(
        out=Path(config.out),
        digest=manifest.digest,
        scenes=counts["scenes"],
        train=counts["train"],
        val=counts["val"],
        decisions=decisions,
        seconds=time.monotonic() - began,
    )


def job(source: Source) -> Callable[[str], list[tuple[Log, Scene, Future]]]:
    """What a process does: from the number of a chunk's first log, its logs with their scenes."""
    from wmplan.simulator.reader import log
    from wmplan.simulator.recording import CHUNK

    def chunk(first: str) -> list[tuple[Log, Scene, Future]]:
        numbers = range(int(first), min(int(first) + CHUNK, source.n))
        logs = [log(source, number) for number in numbers]
        return [(made, scene, future) for made in logs for scene, future in cut(made, WINDOWS)]

    return chunk


def _source(config: SimulateCommand) -> tuple[Source, int]:
    """The source, and how many logs are made together; JAX is loaded here, not for `--help`."""
    from wmplan.simulator.recording import CHUNK
    from wmplan.simulator.source import Source

    try:
        return Source(config.n, config.seed, config.map, config.behaviour), CHUNK
    except InputError as error:
        raise InputError(f"simulate: {error}") from error


def _workers(config: SimulateCommand, tasks: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(config.workers or cores, tasks)
