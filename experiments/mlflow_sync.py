"""`wmplan mlflow sync`: finished runs that are not in MLflow yet, brought there; those that are stay as they are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.configs import load
from experiments.progress import say
from experiments.tracking import Page, Place, default_uri, logged_to, owed, upload
from wmplan.errors import InputError


@dataclass(frozen=True)
class SyncConfig:
    """Which runs to bring where."""

    folder: str = "runs"
    """Folder of a finished study, ope, audit or training, or one that such folders lie in."""
    tracking_uri: str = ""
    """MLflow server or store, e.g. http://localhost:5000 or sqlite:///mlflow.db; empty = where each run was told to be
    logged. Runs that were told nothing, or mlflow=false, are left out unless the folder is theirs."""
    experiment: str = ""
    """MLflow experiment; empty = the one that each run was told."""
    again: bool = False
    """Log once more what is there already."""


@dataclass(frozen=True)
class Sort:
    """A sort of run: the files that a finished one has, and what makes its pages (`module:function`)."""

    name: str
    files: tuple[str, ...]
    pages: str
    experiment: str = "wmplan"


SORTS = (
    Sort("ope", ("manifest.json", "estimates.parquet"), "experiments.ope.mlflow_pages:pages"),
    Sort("audit", ("audit.json", "rankings.parquet"), "experiments.audit.mlflow_pages:pages"),
    Sort("study", ("agreement.json", "per_scene.parquet"), "experiments.summary:pages"),
    Sort("training", ("card.json", "model.safetensors"), "experiments.tracked_training:pages", "wmplan training"),
)
PASSED_OVER = frozenset({"cache", "mlruns"})
"""Folders among the runs that hold none."""


def run(config: SyncConfig) -> int:
    """Sync every run under the folder and say what became of each; the exit status.

    Raises:
        InputError: no finished run there; or MLflow cannot be reached, in which case what was logged stays logged and
            the same command goes on.
    """
    folder = Path(config.folder)
    found = list(runs_under(folder))
    if not found:
        raise InputError(f"{folder}: no finished study, ope, audit or training there, expected one or more")
    new, failed = 0, []
    for path, sort in found:
        for place in _places(path, sort, config, named=path == folder):
            if logged_to(path, place.uri) and not config.again:
                print(f"{sort.name} {path}: is at {place.uri}")
                continue
            make: Callable[[Path], tuple[Page, Sequence[Page]]] = load(sort.pages)
            try:
                run_id = upload(path, place.uri, place.experiment, *make(path), again=config.again)
            except ConnectionError as error:
                say(f"{sort.name} {path}: MLflow at {place.uri}: {error}")
                failed.append(place.uri)
                continue
            new += 1
            print(f"{sort.name} {path}: MLflow run {run_id} at {place.uri}")
    if failed:
        where = ", ".join(dict.fromkeys(failed))
        raise InputError(f"mlflow sync: {len(failed)} runs are not at {where}; nothing is lost, sync again later")
    print(f"{len(found)} finished runs, {new} logged now")
    return 0


def runs_under(folder: Path) -> Iterator[tuple[Path, Sort]]:
    """Every finished run in a folder, itself included, sorted by path."""
    for place, folders, files in os.walk(folder):
        sort = next((sort for sort in SORTS if set(sort.files) <= set(files)), None)
        folders[:] = sorted(name for name in folders if name not in PASSED_OVER) if sort is None else []
        if sort is not None:
            yield Path(place), sort


def _places(path: Path, sort: Sort, config: SyncConfig, named: bool) -> list[Place]:
    """Where a run should be: where the command says, else where it could not be logged, else where it was told."""
    told = _told(path)
    experiment = config.experiment or str(told.get("experiment") or sort.experiment)
    if config.tracking_uri:
        return [Place(config.tracking_uri, experiment)]
    if waiting := owed(path):
        return [Place(place.uri, config.experiment or place.experiment) for place in waiting]
    if told.get("mlflow", False) or named:
        return [Place(str(told.get("tracking_uri") or default_uri(path)), experiment)]
    return []


def _told(path: Path) -> dict[str, object]:
    """What the run's own config says; nothing where it keeps none."""
    try:
        return dict(json.loads((path / "config.json").read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
