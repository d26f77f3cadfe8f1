"""A finished run in MLflow: one parent run, one child per planner or estimator, few headline metrics, tables as files.

Candidates are never runs: they are in the ledger, which is logged as one artifact. MLflow is loaded when it is needed.
What could not be logged is noted in the run's folder, for `wmplan mlflow sync` (`experiments.mlflow_sync`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.files import sha256, write_bytes, write_text
from experiments.kept import NOWHERE, Kept

ARTIFACTS = (
    "ranked_actions.parquet",
    "per_scene.parquet",
    "outcomes.parquet",
    "agreement.json",
    "report.html",
    "config.json",
    "values.parquet",
    "estimates.parquet",
    "agreement.parquet",
    "differences.parquet",
    "failures.parquet",
    "weights.parquet",
    "manifest.json",
    "ope.html",
    "powered.parquet",
    "audit.json",
    "audit.html",
    "candidates.parquet",
    "rankings.parquet",
    "decisions.parquet",
    "review.parquet",
    "card.json",
    "MODEL_CARD.md",
)
DATABASE = "mlflow.db"
"""The SQLite store in a run folder."""
RECORD = "mlflow.json"
"""Where a run folder keeps which MLflow runs it became, and which it was to become: nothing is logged twice or lost."""
UPLOAD = "wmplan.upload"
"""Tag of a run in MLflow: digest of what was logged."""
AT_ONCE = 1000
"""MLflow takes so many metrics in one call."""
LEGAL = re.compile(r"[^A-Za-z0-9_\-.: /]")


@dataclass(frozen=True)
class Headline:
    """A metric with its 95 % interval, NaN where there is none; `name` may hold letters, digits and `_ - . : /`."""

    name: str
    value: float
    lower: float = float("nan")
    upper: float = float("nan")

    def metrics(self) -> dict[str, float]:
        """The finite ones of the value and its bounds, by legal MLflow names."""
        legal = LEGAL.sub("_", self.name)
        named = {legal: self.value, f"{legal}/ci_lower": self.lower, f"{legal}/ci_upper": self.upper}
        return {name: float(value) for name, value in named.items() if math.isfinite(value)}


@dataclass(frozen=True)
class Page:
    """What one run holds: its name, parameters, tags and headline metrics; a curve's points as metric, step, value."""

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    headlines: tuple[Headline, ...]
    curve: tuple[tuple[str, int, float], ...] = ()


@dataclass(frozen=True)
class Place:
    """A store and an experiment there; `run_id` of what was logged, empty where that is still owed."""

    uri: str
    experiment: str
    run_id: str = ""


def default_uri(run: Path) -> str:
    """The SQLite store inside a run folder."""
    return f"sqlite:///{(run / DATABASE).resolve()}"


def upload(
    run: Path,
    uri: str,
    experiment: str,
    study: Page,
    children: Sequence[Page],
    again: bool = False,
    kept: Kept = NOWHERE,
) -> str:
    """Id of the MLflow run, after it and its children were logged. `kept` may hold an empty SQLite store.

    What the folder says is there is not logged again, nor what the store itself has (unless `again`); what an earlier
    try left unfinished there is deleted first.

    Raises:
        ConnectionError: the store cannot be reached or refuses; the message is one line, and the folder notes that the
            run is owed.
    """
    uri = uri or default_uri(run)
    if not again and (known := logged_to(run, uri)):
        return known

    def log() -> str:
        if uri == default_uri(run):
            _begin_store(run, kept)
        return _log(run, uri, experiment, study, children, again)

    try:
        run_id = reached(log)
    except ConnectionError:
        _note(run, Place(uri, experiment))
        raise
    _note(run, Place(uri, experiment, run_id))
    return run_id


def logged_to(run: Path, uri: str) -> str:
    """Id of the MLflow run that a run folder became at this store; empty where it became none."""
    return next((place.run_id for place in _noted(run) if place.uri == uri), "")


def owed(run: Path) -> list[Place]:
    """Where a run folder could not be logged yet."""
    return [place for place in _noted(run) if not place.run_id]


