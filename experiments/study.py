"""The study: every optimizer on every scene, the ledger, agreement with what really happened, report and MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from critics.weights import CostWeights
from experiments import agreement
from experiments.agreement import AgreementConfig
from experiments.kept import key_of
from experiments.logs import LogsConfig
from experiments.processes import Executor
from wmplan.errors import InputError
from wmplan.risk import RiskConfig

if TYPE_CHECKING:
    from experiments.prepared import Study


@dataclass(frozen=True)
class StudyConfig:
    """A ranked-action study."""

    name: str = "study"
    """What the study is called in MLflow and in the name of its folder."""
    logs: LogsConfig = field(default_factory=LogsConfig)
    model: str = "nano"
    """World model: `nano` (ships with wmplan, trained on simulator logs only), a checkpoint folder that `wmplan train`
    wrote, or a baseline: `cv` (everything keeps its velocity), `persistence` (nothing moves)."""
    optimizers: tuple[str, ...] = ("cem", "lattice", "mppi")
    """Which optimizers propose candidates."""
    baselines: tuple[str, ...] = ("constant_velocity", "idm")
    """Policies without an optimizer beside them, one plan each; log replay joins them in the agreement pass."""
    candidates: int = 128
    """Candidates per scene and optimizer, over all its rounds."""
    settings: tuple[str, ...] = ()
    """Further settings of single optimizers as their configs name them, e.g. cem.rounds=8,mppi.effective_samples=8."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Numbers in which a learned model's transformer computes. bfloat16 changes a few codes in ten thousand and may
    be faster (docs/world_models.md has measurements); auto = bfloat16 where the processor has it."""
    samples: int = 4
    """Imagined futures per candidate (M), drawn with the same noise for all candidates of a scene."""
    risk: RiskConfig = field(default_factory=RiskConfig)
    racing: bool = False
    """Race the candidates of a round: one sample for all, two for the better half, up to `samples`. Saves about half
    of the imagination and may miss the best candidate; what left a race has no cost in the ledger."""
    horizon_s: float = 3.0
    """Length of plans and of imagination in seconds, a multiple of 0.5."""
    seed: int = 0
    """Everything random follows from it and from the names of scene and planner, not from order or workers."""
    limit: int = 0
    """Only the first so many scenes of the store; 0 = all."""
    weights: CostWeights = field(default_factory=CostWeights)
    agreement: AgreementConfig = field(default_factory=AgreementConfig)
    workers: int = 2
    """Single-threaded processes; results do not depend on their number."""
    executor: Literal["processes", "ray"] = "processes"
    """What carries the work out: `processes` of this machine, or the workers of a Ray cluster."""
    ray_address: str = ""
    """Address of a running Ray cluster; empty = one that is started here."""
    out: str = ""
    """Folder of the results; empty = runs/<name>-<digest of everything that shapes the result>."""
    cache: str = "runs/cache"
    """Folder of what can be made again: imagined terms, compiled planners, ingested logs; empty = imagine anew."""
    cache_gib: float = 8.0
    """Most that imagined terms may take on disk, GiB; the scenes used longest ago make room."""
    memory_mib: int = 256
    """Most memory that imagination may take in each worker, MiB; results do not depend on it."""
    tracking_uri: str = ""
    """MLflow server or store; empty = SQLite file inside the results folder."""
    experiment: str = "wmplan"
    """MLflow experiment."""
    mlflow: bool = True
    """Whether the study is logged to MLflow."""
    report: bool = True
    """Whether the HTML report is written."""
    overwrite: bool = False
    """Delete another study's results where `out` holds them."""

    @property
    def carried_out_by(self) -> Executor:
        """What carries the work out."""
        return Executor(self.executor, self.ray_address)


@dataclass(frozen=True)
class ReportConfig:
    """Which study to report on."""

    run: str
    """Folder of a finished study."""


def run(config: StudyConfig) -> int:
    """`wmplan study`: exit status 0, or 3 where scenes failed (they are listed)."""
    import time

    from experiments import summary
    from experiments.ledger import merge
    from experiments.prepared import prepare
    from experiments.progress import say

    began = time.perf_counter()
    study = prepare(config)
    say(f"study {study.digest}: {len(study.scene_ids)} scenes x {', '.join(study.planners)} -> {study.run}")
    lost = plan_scenes(study)
    decisions = merge(study.run, study.digest, study.columns, study.scene_ids, study.planners, lost)
    agreement.run(study)
    if config.report:
        write_page(study)
    if config.mlflow:
        _track(study)
    summary.show(study.run, time.perf_counter() - began)
    return 3 if (decisions["status"] == "failed").any() else 0


