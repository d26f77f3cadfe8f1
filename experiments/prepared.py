"""A study before it runs: its config resolved to a store, a model, planners, a folder and a digest of all of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.files import write_text
from experiments.kept import Kept, folder_digest, key_of
from experiments.ledger import SHARDS
from wmplan.errors import InputError

if TYPE_CHECKING:
    from experiments.study import StudyConfig

CONFIG = "config.json"
IRRELEVANT = (
    "name", "workers", "executor", "ray_address", "out", "cache", "cache_gib", "memory_mib", "tracking_uri",
    "experiment", "mlflow", "report", "overwrite",
)  # fmt: skip
"""Fields that cannot change a result."""


@dataclass(frozen=True)
class Study:
    """What every process of a study is told; picklable."""

    config: StudyConfig
    store: Path
    model: str
    run: Path
    cache: Path | None
    digest: str
    columns: tuple[str, ...]
    scene_ids: tuple[str, ...]
    digests: dict[str, str]
    """Digests of data, model and critics."""

    @property
    def compared(self) -> Path:
        """Folder in whose `sealed` the comparisons with real outcomes are kept."""
        return (self.cache or self.run) / "compared"

    @property
    def model_files(self) -> str:
        """Digest of all files of the model's folder: its card and what was found out about it change no candidate, but
        they change what is said of the study."""
        return folder_digest(Path(self.model))

    @property
    def kept(self) -> Kept:
        """What was worked out before and holds nothing of the futures."""
        return Kept(self.cache / "kept" if self.cache else None)

    @property
    def kept_sealed(self) -> Kept:
        """What was worked out before from real outcomes: closed to planning processes."""
        return Kept(self.compared / "sealed" if self.cache else None)

    @property
    def planners(self) -> tuple[str, ...]:
        """Names of the optimizers and baselines, sorted."""
        return tuple(sorted((*self.config.optimizers, *self.config.baselines)))


def prepare(config: StudyConfig) -> Study:
    """The study that a config asks for; logs are ingested where that was not done before.

    Raises:
        InputError: logs, model, optimizers or baselines that do not exist; a run folder that holds another study.
    """
    from experiments.logs import resolve_store
    from wmplan.store import SceneStore

    check(config)
    cache = Path(config.cache).resolve() if config.cache else None
    model = resolve(config, Kept(cache / "kept" if cache else None))
    store_path = resolve_store(config.logs, cache or Path("runs/cache").resolve())
    store = SceneStore.open(store_path)
    index = store.index()
    wanted = index[index["split"] == config.logs.split] if config.logs.split else index
    scene_ids = tuple(wanted["scene_id"])[: config.limit or None]
    if not scene_ids:
        raise InputError(f"{store_path}: no scenes of split {config.logs.split or 'any'!r}, expected at least one")
    digests = {
        "data": store.digest,
        "sealed": store.manifest.sealed_digest,
        "model": model.digest,
        "critics": model.critics,
    }
    relevant = {key: value for key, value in asdict(config).items() if key not in (*IRRELEVANT, "logs", "model")}
    relevant["scenes"] = hashlib.blake2b("\n".join(scene_ids).encode(), digest_size=16).hexdigest()
    digest = hashlib.blake2b(json.dumps([relevant, digests], sort_keys=True).encode(), digest_size=8).hexdigest()
    run = Path(config.out or f"runs/{config.name}-{digest}").resolve()
    study = Study(config, store_path, model.spec, run, cache, digest, model.columns, scene_ids, digests)
    _claim(study)
    make_folders(study)
    return study


@dataclass(frozen=True)
class Resolved:
    """What a config's model and critics are."""

    spec: str
    """What `wmplan.models.load_model` takes."""
    digest: str
    critics: str
    """Digest of the critics."""
    columns: tuple[str, ...]
    """Their terms."""


def resolve(config: StudyConfig, kept: Kept) -> Resolved:
    """Model and critics of a config, after planners and memory were found to fit; kept by all that decides it, so that
    a study that was prepared before loads no network.

    Raises:
        InputError: a model, optimizers, baselines or settings that do not exist; too little memory.
    """
    from experiments.files import SHIPPED

    folders = [(str(place.resolve()), folder_digest(place)) for place in (SHIPPED / config.model, Path(config.model))]
    free = (*(name for name in IRRELEVANT if name != "memory_mib"), "logs")
    key = key_of("prepared", {name: value for name, value in asdict(config).items() if name not in free}, folders)
    known = kept.read(key)
    if known is not None:
        spec, digest, critics, columns = json.loads(known)
        return Resolved(spec, digest, critics, tuple(columns))
    from experiments import assembly
    from experiments.scoring import rows_within

    assembly.check_planners(config)
    spec = assembly.model_spec(config.model)
    model = assembly.build_model(spec, config.horizon_s, config.precision)
    rows_within(config.memory_mib * 2**20, model, config.samples)
    composite = assembly.build_composite(spec, config.horizon_s, config.weights, config.risk)
    kept.write(key, json.dumps([spec, model.digest, composite.digest, composite.columns]).encode())
    return Resolved(spec, model.digest, composite.digest, composite.columns)


def check(config: StudyConfig) -> None:
    """Raises InputError for numbers that no study can have."""
    least = {"candidates": 4, "samples": 2, "workers": 1, "limit": 0}
    for name, bound in least.items():
        if getattr(config, name) < bound:
            raise InputError(f"study: {name} is {getattr(config, name)}, expected at least {bound}")
    if not config.cache_gib > 0.0:
        raise InputError(f"study: cache_gib is {config.cache_gib}, expected more than 0 (cache= turns the cache off)")
    if not 0.5 <= config.horizon_s <= 8.0 or (2.0 * config.horizon_s) % 1.0:
        raise InputError(f"study: horizon_s is {config.horizon_s}, expected a multiple of 0.5 between 0.5 and 8")


def stored_config(run: Path) -> dict[str, Any]:
    """What `config.json` of a run folder says.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    try:
        return dict(json.loads((run / CONFIG).read_text()))
    except (OSError, ValueError) as error:
        raise InputError(f"{run}: no readable {CONFIG} there, expected the folder of a study") from error


def make_folders(study: Study) -> None:
    """Make every folder that the workers write into: what they make themselves the kernel's guard would close."""
    places = [study.run / SHARDS, study.compared / "sealed"]
    if study.cache is not None:
        places += [study.cache / "terms", study.cache / "compiled"]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)


def _claim(study: Study) -> None:
    """Make the run folder this study's, unless it is another's."""
    import shutil

    path = study.run / CONFIG
    if path.exists():
        known = stored_config(study.run).get("digest")
        if known == study.digest:
            return
        if not study.config.overwrite:
            raise InputError(
                f"{study.run}: holds another study (digest {known}, this one is {study.digest}), "
                "expected an empty folder; choose another out= or say overwrite=true"
            )
        shutil.rmtree(study.run)
    elif study.run.exists() and any(study.run.iterdir()):
        raise InputError(f"{study.run}: is not empty and holds no study, expected an empty or new folder for out=")
    from experiments.results import commit

    about = {
        "digest": study.digest,
        "digests": study.digests,
        "store": str(study.store),
        "model": study.model,
        "scenes": len(study.scene_ids),
        "commit": commit(),
        "config": asdict(study.config),
    }
    write_text(path, json.dumps(about, indent=1, default=str) + "\n")
