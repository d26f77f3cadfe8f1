"""The measurement behind `wmplan bench planners`: every planner in one pinned process, time by turns, quality by the
referee. Run as a module it prints what it found as JSON on its last line.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import json
import os
import sys
import time
from dataclasses import dataclass

import numpy as np

from experiments.bench.peers.peer import ROUNDS, Entry, Planner

MODULES = (
    "ours", "plain_jax", "plain_torch", "evosax", "evotorch", "pytorch_icem", "pytorch_mppi", "stable_worldmodel",
)  # fmt: skip
"""Adapters, in the order of the table."""
TIMED = 1024
"""Candidates a round where time is compared."""
ROUND_S = 0.25
"""A planner's turn lasts about so long."""
BATCH = 64
"""Scenes planned together."""


@dataclass(frozen=True)
class Settings:
    """What to run."""

    seeds: int
    rounds: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Quality:
    """A planner with `candidates` a round: CPU ms a plan, mean referee cost and its standard error from each start."""

    candidates: int
    cpu_ms: float
    cost: tuple[float, ...]
    error: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """A planner: first call in s (imports apart), CPU ms of a plan (the best turn's mean), quality at each size."""

    name: str
    family: str
    library: str
    note: str
    first_s: float
    cpu_ms: float
    quality: tuple[Quality, ...]


@dataclass(frozen=True)
class Batch:
    """Scenes in one program: CPU ms a scene of 64 together and one by one, and the program's temporary memory of 8 and
    of 64 scenes, bytes."""

    together_ms: float
    alone_ms: float
    memory_8: int
    memory_64: int


@dataclass(frozen=True)
class Found:
    """All that was measured; `absent` are adapters whose library is not installed, with the reason."""

    rows: tuple[Row, ...]
    batch: Batch
    absent: tuple[tuple[str, str], ...]


def measure(settings: Settings) -> Found:
    """All rows; the caller pins the process and gives every library one thread."""
    entries, absent = known()
    planners, firsts = [], []
    for entry in entries:
        planner, first = _first_call(entry, TIMED)
        planners.append(planner)
        firsts.append(first)
    times = _in_turns(planners, settings.rounds)
    rows = []
    for entry, planner, first, cpu_ms in zip(entries, planners, firsts, times, strict=True):
        quality = []
        for size in settings.sizes:
            one = planner if size == TIMED else _first_call(entry, size)[0]
            quality.append(_quality(entry, one, size, settings.seeds))
        rows.append(Row(entry.name, entry.family, entry.library, entry.note, first, cpu_ms, tuple(quality)))
        print(f"{entry.name}: {cpu_ms:.2f} ms", file=sys.stderr, flush=True)
    return Found(tuple(rows), _batch(settings.rounds), absent)


def known() -> tuple[list[Entry], tuple[tuple[str, str], ...]]:
    """The planners that can run here, and the adapters that cannot, with the reason."""
    entries, absent = [], []
    for name in MODULES:
        try:
            entries += importlib.import_module(f"experiments.bench.peers.{name}").entries()
        except ImportError as error:
            absent.append((name, str(error)))
    return entries, tuple(absent)


def _first_call(entry: Entry, size: int) -> tuple[Planner, float]:
    from experiments.bench.planning_task import STARTS

    planner = entry.prepare(size)
    began = time.perf_counter()
    planner(STARTS["A"], 0, True)
    return planner, time.perf_counter() - began


def _in_turns(planners: list[Planner], rounds: int) -> list[float]:
    """CPU ms a plan from start A: every planner once a round, the best round's mean; going on from the last plan."""
    from experiments.bench.planning_task import STARTS

    def turn(planner: Planner, calls: int) -> float:
        began = time.process_time()
        for seed in range(calls):
            planner(STARTS["A"], seed, False)
        return 1e3 * (time.process_time() - began) / calls

    calls = [int(np.clip(1e3 * ROUND_S / turn(planner, 5), 5, 300)) for planner in planners]
    gc.disable()
    found = [[turn(planner, n) for planner, n in zip(planners, calls, strict=True)] for _ in range(rounds)]
    gc.enable()
    return np.min(found, axis=0).tolist()


def _quality(entry: Entry, planner: Planner, size: int, seeds: int) -> Quality:
    from experiments.bench.planning_task import STARTS, referee

    cost, error, cpu_ms = [], [], []
    calls = ROUNDS if entry.family == "MPPI" else 1
    for start in STARTS.values():
        plans = []
        began = time.process_time()
        for seed in range(seeds):
            for call in range(calls):
                plan = planner(start, 1 + seed * ROUNDS + call, call == 0)
            plans.append(plan)
        cpu_ms.append(1e3 * (time.process_time() - began) / seeds)
        costs = referee(start, np.stack(plans))
        cost.append(float(costs.mean()))
        error.append(float(costs.std(ddof=1) / np.sqrt(seeds)))
    return Quality(size, min(cpu_ms), tuple(cost), tuple(error))


def _batch(rounds: int) -> Batch:
    """Our CEM on many scenes in one program, beside a loop of single plans."""
    import jax
    import jax.numpy as jnp

    from experiments.bench.peers import ours
    from experiments.bench.planning_task import COST, STARTS, Car
    from optimizers.compiled import many, program, round_keys

    sampler = ours.cem(TIMED)
    search = ours.search_of(sampler)
    keys = np.stack([round_keys(sampler, seed) for seed in range(BATCH)])
    searches = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (BATCH, *leaf.shape)) + 0, search)
    starts = np.array(list(STARTS.values()), np.float32)[np.arange(BATCH) % len(STARTS)]
    one, all_ = program(sampler, Car(), COST), many(sampler, Car(), COST)

    def arguments(scenes: int) -> tuple:
        cut = jax.tree.map(lambda leaf: leaf[:scenes], (searches, jnp.asarray(starts)))
        return jnp.asarray(keys[:scenes]), cut[0], tuple(cut[1].T), None

    def together() -> None:
        jax.block_until_ready(all_(*arguments(BATCH)).cost)

    def alone() -> None:
        for i in range(BATCH):
            jax.block_until_ready(one(keys[i], search, tuple(starts[i]), None).cost)

    memory = [
        all_.lower(*arguments(scenes)).compile().memory_analysis().temp_size_in_bytes  # type: ignore[attr-defined]
        for scenes in (8, BATCH)
    ]
    found = []
    for _ in range(rounds + 1):  # the first compiles
        times = []
        for function in (together, alone):
            began = time.process_time()
            function()
            times.append(1e3 * (time.process_time() - began) / BATCH)
        found.append(times)
    best = np.min(found[1:], axis=0)
    return Batch(float(best[0]), float(best[1]), int(memory[0]), int(memory[1]))


def found_from(text: str) -> Found:
    """What `measure` found, from its JSON."""
    raw = json.loads(text)
    rows = tuple(
        Row(**(row | {"quality": tuple(Quality(**_tuples(part)) for part in row["quality"])})) for row in raw["rows"]
    )
    return Found(rows, Batch(**raw["batch"]), tuple((name, why) for name, why in raw["absent"]))


def _tuples(part: dict) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in part.items()}


def _alone(words: list[str]) -> None:
    """In a process of its own: pin, measure, print."""
    from wmplan.threads import limit_threads

    core, seeds, rounds, *sizes = map(int, words)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    limit_threads(1)
    print(json.dumps(dataclasses.asdict(measure(Settings(seeds, rounds, tuple(sizes))))))


if __name__ == "__main__":
    _alone(sys.argv[1:])
