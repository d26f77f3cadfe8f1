"""Scoring as `wmplan bench cache` measures it: with and without shared prefixes, raced and in full, and its memory.

As a program (`python -m experiments.bench.cache_scoring <model> <K> <M> <horizon_s> <MiB>`) it prints the peak of
resident memory while so many candidates are scored, beyond what the process had before, in MiB.
"""

from __future__ import annotations

import functools
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from experiments.assembly import build_composite, build_model, model_spec
from experiments.racing import race
from experiments.scoring import Count, Scorer
from rollout_cache import NoCache
from wmplan.plans import Plans
from wmplan.scene import Scene

SEED = 0
MEMORY = 256 * 2**20


def simulated_scenes(folder: Path, count: int) -> list[Scene]:
    """The first validation scenes of some simulated logs."""
    from experiments.logs import LogsConfig, resolve_store
    from wmplan.store import SceneStore

    store = SceneStore.open(resolve_store(LogsConfig(n=max(count, 4)), folder))
    names = list(store.index()["scene_id"])
    return [store.scene(name) for name in names[:: max(1, len(names) // count)][:count]]


def without_sharing(scene: Scene) -> tuple[Float32[ndarray, "K N"], Float32[ndarray, "K N"], Count]:
    """Terms of a tree's candidates, scored together and scored in groups of which no two share a first step; the steps
    of the former."""
    plans, scorer = _drivable(scene, "tree"), _scorer(4)
    together = scorer.scene(scene)
    shared = together.terms(plans).values
    first_step: dict[bytes, list[int]] = {}
    for row, state in enumerate(plans.states[:, 5]):
        first_step.setdefault(state.tobytes(), []).append(row)
    apart = np.empty_like(shared)
    alone = scorer.scene(scene)
    for turn in range(max(map(len, first_step.values()))):
        rows = [found[turn] for found in first_step.values() if turn < len(found)]
        apart[rows] = alone.terms(plans.select(rows)).values
    if alone.count.steps_imagined != alone.count.steps_asked:
        raise AssertionError("candidates that share nothing shared something")
    return shared, apart, together.count


@dataclass(frozen=True)
class RacedAndFull:
    """What a race costs and misses. `regret` is the cost, at all samples, of what it would choose, less the lowest;
    `spread` is the candidates' median cost less the lowest."""

    raced_steps: int
    full_steps: int
    regret: float
    spread: float


def raced_and_full(scene: Scene, planner: str, samples: int) -> RacedAndFull:
    """The same candidates raced and scored in full."""
    plans, scorer = _drivable(scene, planner), _scorer(samples)
    composite = scorer.composite
    full, raced = scorer.scene(scene), scorer.scene(scene)
    judged = composite.judge(full.terms(plans))
    cost = np.where(judged.eligible, judged.total, np.inf)
    there = race(raced, plans).samples == samples
    choice = np.where(there, cost, np.inf)
    finite = cost[np.isfinite(cost)]
    regret = float(choice.min() - cost.min()) if len(finite) else 0.0
    spread = float(np.median(finite) - finite.min()) if len(finite) else 0.0
    return RacedAndFull(raced.count.steps_imagined, full.count.steps_imagined, regret, spread)


def peak_mib(model: str, candidates: int, samples: int, horizon_s: float, memory_mib: int) -> float:
    """Peak of resident memory while random candidates of a busy road are scored, beyond what was there before, MiB."""
    from critics import CostWeights
    from wmplan.testing.scenes import Body, straight_road

    spec = model_spec(model)
    composite = build_composite(spec, horizon_s, CostWeights())
    scorer = Scorer(build_model(spec, horizon_s), composite, NoCache(), SEED, samples, memory_mib * 2**20, False)
    bodies = [Body(3.0 * i - 15.0, (3.5, -3.5, 7.0, 0.0)[i % 4], speed=8.0) for i in range(40)]
    of_scene = scorer.scene(straight_road(bodies, 10.0, "busy")[0])
    rng = np.random.default_rng(0)
    controls = rng.normal(size=(candidates, round(10 * horizon_s), 2)) * [2.0, 0.02]
    plans = Plans.from_controls(controls, 10.0)
    first = Scorer(scorer.model, composite, NoCache(), SEED, 2, scorer.memory, False)
    first.scene(straight_road(bodies, 10.0, "busy")[0]).terms(plans.select([0]))  # code and buffers of the first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    of_scene.terms(plans)
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024.0


@functools.cache
def _scorer(samples: int) -> Scorer:
    from critics import CostWeights

    spec = model_spec("nano")
    composite = build_composite(spec, 3.0, CostWeights())
    return Scorer(build_model(spec, 3.0), composite, NoCache(), SEED, samples, MEMORY, False)


def _drivable(scene: Scene, planner: str) -> Plans:
    """What this planner asks first in the scene and the car can drive."""
    from optimizers import make
    from wmplan.start import start_of

    start, optimizer = start_of(scene), make(planner)
    proposal = optimizer.ask(SEED, optimizer.init(SEED, start))
    return Plans.from_controls(proposal.controls[proposal.infeasible == 0], start.speed)


if __name__ == "__main__":
    from wmplan.threads import limit_threads

    limit_threads(1)
    print(peak_mib(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
