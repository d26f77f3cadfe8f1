"""A finished audit in MLflow: a parent run with figures and tables, a child for each contender with its rankings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.audit.prepared import CONFIG
from experiments.audit.record import FIGURES, RANKINGS
from experiments.audit.settings import AuditCommand
from experiments.audit.within import COST
from experiments.progress import say
from experiments.tracking import Headline, Page, upload
from wmplan.errors import InputError


def track(run: Path, command: AuditCommand) -> None:
    """Log the audit; where that fails the results stay, and one line says how to log them later."""
    page, children = pages(run)
    try:
        upload(run, command.tracking_uri, command.experiment, page, children)
    except ConnectionError as error:
        say(f"MLflow: {error}; the results are kept, log them later with: wmplan mlflow sync {run}")


def pages(run: Path) -> tuple[Page, list[Page]]:
    """The audit's page and one for each contender, which holds how the cost orders candidates under it.

    Raises:
        InputError: no finished audit there.
    """
    try:
        about, found = (json.loads((run / name).read_text(encoding="utf-8")) for name in (CONFIG, FIGURES))
        rankings = pd.read_parquet(run / RANKINGS)
    except (OSError, ValueError) as error:
        raise InputError(f"{run}: no readable audit there ({error})") from error
    config = about["config"]
    tags = {"digest": about["digest"], "commit": about["commit"], "config_seed": str(config["seed"])}
    counts = [Headline(name, float(found[name])) for name in ("scenes", "groups", "candidates")]
    counts.append(Headline("skipped_scenes", float(len(found["skipped"]))))
    figures = [Headline(one["name"], *_bounds(one)) for one in found["headlines"]]
    params = {name: _text(value) for name, value in config.items()}
    parent = Page("audit", params, tags, (*counts, *figures))
    mine = rankings[rankings["critic"] == COST]
    return parent, [
        Page(
            str(contender),
            {"contender": str(contender)},
            {},
            tuple(
                Headline(f"{real}/{metric}", float(value), float(low), float(high))
                for real, metric, value, low, high in part[["real", "metric", "value", "low", "high"]].itertuples(
                    index=False, name=None
                )
            ),
        )
        for contender, part in mine.groupby("contender", sort=False)
    ]


def _bounds(one: dict[str, Any]) -> tuple[float, float, float]:
    value, low, high = (math.nan if one[name] is None else float(one[name]) for name in ("value", "low", "high"))
    return value, low, high


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
