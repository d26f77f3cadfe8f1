"""`wmplan bench ray`: one OPE run on a Ray cluster with 1, 2 and 4 workers: the same bytes, and how much faster."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from experiments.bench.rows import Rows
from experiments.files import sha256
from experiments.ope.carrying import estimate, find_truth, weigh
from experiments.ope.joining import join
from experiments.ope.preparing import prepare
from experiments.ope.results import TABLES, finish
from experiments.ope.settings import OpeCommand
from experiments.progress import say
from experiments.results import FOLDER
from wmplan.errors import InputError

ISSUE, GOAL = 6, 1.7


@dataclass(frozen=True)
class RayBench:
    """What is run, with which numbers of workers."""

    workers: tuple[int, ...] = (1, 2, 4)
    """Numbers of workers; times are compared of the first two."""
    logs: str = "simulator:n=40,seed=7300,behaviour=mixture"
    """Scenes of the run."""
    policies: tuple[str, ...] = ("all",)
    """Policies of the run."""
    models: tuple[str, ...] = ("nano",)
    """World models of the run."""
    draws: int = 2
    """Drives of each policy from each scene."""
    executor: Literal["ray", "processes"] = "ray"
    """ray, or processes for comparison (its figures are not recorded under the goal)."""
    cache: str = "runs/cache"
    """Folder of compiled programs; filled by a run of one scene that is not timed."""
    keep: str = ""
    """Folder for the runs; empty = a temporary one."""
    results: str = str(FOLDER)
    """Folder of the results."""


@dataclass(frozen=True)
class Ran:
    """Seconds of the steps that are spread over workers (their start included), and what the tables hold."""

    seconds: float
    tables: tuple[str, ...]
    policies: int
    scenes: int


def run(config: RayBench) -> int:
    """Measure and record; the exit status.

    Raises:
        InputError: fewer than two numbers of workers, or a run that cannot be made.
    """
    if len(set(config.workers)) < 2 or min(config.workers) < 1:
        raise InputError(f"bench ray: workers is {list(config.workers)}, expected two different numbers or more")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(config.keep or temporary).resolve()
        command = OpeCommand(
            policies=config.policies,
            logs=config.logs,
            models=config.models,
            draws=config.draws,
            executor=config.executor,
            cache=config.cache,
        )
        _ran(replace(command, scenes=1, workers=1), folder / "warm")
        found = [_ran(replace(command, workers=count), folder / str(count)) for count in config.workers]
    first, second, *_ = config.workers
    spread = f"{config.executor}, {found[0].policies} policies x {found[0].scenes} scenes"
    rows = Rows(ISSUE, words(config), config.results)
    for count, one in zip(config.workers, found):
        rows.write(f"OPE by {spread}: estimates and truth with {count} workers, s", one.seconds)
    same = sum(len(set(tables)) == 1 for tables in zip(*(one.tables for one in found))) / len(TABLES)
    counts = ", ".join(map(str, config.workers))
    rows.write(f"OPE by {spread}: share of tables with equal bytes with {counts} workers", same, "1", same == 1.0)
    ratio = found[0].seconds / found[1].seconds
    goal, met = (f"{GOAL:g}", ratio >= GOAL) if (first, second) == (1, 2) else ("", None)
    rows.write(f"OPE by {spread}: {second} workers faster than {first} by", ratio, goal, met)
    return 0


def words(config: RayBench) -> str:
    """The command line that says the same."""
    plain, parts = RayBench(), []
    for name in ("workers", "logs", "policies", "models", "draws", "executor"):
        value = getattr(config, name)
        if value != getattr(plain, name):
            parts.append(f"{name}=[{','.join(map(str, value))}]" if isinstance(value, tuple) else f"{name}={value}")
    return " ".join(["wmplan bench ray", *parts])


def _ran(command: OpeCommand, out: Path) -> Ran:
    """A run from nothing in this folder, which is emptied first."""
    shutil.rmtree(out, ignore_errors=True)
    prepared = prepare(replace(command, out=str(out)))
    began = time.perf_counter()
    failed = {"estimates": estimate(prepared), "truth": find_truth(prepared)}
    seconds = time.perf_counter() - began
    weigh(prepared)
    found = finish(prepared, join(prepared, failed))
    say(f"{out.name}: {seconds:.0f} s, {len(found.failures)} failures")
    about = found.manifest
    return Ran(seconds, tuple(sha256(out / name) for name in TABLES), len(about.policies), about.scenes)
