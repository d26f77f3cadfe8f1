"""`wmplan bench road`: the simulator beside highway-env in one run, how its cost grows, its outcomes and its logs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from experiments.bench.rows import GIB, Rows
from experiments.measure import measured
from experiments.processes import run_tasks
from experiments.results import FOLDER
from wmplan.errors import InputError
from wmplan.sealed import SealedFutures
from wmplan.store import SceneStore

LEAST_RATIO = 300.0
SIZES = (64, 128, 256, 512, 1024, 2048)
"""Numbers of worlds over which the cost's growth is fitted."""
CROWDS = (32, 64, 128)
"""Numbers of road users, the size classes of recorded scenes."""
CROWDED_WORLDS = 128
MOST_OUTCOMES_S = 0.15
MOST_LOGS_S = 60.0


@dataclass(frozen=True)
class RoadBench:
    """What to measure."""

    worlds: int = 1024
    """Worlds simulated together, spread over one single-threaded process a core."""
    candidates: int = 256
    """Candidates of one scene whose true outcomes are timed."""
    seconds: float = 8.0
    """How long each is driven."""
    vehicles: int = 30
    """highway-env's vehicles beside the ego."""
    episodes: int = 9
    """Episodes of highway-env in each process; the median counts."""
    logs: int = 1000
    """Scenes of 10 s that are written; a quarter of them first, to see that memory does not grow."""
    store: str = ""
    """A store of recorded scenes (such as Waymo's) to hold the traffic against; empty = no table of realism."""
    scenes: int = 100
    """At most so many of its scenes, a fixed random choice."""
    only: tuple[str, ...] = ()
    """Some of speed, growth, logs, outcomes, realism; empty = all of them (realism where there is a store)"""
    results: str = str(FOLDER)
    """Folder of the results."""


def run(config: RoadBench) -> int:
    """Measure and record; the exit status. About ten minutes.

    Raises:
        InputError: `only` names what cannot be measured.
    """
    store = f" store={Path(config.store).name}" if config.store else ""
    only = f" only=[{','.join(config.only)}]" if config.only else ""
    rows = Rows(3, f"wmplan bench road{store}{only}", config.results)
    parts = {name: part for name, part in PARTS.items() if config.store or name != "realism"}
    for name in config.only:
        if name not in parts:
            raise InputError(
                f"bench road: only: {name!r}, expected some of {', '.join(PARTS)}; realism needs store=PATH"
            )
    for name, part in parts.items():
        if not config.only or name in config.only:
            part(config, rows)
    return 0


def _against_highway(config: RoadBench, rows: Rows) -> None:
    """Agent-steps a second of both, one after the other, each with all cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    theirs = _all("experiments.bench.highway_ticks:job", config.vehicles, [f"{config.episodes}"] * cores, cores)
    share = config.worlds // cores
    ours = _all("experiments.bench.road_speed:job", share, [f"rate {share}"] * cores, cores)
    name = f"highway-env, {config.vehicles} vehicles and the ego"
    n = sum(ticks.episodes for ticks in theirs)
    rows.write(f"{name}: ticks a second in one process", median(t.ticks_per_second for t in theirs), n=n)
    rows.write(f"{name}: vehicle-ticks a second, {cores} cores", sum(t.per_second for t in theirs), n=n)
    size = f"{share * cores} worlds x 32 agents, everything on"
    rows.write(f"simulator, {size}: agent-steps a second, {cores} cores", sum(rate.per_second for rate in ours))
    rows.write("simulator: share of the 32 rows that are somebody", median(rate.active for rate in ours))
    goal = f"{LEAST_RATIO:g} or more"
    ratios = {
        f"agent-steps a second by the clock, simulator / highway-env, {cores} cores each": (
            sum(rate.per_second for rate in ours) / sum(t.per_second for t in theirs)
        ),
        "agent-steps a second of CPU time, simulator / highway-env": (
            sum(rate.per_cpu_second for rate in ours) / sum(t.per_cpu_second for t in theirs)
        ),
        "the same, rows that are somebody only": (
            sum(rate.per_cpu_second * rate.active for rate in ours) / sum(t.per_cpu_second for t in theirs)
        ),
    }
    for figure, ratio in ratios.items():
        rows.write(figure, ratio, goal, ratio >= LEAST_RATIO)
    _recompiled(rows, "rollout", sum(rate.recompiled for rate in ours))


def _growth(config: RoadBench, rows: Rows) -> None:
    """The cost against agents and worlds, and where a step's time goes."""
    from experiments.bench.timing import exponent

    rates = _all("experiments.bench.road_speed:crowd_job", CROWDED_WORLDS, [f"{agents}" for agents in CROWDS], 1)
    for agents, rate in zip(CROWDS, rates):
        rows.write(f"simulator, {agents} agents a world: agent-steps a second of CPU time", rate.per_cpu_second)
    power = exponent(CROWDS, [agents / rate.per_cpu_second for agents, rate in zip(CROWDS, rates)])
    rows.write("cost against agents: exponent", power, n=len(CROWDS))
    tasks = [f"rate {size}" for size in SIZES] + [f"parts {config.worlds // 2}"]
    *rates, shares = _all("experiments.bench.road_speed:job", max(SIZES), tasks, 1)
    for size, rate in zip(SIZES, rates):
        rows.write(f"simulator, {size} worlds: agent-steps a second of CPU time", rate.per_cpu_second)
    power = exponent(SIZES, [size / rate.per_cpu_second for size, rate in zip(SIZES, rates)])
    rows.write("cost against worlds: exponent", power, "near 1 (0.9 to 1.1)", 0.9 <= power <= 1.1, n=len(SIZES))
    together = sum(shares.values())
    for part, share in shares.items():
        rows.write(f"share of a step's time: {part}", share / together)
    rows.write("parts of a step compiled apart, together / the step compiled as one", together)