def write_page(study: Study) -> Path:
    """Path of the report: an equal one that was kept, else drawn and kept."""
    from experiments.files import sha256, write_bytes
    from experiments.finished import provenance
    from experiments.ledger import LEDGER, PER_SCENE, TIMINGS
    from experiments.prepared import stored_config

    tables = (LEDGER, PER_SCENE, TIMINGS, agreement.OUTCOMES, agreement.AGREEMENT)
    about = provenance(stored_config(study.run))
    key = key_of("report", study.digest, study.model_files, about, [sha256(study.run / name) for name in tables])
    page = study.kept_sealed.read(key)
    if page is not None:
        return write_bytes(study.run / "report.html", page)
    from experiments.assembly import use_compilation_cache
    from experiments.report import write_report

    use_compilation_cache(study.cache)
    path = write_report(study.run, study.store, study.model)
    study.kept_sealed.write(key, path.read_bytes())
    return path


def _track(study: Study) -> None:
    """Log the study to MLflow; where that fails the results stay, and one line says how to log them later."""
    from experiments.progress import say
    from experiments.summary import pages
    from experiments.tracking import upload

    uri = study.config.tracking_uri
    page, planners = pages(study.run)
    try:
        upload(study.run, uri, study.config.experiment, page, planners, kept=study.kept)
    except ConnectionError as error:
        say(f"MLflow: {error}; the results are kept, log them later with: wmplan mlflow sync {study.run}")


def plan_scenes(study: Study) -> dict[str, str]:
    """Plan every scene that has no shard yet; what became of scenes whose worker died, by scene."""
    from experiments.ledger import finished
    from experiments.processes import WorkersBroken, run_tasks
    from experiments.progress import say, track

    there = set(finished(study.run, study.digest, study.scene_ids))
    recalled = recall(study, [scene for scene in study.scene_ids if scene not in there])
    if recalled:
        say(f"{len(recalled)} of {len(study.scene_ids)} scenes were planned by an equal study before ({study.cache})")
    there |= set(recalled)
    missing = [scene for scene in study.scene_ids if scene not in there]
    if len(there) > len(recalled):
        say(f"{len(there) - len(recalled)} of {len(study.scene_ids)} scenes were planned before")
    lost: dict[str, str] = {}
    damaged, trouble = 0, ""
    sealed = (study.store, study.compared)
    try:
        outcomes = run_tasks(
            "experiments.worker:planning", study, missing, study.config.workers, sealed, study.config.carried_out_by
        )
        for done in track(outcomes, "planning", len(study.scene_ids), len(there)):
            if done.error:
                lost[done.task] = done.error
                say(f"scene {done.task}: failed, {done.error}")
            else:
                for failure in done.result.failures:
                    say(f"scene {done.task}: {failure}")
                damaged += done.result.damaged
                if not done.result.failures:
                    keep(study, done.task)
                if done.result.trouble and not trouble:
                    trouble = done.result.trouble
                    say(f"rollout cache {trouble}")
    except WorkersBroken as error:
        raise InputError(f"study: the planning processes cannot start: {error}") from error
    if damaged:
        say(f"rollout cache: {damaged} damaged places dropped, what they held was imagined again")
    return lost


def keep(study: Study, scene_id: str) -> None:
    """Keep a scene's shard for equal studies; not to be called where a planner failed: it may have been the machine."""
    from experiments.ledger import shard_path

    study.kept.write(_shard_key(study, scene_id), shard_path(study.run, scene_id).read_bytes())


def recall(study: Study, scene_ids: Sequence[str]) -> tuple[str, ...]:
    """Those of the scenes whose shards an equal study kept, after they were put into the run folder."""
    from experiments.files import write_bytes
    from experiments.ledger import finished, shard_path

    for scene in scene_ids:
        content = study.kept.read(_shard_key(study, scene))
        if content is not None:
            write_bytes(shard_path(study.run, scene), content)
    return finished(study.run, study.digest, scene_ids)


def _shard_key(study: Study, scene_id: str) -> str:
    return key_of("planned", study.digest, scene_id)


def run_report(config: ReportConfig) -> int:
    """`wmplan report`: the report of a finished study, written again."""
    from experiments.prepared import stored_config
    from experiments.report import write_report

    folder = Path(config.run)
    about = stored_config(folder)
    print(write_report(folder, Path(about["store"]), about["model"]))
    return 0