def _noted(run: Path) -> list[Place]:
    try:
        return [Place(**row) for row in json.loads((run / RECORD).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def _note(run: Path, place: Place) -> None:
    """Keep one place in the folder, in the place of what was noted of the same store."""
    there = logged_to(run, place.uri)
    if there and not place.run_id:
        return  # an `again` that failed takes nothing back
    rows = [asdict(other) for other in _noted(run) if other.uri != place.uri] + [asdict(place)]
    write_text(run / RECORD, json.dumps(rows, indent=1) + "\n")


def reached(log: Callable[[], str]) -> str:
    """What `log` returns, with MLflow kept quiet and impatient.

    Raises:
        ConnectionError: it failed, for whatever reason; the message is one line.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations between MLflow and SQLAlchemy are not the user's
            return log()
    except Exception as error:  # MLflow raises its own, SQLAlchemy's, requests' and the operating system's
        raise ConnectionError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def _begin_store(run: Path, kept: Kept) -> None:
    """Make the run folder's SQLite store without anything in it, unless it is there.

    MLflow builds its tables by going through all schemas that it ever had, which takes seconds; the outcome depends on
    its version alone.
    """
    path = run / DATABASE
    if path.exists():
        return
    key = f"mlflow-{version('mlflow')}-{version('sqlalchemy')}-{version('alembic')}"
    content = kept.read(key)
    if content is None:
        from mlflow.tracking import MlflowClient

        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / DATABASE
            MlflowClient(tracking_uri=f"sqlite:///{fresh}").search_experiments(max_results=1)
            with closing(sqlite3.connect(fresh)) as base, base:
                base.execute("delete from experiments")  # the default one names the folder that it was made in
            content = fresh.read_bytes()
        kept.write(key, content)
    write_bytes(path, content)


def _log(run: Path, uri: str, experiment: str, study: Page, children: Sequence[Page], again: bool) -> str:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment_id = experiment_of(client, run, uri, experiment)
    files = [run / name for name in ARTIFACTS if (run / name).exists()]
    digest = _digest(study, children, files)
    if not again and (there := _already(client, experiment_id, digest)):
        return there
    parent = write_page(client, experiment_id, study, {UPLOAD: digest})
    for path in files:
        client.log_artifact(parent, str(path))
    for page in children:
        child = write_page(client, experiment_id, page, {"mlflow.parentRunId": parent})
        client.set_terminated(child)
    client.set_terminated(parent)
    return parent


def _digest(study: Page, children: Sequence[Page], files: Sequence[Path]) -> str:
    """Of all that is logged."""
    digest = hashlib.blake2b(repr((study, list(children))).encode(), digest_size=16)
    for path in files:
        digest.update(f"{path.name} {sha256(path)}".encode())
    return digest.hexdigest()


def _already(client: Any, experiment_id: str, digest: str) -> str:
    """Id of the finished run that holds this already, empty where there is none. A parent is finished last: one that
    is not is what a try left that was cut off, and goes with its children."""
    for found in client.search_runs([experiment_id], f"tags.`{UPLOAD}` = '{digest}'"):
        if found.info.status == "FINISHED":
            return str(found.info.run_id)
        for child in client.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{found.info.run_id}'"):
            client.delete_run(child.info.run_id)
        client.delete_run(found.info.run_id)
    return ""


def experiment_of(client: Any, folder: Path, uri: str, name: str) -> str:
    """Id of the experiment of this name; a new one of an SQLite store keeps its files beside the store."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    place = None
    if uri.startswith("sqlite:"):
        beside = folder if uri == default_uri(folder) else Path(uri.removeprefix("sqlite:///")).parent
        place = (beside / "mlruns").resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def write_page(client: Any, experiment_id: str, page: Page, tags: dict[str, str]) -> str:
    """Id of the MLflow run of one page; its status is still running."""
    from mlflow.entities import Metric, Param, RunTag

    run_id = str(client.create_run(experiment_id, run_name=page.name, tags=tags).info.run_id)
    metrics = {name: value for headline in page.headlines for name, value in headline.metrics().items()}
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, 0, 0) for name, value in metrics.items()],
        params=[Param(name, value[:6000]) for name, value in page.params.items()],
        tags=[RunTag(name, value) for name, value in page.tags.items()],
    )
    points = [Metric(name, value, 0, step) for name, step, value in page.curve]
    for first in range(0, len(points), AT_ONCE):
        client.log_batch(run_id, metrics=points[first : first + AT_ONCE])
    return run_id
