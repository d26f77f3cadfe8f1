"""Counterfactual training examples of a simulated source, made by all workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from experiments.processes import in_order, run_tasks
from experiments.progress import track
from wmplan.contracts import Grid
from wmplan.errors import InputError
from wmplan.models.training import Examples
from wmplan.raster import STRIDE
from wmplan.scene import STEP_S, Future, Scene
from wmplan.windows import HISTORY_S, WindowConfig, cut


@dataclass(frozen=True)
class CounterfactualConfig:
    """What other actions are executed in the simulator, for training."""

    source: str = ""
    """simulated logs whose scenes go on under other actions of the ego, e.g. simulator:n=400,seed=1; empty = none"""
    plans: int = 8
    """plans executed from each scene, the log's own among them"""
    every_s: float = 2.0
    """seconds between scenes of one log"""
    workers: int = 2
    """processes that simulate; the examples do not depend on their number"""

    def __post_init__(self) -> None:
        if self.plans < 2:
            raise ValueError(f"CounterfactualConfig.plans is {self.plans}, expected at least 2: they are compared")


def counterfactual_examples(config: CounterfactualConfig, grid: Grid, horizon: int) -> Examples:
    """The examples of the whole source, in the order of its logs.

    Raises:
        InputError: a source that is not the simulator's, or one that fails.
    """
    from wmplan.simulator.recording import CHUNK  # loads JAX
    from wmplan.simulator.source import PREFIX, Source

    if not config.source.startswith(PREFIX):
        raise InputError(
            f"counterfactuals.source is {config.source!r}, expected a simulation, e.g. {PREFIX}n=400,seed=1"
        )
    count = Source.parse(config.source).n
    tasks = [str(first) for first in range(0, count, CHUNK)]
    running = run_tasks("experiments.counterfactuals:job", _Job(config, grid, horizon), tasks, config.workers)
    parts = []
    for done in track(in_order(running, tasks), "executing other actions", len(tasks)):
        if done.error:
            raise InputError(f"{config.source}: logs from {done.task} on: {done.error}")
        parts.append(done.result)
    return Examples.concatenate(parts)


@dataclass(frozen=True)
class _Job:
    """What every process is told."""

    config: CounterfactualConfig
    grid: Grid
    horizon: int


def job(settings: _Job) -> Callable[[str], Examples]:
    """What a process does: from the number of a chunk's first log, the examples of its logs."""
    from wmplan.models.training.counterfactual import counterfactuals
    from wmplan.simulator.reader import log
    from wmplan.simulator.recording import CHUNK
    from wmplan.simulator.source import Source

    source, steps = Source.parse(settings.config.source), settings.horizon * STRIDE
    windows = WindowConfig(
        stride_s=settings.config.every_s, min_history_s=HISTORY_S, min_future_s=max(STEP_S * steps, 3.0)
    )

    def chunk(first: str) -> Examples:
        def scenes() -> Iterator[tuple[Scene, Future]]:
            for number in range(int(first), min(int(first) + CHUNK, source.n)):
                yield from cut(log(source, number), windows)

        pairs = counterfactuals(scenes(), settings.config.plans, steps, source.seed)
        return Examples.build(pairs, settings.grid, settings.horizon)

    return chunk