def _logs(config: RoadBench, rows: Rows) -> None:
    """Simulated logs written to a store: time and memory of the whole command."""
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        for n in (config.logs // 4, config.logs):
            done = measured(["-m", "experiments.cli", "simulate", f"n={n}", f"out={Path(folder) / str(n)}"])
            if done.status != 0:
                raise InputError(f"bench road: wmplan simulate n={n} ended with status {done.status}")
            costs.append(done)
    name = f"wmplan simulate, {config.logs} scenes of 10 s"
    seconds, growth = costs[1].seconds, costs[1].peak_bytes / costs[0].peak_bytes
    rows.write(f"{name}: seconds", seconds, f"{MOST_LOGS_S:g} or less", seconds <= MOST_LOGS_S, n=config.logs)
    rows.write(f"{name}: peak memory, GiB", costs[1].peak_bytes / GIB, n=config.logs)
    rows.write(f"{name} / {config.logs // 4}: peak memory", growth, "1 (within 10 %)", growth <= 1.1)


def _realism(config: RoadBench, rows: Rows) -> None:
    """The simulator's traffic beside what was recorded: reported, not claimed."""
    from wmplan.simulator.realism import table

    scenes, futures = SceneStore.open(config.store), SealedFutures.open(config.store)
    order = np.random.default_rng(0).permutation(len(scenes))[: config.scenes]
    names = [scenes.scene_ids[i] for i in sorted(order)]
    for row in table((scenes.scene(name), futures.future(name)) for name in names):
        rows.write(row.figure, row.value, n=row.n)


def _truth(config: RoadBench, rows: Rows) -> None:
    """The true outcomes of many candidates of one scene, with all cores; late, because it loads JAX here."""
    from experiments.bench.road_outcomes import measure, measure_crowd

    found = measure(config.candidates, config.seconds)
    crowd = measure_crowd(config.candidates, config.seconds)
    name = f"outcomes, {config.candidates} candidates x {config.seconds:g} s x 32 agents"
    for truth in (*found, crowd):
        rows.write(f"{name}, {truth.kind}: seconds", truth.whole.clock)
        rows.write(f"{name}, {truth.kind}: of the 32 exist", float(truth.exist))
    worst = max(truth.whole.clock for truth in found)
    rows.write(f"{name}, slowest map: seconds", worst, f"{MOST_OUTCOMES_S:g} or less", worst <= MOST_OUTCOMES_S)
    rows.write(f"{name}: seconds of CPU time, both cores", median(truth.whole.cpu for truth in found))
    rows.write(f"{name}: of them executing", median(truth.executed.cpu for truth in found))
    _recompiled(rows, "outcomes", sum(truth.whole.recompiled + truth.executed.recompiled for truth in (*found, crowd)))


def _recompiled(rows: Rows, what: str, count: int) -> None:
    rows.write(f"compilations on later calls: {what}", float(count), "none", count == 0)


def _all(factory: str, settings: Any, tasks: list[str], workers: int) -> list[Any]:
    """The results in the order of the tasks, which get a number behind them to tell equal ones apart."""
    numbered = [f"{task} {i}" for i, task in enumerate(tasks)]
    results = {}
    for done in run_tasks(factory, settings, numbered, workers):
        if done.error:
            raise InputError(f"bench road: {done.task}: {done.error}")
        results[done.task] = done.result
    return [results[task] for task in numbered]


PARTS: dict[str, Callable[[RoadBench, Rows], None]] = {
    "speed": _against_highway,
    "growth": _growth,
    "logs": _logs,
    "outcomes": _truth,
    "realism": _realism,
}
"""What is measured, in this order: what loads JAX in this process comes last."""
