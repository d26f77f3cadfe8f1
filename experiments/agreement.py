"""The unsealed pass: does the imagined order agree with what really happened? Runs after all planning, apart from it.

For each scene the executed plan, its perturbations and every planner's choice are scored by the same critics (through
the rollout cache) and by the log's own future; `outcomes.parquet` holds one row each, `agreement.json` the figures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.files import sha256, write_atomically, write_bytes
from experiments.kept import key_of
from wmplan.errors import InputError

if TYPE_CHECKING:
    from experiments.prepared import Study
    from experiments.scoring import Scorer
    from wmplan.plans import Plans, Start
    from wmplan.scene import Future, Scene
    from wmplan.scores import Outcomes

OUTCOMES = "outcomes.parquet"
AGREEMENT = "agreement.json"
LOG_REPLAY = "log_replay"
"""The planner that drives what the log's ego drove."""


@dataclass(frozen=True)
class AgreementConfig:
    """How the ranking is held against what really happened."""

    road: Literal["auto", "log", "reactive"] = "auto"
    """What plans are executed on: `log` (everybody else does what the log recorded), `reactive` (they react: in the
    simulated world that a scene was taken from, or on a road made of a recorded scene), `auto` (reactive for simulated
    logs, else the log)."""
    distances: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    """Perturbed plans end this far from where the executed plan ends, in metres: one bin each."""
    each: int = 4
    """Perturbations per scene and bin."""
    resamples: int = 1000
    """Bootstrap resamples over scenes, for 95 % intervals."""

    def __post_init__(self) -> None:
        if not self.distances or min(self.distances) <= 0.0:
            raise InputError(f"agreement.distances is {list(self.distances)}, expected metres above 0")
        if self.each < 1 or self.resamples < 100:
            raise InputError(
                f"agreement.each is {self.each} and resamples {self.resamples}, expected at least 1 and at least 100"
            )


@dataclass(frozen=True)
class Compared:
    """What the pass made of one scene: the rows of `outcomes.parquet`, or why there are none."""

    rows: pd.DataFrame
    skipped: str


def run(study: Study) -> Path:
    """Path of `agreement.json`, after outcomes and figures were written. Does nothing where both are there."""
    from experiments.ledger import PER_SCENE, write_frame
    from experiments.processes import WorkersBroken, run_tasks
    from experiments.progress import track

    path = study.run / AGREEMENT
    if path.exists() and (study.run / OUTCOMES).exists() and json.loads(path.read_text())["digest"] == study.digest:
        return path
    parts: dict[str, pd.DataFrame] = {}
    skipped: dict[str, str] = {}
    shelf = Shelf.of(study)
    missing = [scene for scene in study.scene_ids if not shelf.path(scene).exists()]
    try:
        config = study.config
        outcomes = run_tasks(
            "experiments.agreement:comparing", study, missing, config.workers, (), config.carried_out_by
        )
        for done in track(outcomes, "agreement", len(study.scene_ids), len(study.scene_ids) - len(missing)):
            if done.error:
                skipped[done.task] = done.error
        for scene in study.scene_ids:
            if scene not in skipped:
                compared = shelf.read(scene)
                parts[scene] = compared.rows
                if compared.skipped:
                    skipped[scene] = compared.skipped
    except WorkersBroken as error:
        raise InputError(f"study: the processes of the agreement pass cannot start: {error}") from error
    kept = [parts[scene] for scene in sorted(parts) if len(parts[scene])]
    frame = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()
    write_frame(study.run / OUTCOMES, frame)
    tables = [sha256(study.run / name) for name in (OUTCOMES, PER_SCENE)]
    key = key_of("figures", study.digest, study.model_files, tables, skipped)
    content = study.kept_sealed.read(key)
    if content is None:
        from experiments.figures import figures

        decisions = pd.read_parquet(study.run / PER_SCENE)
        found = figures(frame, decisions, scene_groups(study), skipped, study.config)
        content = (json.dumps({"digest": study.digest, **found}, indent=1, allow_nan=False) + "\n").encode()
        study.kept_sealed.write(key, content)
    return write_bytes(path, content)


@dataclass(frozen=True)
class Shelf:
    """Where comparisons are kept: by everything they depend on in the study's cache, else in the run folder.

    A pass that was killed goes on from them; a second identical study reads them. They hold real outcomes, so they are
    as sealed from planning processes as the futures themselves.
    """

    folder: Path
    keys: dict[str, str]

    @staticmethod
    def of(study: Study) -> Shelf:
        """The shelf of a study, whose scenes are all planned."""
        from experiments.logs import code_digest

        code = code_digest()
        keys = {}
        for scene in study.scene_ids:
            text = json.dumps([study.digest, scene, code, chosen_controls(study, scene)])
            keys[scene] = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return Shelf(study.compared / "sealed", keys)

    def path(self, scene_id: str) -> Path:
        """Where a scene's comparison lies."""
        return self.folder / f"{self.keys[scene_id]}.parquet"

    def read(self, scene_id: str) -> Compared:
        """The comparison that `write` put there."""
        table = pq.read_table(self.path(scene_id))
        return Compared(table.to_pandas(), json.loads((table.schema.metadata or {})[b"skipped"]))

    def write(self, scene_id: str, compared: Compared) -> None:
        """Keep a comparison."""
        table = pa.Table.from_pandas(compared.rows, preserve_index=False)
        table = table.replace_schema_metadata({b"skipped": json.dumps(compared.skipped).encode()})
        write_atomically(self.path(scene_id), lambda path: pq.write_table(table, path))


