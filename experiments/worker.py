"""The planning processes: they cannot open the sealed futures, and a failure costs one planner in one scene."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pandas as pd

from experiments import assembly
from experiments.ledger import Decision, SceneResult, Timing, write_shard
from experiments.prepared import Study
from experiments.processes import one_line
from experiments.rank_scene import decide
from experiments.scoring import Count, Scorer
from wmplan.sealed import SealedFutures
from wmplan.start import start_of
from wmplan.store import SceneStore


@dataclass(frozen=True)
class Planned:
    """What a planning process says of a finished scene; the rest is in its shard."""

    scene_id: str
    failures: tuple[str, ...]
    damaged: int = 0
    """Damaged places of the rollout cache that were found and dropped on the way."""
    trouble: str = ""
    """Why nothing is stored in the rollout cache any more."""


def planning(study: Study) -> Callable[[str], Planned]:
    """A function that plans one scene and writes its shard.

    Raises:
        RuntimeError: this process could open the sealed futures.
    """
    require_sealed(study)
    assembly.use_compilation_cache(study.cache)
    store = SceneStore.open(study.store)
    desk = open_desk(study)

    def plan(scene_id: str) -> Planned:
        scene = store.scene(scene_id)
        start = start_of(scene)
        cache = desk.scorer.cache
        damaged = cache.stats.damaged
        scorer = desk.scorer.scene(scene)
        tables: list[pd.DataFrame] = []
        decisions: list[Decision] = []
        timings: list[Timing] = []
        for planner in study.planners:
            began = time.perf_counter()
            scorer.count = Count()
            try:
                decision, rows = decide(scene, start, planner, desk.planners[planner], scorer, study.config.seed)
                tables.append(rows)
            except Exception as error:  # whatever a planner does wrong counts against it and against nothing else
                decision = Decision(scene_id, planner, "failed", one_line(error))
            decisions.append(decision)
            seconds = time.perf_counter() - began
            timings.append(Timing(scene_id, planner, seconds, **asdict(scorer.count)))
        rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        write_shard(
            study.run, study.digest, study.columns, SceneResult(scene_id, rows, tuple(decisions), tuple(timings))
        )
        failures = tuple(f"{item.planner}: {item.message}" for item in decisions if item.status == "failed")
        return Planned(scene_id, failures, cache.stats.damaged - damaged, cache.trouble)

    return plan


def require_sealed(study: Study) -> None:
    """Raises RuntimeError where this process could read what followed the scenes it is to plan."""
    try:
        SealedFutures.open(study.store).future(study.scene_ids[0])
    except PermissionError:
        return
    raise RuntimeError("a planning process can open the sealed futures, expected that it is forbidden to")


@dataclass(frozen=True)
class Desk:
    """What a process needs to score and plan."""

    scorer: Scorer
    planners: dict[str, assembly.Planner]


def open_desk(study: Study) -> Desk:
    """Scorer and planners of a study, in this process."""
    return Desk(open_scorer(study), assembly.build_planners(study.config))


def open_scorer(study: Study) -> Scorer:
    """Model, critics and cache of a study, in this process."""
    config = study.config
    # The study says it, once, and not every process.
    logging.getLogger("rollout_cache").setLevel(logging.ERROR)
    model = assembly.build_model(study.model, config.horizon_s, config.precision)
    composite = assembly.build_composite(study.model, config.horizon_s, config.weights, config.risk)
    cache = assembly.terms_cache(study.cache, round(config.cache_gib * 2**30))
    memory = config.memory_mib * 2**20
    return Scorer(model, composite, cache, config.seed, config.samples, memory, config.racing)
