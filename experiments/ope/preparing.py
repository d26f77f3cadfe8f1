"""A run before it starts: models, policies and scenes found, a folder claimed; own policies tried."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import wmplan
from experiments import assembly
from experiments.files import write_text
from experiments.kept import folder_digest
from experiments.logs import code_digest
from experiments.ope import entrants, listing, shards
from experiments.ope.settings import Listed, OpeCommand, Settings
from experiments.policies import CHECKPOINTS
from experiments.processes import WorkersBroken, run_tasks
from experiments.progress import say, track
from experiments.results import commit
from experiments.validate.contenders import name_of
from wmplan.errors import InputError

CONFIG, SCENES, TRIALS = "config.json", "scenes.json", "trials.json"
SHAPING = (
    "closed_loop.py", "imagining.py", "driving.py", "fleet.py", "held.py", "seen.py", "oracle.py", "replay.py",
    "logged.py", "working.py", "highway.py",
)  # fmt: skip
"""Files here whose code decides what is in a shard."""


@dataclass(frozen=True)
class Prepared:
    """What is run: settings for the processes; every policy asked for; those that failed their trial, and why; digest
    of the run and of what went into it."""

    settings: Settings
    policies: tuple[str, ...]
    rejected: dict[str, str]
    digest: str
    digests: dict[str, str]

    @property
    def truth_from(self) -> Path:
        """The folder of the run whose truth counts."""
        return Path(self.settings.command.truth).resolve() if self.settings.command.truth else self.settings.out


def prepare(command: OpeCommand) -> Prepared:
    """The run that a command asks for.

    Raises:
        InputError: no such model, policy, logs; a folder that holds another run.
    """
    command.check()
    policies = entrants.wanted(command.policies)
    specs = tuple((name_of(spec), spec) for spec in map(assembly.model_spec, command.models))
    if len({name for name, _ in specs}) < len(specs):
        raise InputError(f"ope: models {list(command.models)} share a name, expected each name once")
    digests = {f"model/{name}": assembly.build_model(spec, command.horizon_s).digest for name, spec in specs}
    seen = frozenset[str]().union(*(assembly.trained_groups(spec) for _, spec in specs))
    if listing.is_simulated(command):
        items, known, data = listing.items_of(command, seen), None, command.logs
    else:
        known, data = listing.of_store(command, seen)
    code = _code(entrants.own(policies))
    digest = command.digest(digests, data, code)
    out = Path(command.out or f"runs/ope-{digest}").resolve()
    _claim(command, out, digest, {**digests, "data": data, "code": code})
    shards.make_folders(out)
    if command.cache:
        (Path(command.cache).resolve() / "compiled").mkdir(parents=True, exist_ok=True)
    listed = known if known is not None else _listed(command, items, out)
    settings = Settings(command, specs, policies, listing.some(listed, command.scenes), out)
    command.check_executed(len(settings.scenes))
    rejected = _tried(settings, out)
    kept = tuple(name for name in policies if name not in rejected)
    if not kept:
        raise InputError(f"ope: no policy can drive: {next(iter(rejected.values()))}")
    return Prepared(replace(settings, policies=kept), policies, rejected, digest, {**digests, "data": data})


def stored_config(out: Path) -> dict[str, Any]:
    """What `config.json` of a run folder says.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    try:
        return dict(json.loads((out / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{out}: no readable {CONFIG} there, expected the folder of wmplan ope") from error


def _claim(command: OpeCommand, out: Path, digest: str, digests: dict[str, str]) -> None:
    """Make the folder this run's, unless it is another's."""
    path = out / CONFIG
    if path.exists():
        found = stored_config(out).get("digest")
        if found != digest:
            if not command.overwrite:
                raise InputError(
                    f"{out}: holds another run (digest {found}, this one is {digest}), expected an empty folder; "
                    "choose another out= or say overwrite=true"
                )
            shutil.rmtree(out)
        else:
            say(f"ope: going on in {out}")
            return
    elif out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: is not empty and holds no run, expected an empty or new folder for out=")
    about = {"digest": digest, "digests": digests, "commit": commit(), "config": asdict(command)}
    write_text(path, json.dumps(about, indent=1) + "\n")


def _listed(command: OpeCommand, items: Sequence[str], out: Path) -> tuple[Listed, ...]:
    """The scenes of simulated logs, kept once they are known."""
    path = out / SCENES
    if not path.is_file():
        found: dict[str, list[Listed]] = {}
        tasks = run_tasks("experiments.ope.listing:indexing", command, items, 1, (), command.carried_out_by)
        for one in track(tasks, "scenes", len(items)):
            if one.error:
                raise InputError(f"ope: log {one.task}: {one.error}")
            found[one.task] = one.result
        write_text(path, json.dumps([asdict(one) for item in items for one in found[item]]) + "\n")
    return tuple(Listed(**row) for row in json.loads(path.read_text()))


def _tried(settings: Settings, out: Path) -> dict[str, str]:
    """Own policies that cannot drive, and why; what was found out is kept."""
    names = entrants.own(settings.policies)
    path = out / TRIALS
    if names and not path.is_file():
        found: dict[str, str] = {}
        try:
            tasks = run_tasks("experiments.ope.working:trying", settings, names, 1)
            for one in track(tasks, "trials", len(names)):
                found[one.task] = _said(one.error, settings.command.timeout_s)
        except WorkersBroken as error:
            raise InputError(f"ope: a policy's trial cannot start: {error}") from error
        write_text(path, json.dumps({name: found[name] for name in names}) + "\n")
    if not names:
        return {}
    return {name: reason for name, reason in json.loads(path.read_text()).items() if reason}


def _said(error: str, seconds: float) -> str:
    return f"took more than {seconds:g} s for its first steps" if error.endswith("status -14") else error


def _code(own: Sequence[str]) -> str:
    """Digest of the code that decides what is in a shard, and of the learned policies; own ones by their module's
    file."""
    import importlib.util

    digest = hashlib.blake2b(f"{code_digest()} {folder_digest(CHECKPOINTS)}".encode(), digest_size=8)
    root = Path(wmplan.__file__).parent
    paths = [Path(__file__).parent / name for name in SHAPING]
    paths += [*sorted((root / "simulator" / "policies").glob("*.py")), root / "validation" / "instances.py"]
    for name in own:
        try:
            found = importlib.util.find_spec(name.partition(":")[0])
        except (ImportError, ValueError):
            found = None
        if found is not None and found.origin:
            paths.append(Path(found.origin))
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
