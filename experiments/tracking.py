"""A finished study in MLflow: one parent run per study, one child per planner, few headline metrics, tables as files.

Candidates are never runs: they are in the ledger, which is logged as one artifact. MLflow is loaded when it is needed.
"""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.files import write_bytes, write_text
from experiments.kept import NOWHERE, Kept
from wmplan.errors import InputError

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
)
DATABASE = "mlflow.db"
"""The SQLite store in a run folder."""
RECORD = "mlflow.json"
"""Where a run folder keeps which MLflow runs it became, so that a study that goes on does not log twice."""
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
    """What one run holds: its name, parameters, tags and headline metrics."""

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    headlines: tuple[Headline, ...]


@dataclass(frozen=True)
class UploadConfig:
    """What to log where."""

    run: str
    """Folder of a finished study."""
    tracking_uri: str = ""
    """MLflow server or store, e.g. http://localhost:5000 or sqlite:///mlflow.db; empty = SQLite in the run folder."""
    experiment: str = "wmplan"
    """MLflow experiment."""
    again: bool = False
    """Log once more although the folder says that it was logged there."""


def default_uri(run: Path) -> str:
    """The SQLite store inside a run folder."""
    return f"sqlite:///{(run / DATABASE).resolve()}"


def upload(
    run: Path,
    uri: str,
    experiment: str,
    study: Page,
    planners: Sequence[Page],
    again: bool = False,
    kept: Kept = NOWHERE,
) -> str:
    """Id of the study's MLflow run, after it and its children were logged. `kept` may hold an empty SQLite store.

    Raises:
        ConnectionError: the store cannot be reached or refuses; the message is one line.
    """
    uri = uri or default_uri(run)
    record = run / RECORD
    if record.exists() and not again:
        known = json.loads(record.read_text())
        if known.get("tracking_uri") == uri and known.get("finished"):
            return str(known["run_id"])

    def log() -> str:
        if uri == default_uri(run):
            _begin_store(run, kept)
        return _log(run, uri, experiment, study, planners)

    run_id = reached(log)
    write_text(record, json.dumps({"tracking_uri": uri, "run_id": run_id, "finished": True}, indent=1) + "\n")
    return run_id


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


def run_upload(config: UploadConfig) -> int:
    """`wmplan upload`: log a finished study, or a finished run of `wmplan ope`."""
    run = Path(config.run)
    if (run / "manifest.json").exists():
        from experiments.ope.mlflow_pages import pages
    elif (run / "agreement.json").exists():
        from experiments.summary import pages
    else:
        raise InputError(f"{run}: no agreement.json there, expected the folder of a finished study")
    study, planners = pages(run)
    try:
        run_id = upload(run, config.tracking_uri, config.experiment, study, planners, config.again)
    except ConnectionError as error:
        raise InputError(f"MLflow at {config.tracking_uri or default_uri(run)}: {error}") from error
    print(f"MLflow run {run_id} at {config.tracking_uri or default_uri(run)}")
    return 0


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


def _log(run: Path, uri: str, experiment: str, study: Page, planners: Sequence[Page]) -> str:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment_id = experiment_of(client, run, uri, experiment)
    parent = write_page(client, experiment_id, study, {})
    for name in ARTIFACTS:
        if (run / name).exists():
            client.log_artifact(parent, str(run / name))
    for page in planners:
        child = write_page(client, experiment_id, page, {"mlflow.parentRunId": parent})
        client.set_terminated(child)
    client.set_terminated(parent)
    return parent


def experiment_of(client: Any, folder: Path, uri: str, name: str) -> str:
    """Id of the experiment of this name; a new one of an SQLite store keeps its files in the folder."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    place = (folder / "mlruns").resolve().as_uri() if uri.startswith("sqlite:") else None
    return str(client.create_experiment(name, artifact_location=place))


def write_page(client: Any, experiment_id: str, page: Page, tags: dict[str, str]) -> str:
    from mlflow.entities import Metric, Param, RunTag

    run_id = str(client.create_run(experiment_id, run_name=page.name, tags=tags).info.run_id)
    metrics = {name: value for headline in page.headlines for name, value in headline.metrics().items()}
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, 0, 0) for name, value in metrics.items()],
        params=[Param(name, value[:6000]) for name, value in page.params.items()],
        tags=[RunTag(name, value) for name, value in page.tags.items()],
    )
    return run_id
