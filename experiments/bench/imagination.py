"""`wmplan bench imagination`: how long a world model imagines and ranks, and how much of that is matrix products."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

from experiments.bench.rows import Rows
from experiments.results import FOLDER
from wmplan.errors import InputError
from wmplan.plans import Plans

HORIZON_S = 3.0


@dataclass(frozen=True)
class ImaginationBench:
    """What to measure."""

    model: str = "nano"
    """World model, as for `wmplan study`."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """As for `wmplan study`."""
    threads: int = 2
    """Passes that run at once."""
    repeats: int = 9
    """Timed calls, after one that warms up; the median counts, the interval is from the shortest to the longest."""
    results: str = str(FOLDER)
    """Folder of the results."""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.repeats < 1:
            raise InputError(
                f"bench: threads is {self.threads} and repeats {self.repeats}, expected at least 1 of each"
            )


@dataclass(frozen=True)
class Times:
    """Seconds by the clock and of CPU time (all threads) of each call."""

    clock: tuple[float, ...]
    cpu: tuple[float, ...]


def run(config: ImaginationBench) -> int:
    """Measure and record; the exit status."""
    from wmplan.threads import limit_threads, work_side_by_side

    limit_threads(1)
    import torch

    from critics import Composite, CostWeights, TaskConfig, TaskCritic
    from experiments.assembly import build_model, model_spec
    from experiments.bench.cache_scoring import simulated_scenes
    from experiments.bench.matrix_share import matrix_share
    from experiments.scoring import Scorer
    from rollout_cache import NoCache
    from wmplan.models.precision import resolved
    from wmplan.randomness import NoiseBank
    from wmplan.raster import rasterize

    precision = resolved(config.precision)
    command = "wmplan bench imagination" + (f" precision={precision}" if precision != "float32" else "")
    rows = Rows(4, command, config.results)
    spec = model_spec(config.model)
    model = build_model(spec, HORIZON_S, precision)
    composite = Composite((TaskCritic(TaskConfig(horizon=model.horizon)),), CostWeights())
    with tempfile.TemporaryDirectory() as folder:
        scene = simulated_scenes(Path(folder), 4)[1]
    raster, name = rasterize(scene, model.grid), config.model
    name += "" if precision == "float32" else f" in {precision}"
    context, many, few = model.encode(raster), candidates(raster.start.speed, 32), candidates(raster.start.speed, 20)
    scorer = Scorer(model, composite, NoCache(), 0, 1, 2**30, False)

    def imagine() -> torch.Tensor:
        return model.imagine(context, many, NoiseBank(0, 4)).occupancy

    def rank() -> object:
        return composite.judge(scorer.scene(scene).terms(few)).total

    seen = []
    for threads in sorted({1, config.threads}):
        work_side_by_side(threads)
        where = f"{threads} thread{'s' if threads > 1 else ''}"
        goals = threads == config.threads
        for what, call, goal in (
            ("32 candidates x 4 samples x 6 steps imagined", imagine, 350.0),
            ("20 candidates x 1 sample x 3 s encoded, imagined, ranked by task terms", rank, 100.0),
        ):
            found = timed(call, config.repeats)
            clock, cpu = median(found.clock) * 1e3, median(found.cpu) * 1e3
            between = (min(found.clock) * 1e3, max(found.clock) * 1e3)
            met = clock <= goal if goals else None
            asked = f"at most {goal:g}" if goals else ""
            rows.write(f"{name}: {what}, {where}, ms", clock, asked, met, between, config.repeats)
            rows.write(f"{name}: {what}, {where}, CPU ms", cpu, n=config.repeats)
        seen.append(imagine())
    work_side_by_side(1)
    same = all(torch.equal(seen[0], other) for other in seen)
    rows.write(f"{name}: futures on 1 and {config.threads} threads", "equal" if same else "different", "equal", same)
    share = matrix_share(lambda: model.imagine(context, many.select(slice(8)), NoiseBank(0, 4)), config.repeats)
    rows.write(f"{name}: matrix products of a pass, Gflop", share.gflop)
    rows.write(f"{name}: rate of its matrix products alone, one thread, Gflop/s", share.alone)
    rows.write(f"{name}: rate of imagination, one thread, Gflop/s", share.whole)
    rows.write(
        f"{name}: rate of imagination / of its matrix products alone", share.ratio, "at least 0.5", share.ratio >= 0.5
    )
    return 0


def candidates(speed: float, count: int) -> Plans:
    """Plans that differ from their first step on."""
    rng = np.random.default_rng(0)
    controls = np.repeat(rng.normal(size=(count, 1, 2)) * [1.5, 0.01], round(10 * HORIZON_S), axis=1)
    return Plans.from_controls(controls, speed)


def timed(call: Callable[[], object], repeats: int) -> Times:
    """What so many calls cost, after one that is not counted."""
    call()
    clock, cpu = [], []
    for _ in range(repeats):
        began = time.perf_counter(), time.process_time()
        call()
        clock.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
    return Times(tuple(clock), tuple(cpu))
