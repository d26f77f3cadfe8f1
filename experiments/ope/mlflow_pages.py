"""A finished run in MLflow: a parent run with the tables, a child for each estimator with its figures of agreement."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.ope.preparing import stored_config
from experiments.ope.results import Finished, rows_of
from experiments.ope.settings import OpeCommand
from experiments.progress import say
from experiments.tracking import Headline, Page, upload


def track(found: Finished, command: OpeCommand) -> None:
    """Log the run; where that fails the results stay, and one line says how to log them later."""
    page, children = pages(found.folder)
    try:
        upload(found.folder, command.tracking_uri, command.experiment, page, children)
    except ConnectionError as error:
        say(f"MLflow: {error}; the results are kept, log them later with: wmplan mlflow sync {found.folder}")


def pages(run: Path) -> tuple[Page, list[Page]]:
    """The run's page and one for each estimator.

    Raises:
        InputError: no finished run there.
    """
    found, about = Finished.open(run), stored_config(run)
    manifest, config = found.manifest, about["config"]
    params = {name: json.dumps(value) if isinstance(value, list) else str(value) for name, value in config.items()}
    tags = {"digest": about["digest"], "commit": about["commit"], "config_seed": str(config["seed"])}
    tags |= {f"digest/{name}": value for name, value in about["digests"].items()}
    counts = {
        "scenes": manifest.scenes,
        "groups": manifest.groups,
        "policies": len(manifest.policies),
        "failed_scenes": manifest.failed_scenes,
    }
    parent = Page("ope", params, tags, tuple(Headline(name, float(value)) for name, value in counts.items()))
    return parent, [_child(found, name) for name in manifest.estimators]


def _child(found: Finished, estimator: str) -> Page:
    rows = [row for row in rows_of(found.agreement) if row.estimator == estimator]
    headlines = [Headline(f"{row.truth}/{row.score}/{row.metric}", row.value, *row.over_scenes) for row in rows]
    refused = found.estimates[found.estimates["estimator"] == estimator]["refused"] != ""
    headlines.append(Headline("refused_share", float(refused.mean())))
    return Page(estimator, {"estimator": estimator}, {}, tuple(headlines))
