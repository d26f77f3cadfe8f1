"""An audit before it runs: its config resolved to a store, a model, scenes, a folder and a digest of all of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments import assembly
from experiments.audit.settings import IRRELEVANT, AuditCommand
from experiments.files import write_text
from experiments.logs import code_digest, resolve_store
from experiments.results import commit
from experiments.scoring import row_bytes, rows_within
from experiments.validate.scenes import some
from wmplan.errors import InputError
from wmplan.scene import STEP_S
from wmplan.store import SceneStore

CONFIG = "config.json"


@dataclass(frozen=True)
class Audit:
    """What every process of an audit is told; picklable. Under `run/sealed` lies what no scoring process may read."""

    config: AuditCommand
    store: Path
    model: str
    run: Path
    cache: Path | None
    digest: str
    scene_ids: tuple[str, ...]
    groups: tuple[str, ...]
    """The group of each scene."""

    @property
    def steps(self) -> int:
        """Plan steps of `STEP_S`."""
        return round(self.config.horizon_s / STEP_S)

    @property
    def name(self) -> str:
        """How tables call the model."""
        return Path(self.model).name


def prepare(config: AuditCommand) -> Audit:
    """The audit that a config asks for; logs are ingested where that was not done before.

    Scenes whose group the model was trained on are left out.

    Raises:
        InputError: logs or a model that do not exist, no scene that the model was not trained on, too little memory, or
            a folder that holds something else.
    """
    config.check()
    cache = Path(config.cache).resolve() if config.cache else None
    spec = assembly.model_spec(config.model)
    model = assembly.build_model(spec, config.horizon_s)
    composite = assembly.build_composite(spec, config.horizon_s, config.weights)
    fitting = rows_within(config.memory_mib * 2**20, model, config.samples)
    if config.placebos and fitting < config.candidates:
        need = row_bytes(model, config.samples) * config.candidates / 2**20
        raise InputError(
            f"audit: memory_mib is {config.memory_mib}, placebos of {config.candidates} candidates expect about "
            f"{2.0 * need + 64.0:.0f}; or say placebos=false"
        )
    store_path = resolve_store(config.logs, cache or Path("runs/cache").resolve())
    store = SceneStore.open(store_path)
    index = store.index()
    wanted = index[index["split"] == config.logs.split] if config.logs.split else index
    unseen = wanted[~wanted["group"].isin(assembly.trained_groups(spec))]
    chosen = some(unseen["scene_id"].tolist(), config.scenes)
    if len(chosen) < 2:
        raise InputError(
            f"{store_path}: {len(unseen)} scenes ({len(wanted) - len(unseen)} more were trained on), "
            "expected at least 2 to audit"
        )
    group_of = dict(zip(unseen["scene_id"], unseen["group"].astype(str)))
    relevant = {name: value for name, value in asdict(config).items() if name not in IRRELEVANT}
    content = [relevant, store.digest, model.digest, composite.terms_digest, list(chosen), code_digest()]
    digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()
    run = Path(config.out or f"runs/audit-{digest}").resolve()
    audit = Audit(config, store_path, spec, run, cache, digest, chosen, tuple(group_of[scene] for scene in chosen))
    _claim(audit)
    return audit


def _claim(audit: Audit) -> None:
    """Make the folder this audit's, unless it is another's or something else."""
    path = audit.run / CONFIG
    if path.exists():
        known = json.loads(path.read_text()).get("digest")
        if known != audit.digest and not audit.config.overwrite:
            raise InputError(
                f"{audit.run}: holds another audit (digest {known}, this one is {audit.digest}), "
                "expected an empty folder; choose another out= or say overwrite=true"
            )
        if known != audit.digest:
            shutil.rmtree(audit.run)
    elif audit.run.exists() and any(audit.run.iterdir()):
        raise InputError(f"{audit.run}: is not empty and holds no audit, expected an empty or new folder for out=")
    for folder in ("pools", "scores", "sealed"):
        (audit.run / folder).mkdir(parents=True, exist_ok=True)
    about = {
        "digest": audit.digest,
        "store": str(audit.store),
        "model": audit.model,
        "scenes": len(audit.scene_ids),
        "commit": commit(),
        "config": asdict(audit.config),
    }
    write_text(path, json.dumps(about, indent=1, default=str) + "\n")