def comparing(study: Study) -> Callable[[str], None]:
    """A function that compares one scene and keeps the result.

    Only these processes open the sealed futures; they plan nothing.
    """
    from experiments.worker import open_scorer
    from wmplan.sealed import SealedFutures
    from wmplan.store import SceneStore

    store, sealed = SceneStore.open(study.store), SealedFutures.open(study.store)
    scorer, shelf = open_scorer(study), Shelf.of(study)

    def compare(scene_id: str) -> None:
        scene, future = store.scene(scene_id), sealed.future(scene_id)
        shelf.write(scene_id, compare_scene(study, scene, future, scorer))

    return compare


def compare_scene(study: Study, scene: Scene, future: Future, scorer: Scorer) -> Compared:
    """Imagined cost and real outcome of the executed plan, its perturbations and what the planners chose.

    A scene whose log does not show the ego to the end of the horizon says why; planners' choices are still compared
    with the road users that the log shows.
    """
    from experiments.perturb import perturbations
    from wmplan.executed import executed
    from wmplan.plans import Plans
    from wmplan.randomness import fold_in
    from wmplan.ranking import Verdict
    from wmplan.scores import outcome_labels
    from wmplan.start import start_of

    config = study.config
    start = start_of(scene)
    steps = round(config.horizon_s * 10)
    drove = executed(scene, future, start, steps)
    plans: list[Plans] = []
    about: list[tuple[str, str, float]] = []
    if drove.plan is not None:
        changed, distances = perturbations(
            drove.plan, config.agreement.distances, config.agreement.each, fold_in(config.seed, scene.scene_id)
        )
        plans += [drove.plan, changed]
        about += [("executed", LOG_REPLAY, 0.0), *(("perturbed", "", float(d)) for d in distances)]
    for planner, plan in chosen_plans(study, scene.scene_id, start.speed):
        plans.append(plan)
        about.append(("chosen", planner, float("nan")))
    if not plans:
        return Compared(pd.DataFrame(), drove.reason)
    pool = Plans.concatenate(plans)
    judged = scorer.composite.judge(scorer.scene(scene).terms(pool))
    try:
        road, real = what_happens(config.agreement.road, scene, future, pool, start)
    except InputError as error:
        return Compared(pd.DataFrame(), str(error))
    labels = outcome_labels(scene, future, config.horizon_s)
    rows = pd.DataFrame(about, columns=["kind", "planner", "distance_m"])
    rows.insert(0, "scene_id", scene.scene_id)
    rows.insert(1, "group", scene.group)
    rows.insert(2, "dataset", scene.dataset)
    rows.insert(3, "road", road)
    rows["cost"] = judged.total
    rows["verdict"] = [Verdict(v).word for v in judged.verdict]
    for name, label in (("hard_braking", labels.hard_braking), ("short_ttc", labels.short_ttc)):
        rows[name] = float(label.value) if label.valid else float("nan")
    rows["fit_deviation_m"] = drove.deviation_m
    for name in real.columns:
        rows[f"real_{name}"] = real.column(name)
    return Compared(rows, "" if drove.plan is not None else drove.reason)


def what_happens(
    road: Literal["auto", "log", "reactive"], scene: Scene, future: Future, plans: Plans, start: Start
) -> tuple[str, Outcomes]:
    """The road that the plans were executed on, `log` or `reactive`, and what they came to there.

    Raises:
        InputError: a scene that cannot become a road, with the reason.
    """
    from wmplan.scores import real_outcome

    replayed = real_outcome(scene, future, plans, start)
    if road == "log" or (road == "auto" and scene.dataset != "simulator"):
        return "log", replayed
    from wmplan.simulator.live import live

    expert = float(replayed.column("expert_progress_m")[0])
    return "reactive", live(scene, future).outcomes(plans, start, expert)


def scene_groups(study: Study) -> pd.DataFrame:
    """`group` and `group_trained_on` of every scene of the study, by scene id."""
    from experiments.assembly import trained_groups
    from wmplan.store import SceneStore

    index = SceneStore.open(study.store).index().set_index("scene_id")
    groups = index.loc[list(study.scene_ids), ["group"]].sort_index()
    return groups.assign(group_trained_on=groups["group"].isin(trained_groups(study.model)))


def chosen_plans(study: Study, scene_id: str, speed: float) -> list[tuple[str, Plans]]:
    """(planner, its plan) for every planner that chose one in this scene, sorted by planner."""
    from wmplan.plans import Plans

    found = []
    for planner, accel, curvature in chosen_controls(study, scene_id):
        controls = np.stack([accel, curvature], axis=-1).astype(np.float64)
        found.append((planner, Plans.from_controls(controls[None], speed)))
    return found


def chosen_controls(study: Study, scene_id: str) -> list[tuple[str, list[float], list[float]]]:
    """(planner, accelerations, curvatures) of what every planner chose in this scene, sorted by planner."""
    from experiments.ledger import shard_path

    path = shard_path(study.run, scene_id)
    if not path.exists():
        return []
    rows = pq.read_table(path, columns=["planner", "accel", "curvature", "chosen"]).to_pylist()
    return sorted((row["planner"], row["accel"], row["curvature"]) for row in rows if row["chosen"])
