"""The three steps of an audit, each done by processes of its own: pools, scores, truth.

A pool contains what the log's ego did, so the futures are needed to make it; its rows are in random order, and what
they are is sealed. The scoring processes cannot read anything sealed, neither of the store nor of the audit. The truth
is worked out last, by processes that score nothing but the ceiling: the true future in the place of an imagined one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from critics.composite import Composite
from experiments import assembly
from experiments.audit.contenders import ceiling, contenders, placebos, table_of
from experiments.audit.pooling import pool_of
from experiments.audit.prepared import Audit
from experiments.audit.shards import CEILING, KINDS, POOLS, SCORES, TRUTH, read_plans, shard, write_plans, write_rows
from experiments.ope.oracle import RoadAsModel
from experiments.scoring import Scorer
from rollout_cache import NoCache
from wmplan.errors import InputError
from wmplan.randomness import fold_in
from wmplan.scores import expert_progress
from wmplan.sealed import SealedFutures
from wmplan.simulator.drivers import ORIGINAL, TWIN
from wmplan.simulator.live import live
from wmplan.start import start_of
from wmplan.store import SceneStore


def pooling(audit: Audit) -> Callable[[str], None]:
    """A function that makes one scene's pool."""
    assembly.use_compilation_cache(audit.cache)
    store, sealed = SceneStore.open(audit.store), SealedFutures.open(audit.store)
    config = audit.config

    def make(scene_id: str) -> None:
        scene = store.scene(scene_id)
        pool = pool_of(scene, sealed.future(scene_id), config.candidates, audit.steps, config.seed)
        order = np.random.default_rng(fold_in(config.seed, scene_id, "order of the pool")).permutation(len(pool.plans))
        kinds = pd.DataFrame({"kind": np.array(pool.kinds)[order], "distance_m": pool.distance_m[order]})
        write_rows(shard(audit.run, KINDS, scene_id), kinds)
        write_plans(shard(audit.run, POOLS, scene_id), pool.plans.select(order))

    return make


def scoring(audit: Audit) -> Callable[[str], None]:
    """A function that gives one scene's candidates their terms, by the model and by every placebo.

    Raises:
        RuntimeError: this process could open the sealed futures.
    """
    store, config = SceneStore.open(audit.store), audit.config
    _require_sealed(audit)
    composite = assembly.build_composite(audit.model, config.horizon_s, config.weights)
    scorers = {name: _scorer(audit, model, composite) for name, model in contenders(audit).items()}

    def score(scene_id: str) -> None:
        scene = store.scene(scene_id)
        plans = read_plans(shard(audit.run, POOLS, scene_id), start_of(scene).speed)
        parts = []
        for name, scorer in scorers.items():
            here = scorer.scene(scene)
            if name == audit.name and config.placebos:
                parts += [table_of(one, terms) for one, terms in placebos(here, plans, name, config.seed).items()]
            else:
                parts.append(table_of(name, here.terms(plans)))
        write_rows(shard(audit.run, SCORES, scene_id), pd.concat(parts, ignore_index=True))

    return score


def telling(audit: Audit) -> Callable[[str], None]:
    """A function that finds out what one scene's candidates truly lead to.

    A scene that cannot become a road has a note instead of rows.
    """
    assembly.use_compilation_cache(audit.cache)
    store, sealed = SceneStore.open(audit.store), SealedFutures.open(audit.store)
    config = audit.config
    model = assembly.build_model(audit.model, config.horizon_s)
    composite = assembly.build_composite(audit.model, config.horizon_s, config.weights)

    def tell(scene_id: str) -> None:
        scene, future = store.scene(scene_id), sealed.future(scene_id)
        start = start_of(scene)
        plans = read_plans(shard(audit.run, POOLS, scene_id), start.speed)
        path = shard(audit.run, TRUTH, scene_id)
        try:
            alive = live(scene, future, drivers=TWIN if config.drivers == "twin" else ORIGINAL)
        except InputError as error:
            write_rows(path, pd.DataFrame(), {"skipped": str(error)})
            return
        if config.placebos:
            road = _scorer(audit, RoadAsModel(alive, model.grid, model.horizon), composite).scene(scene)
            tables = [table_of(name, terms) for name, terms in ceiling(road, plans, config.seed).items()]
            write_rows(shard(audit.run, CEILING, scene_id), pd.concat(tables, ignore_index=True))
        # Progress against what the critic takes for possible: nothing that it imagines is at fault where it cannot know
        # how far the log's ego went. `join` adds the score that counts against the log's ego.
        outcomes = alive.outcomes(plans, start, start.target_speed * config.horizon_s)
        logged = expert_progress(future, start, audit.steps)
        write_rows(path, pd.DataFrame(outcomes.values, columns=list(outcomes.columns)), {"logged_m": repr(logged)})

    return tell


def _scorer(audit: Audit, model: object, composite: Composite) -> Scorer:
    config = audit.config
    return Scorer(model, composite, NoCache(), config.seed, config.samples, config.memory_mib * 2**20, False)  # type: ignore[arg-type]


def _require_sealed(audit: Audit) -> None:
    try:
        SealedFutures.open(audit.store).future(audit.scene_ids[0])
    except PermissionError:
        pass
    else:
        raise RuntimeError("a scoring process can open the sealed futures, expected that it is forbidden to")
    # Where not even the names can be listed there is nothing to try.
    for path in (audit.run / "sealed").rglob("*.parquet"):
        try:
            path.read_bytes()
        except PermissionError:
            return
        raise RuntimeError("a scoring process can read what is sealed of the audit, expected that it is forbidden to")
