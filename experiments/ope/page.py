"""The page of a run: estimates beside the truth, agreement with both intervals, what was refused; one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from experiments.files import write_text
from experiments.ope.plots import all_plots
from experiments.ope.results import Finished, Row, by_estimator, rows_of
from experiments.ope.tables import FIGURE, POWERED_COLUMNS, TRUE, both, headlines, ordered, powered_rows, written

PAGE = "ope.html"
MEANINGS = {
    "cv": "a world model in which everybody keeps its velocity",
    "persistence": "a world model in which nobody moves",
    "random-init": "the first model's network before any training",
    "log-replay": "others do as logged and do not react; it uses the true future, as non-reactive simulation does",
    "oracle": "the road itself as the world model: the ceiling, what reading a world from occupancy costs",
    "open-loop": "minus the mean distance of the policy's plan from where the log's ego went",
    "is": "importance sampling",
    "wis": "importance sampling, normalised weights",
    "pdis": "importance sampling by decision",
    "pdwis": "importance sampling by decision, normalised weights",
    "fqe": "fitted Q evaluation; its interval leaves out the error of the fit",
    "dr": "doubly robust",
    "wdr": "doubly robust, normalised weights",
    "magic": "blend of the two above and the fitted model",
}


def write_page(found: Finished) -> Path:
    """Path of the page, after it was written whole."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("template.html.j2").render(
        about=found.manifest,
        config=found.config,
        meanings=MEANINGS,
        powered_columns=POWERED_COLUMNS,
        headlines=headlines(found),
        sections=[
            {
                "score": score,
                "plots": all_plots(found, score, overlap=score == found.manifest.scores[0]),
                "policies": _policies(found, score),
                "agreement": _agreement(found, score),
                "differences": _differences(found, score),
                "powered": powered_rows(found, score) if found.manifest.executed else [],
            }
            for score in found.manifest.scores
        ],
        refused=_refused(found),
        failures=found.failures.to_dict("records"),
    )
    return write_text(found.folder / PAGE, page)


def _policies(found: Finished, score: str) -> dict[str, Any]:
    rows = ordered(found, score)
    names = [name for name in found.manifest.estimators if rows["value"][name].notna().any()]
    return {
        "names": names,
        "rows": [
            [str(policy), written(*(row[part, names[0]] for part in TRUE))]
            + [written(*(row[part, name] for part in FIGURE)) for name in names]
            for policy, row in rows.iterrows()
        ],
    }


def _agreement(found: Finished, score: str) -> list[dict[str, Any]]:
    """A table a truth: a row an estimator, a cell a metric."""
    return [{"truth": truth, **_cells(rows_of(found.agreement, score, truth))} for truth in found.manifest.truths]


def _differences(found: Finished, score: str) -> dict[str, Any]:
    rows = rows_of(found.differences, score, found.manifest.truths[0])
    return {"first": rows[0].first if rows else "", **_cells(rows)}


def _cells(rows: list[Row]) -> dict[str, Any]:
    metrics = list(dict.fromkeys(row.metric for row in rows))
    lines = [
        {
            "estimator": estimator,
            "cells": [(both(by_metric[name]), by_metric[name].words) for name in metrics],
            "n": next(iter(by_metric.values())).policies,
        }
        for estimator, by_metric in by_estimator(rows).items()
    ]
    return {"metrics": metrics, "rows": lines}


def _refused(found: Finished) -> list[dict[str, str]]:
    rows = found.estimates[(found.estimates["refused"] != "") & (found.estimates["score"] == found.manifest.scores[0])]
    return [
        {
            "reason": str(reason),
            "estimators": ", ".join(dict.fromkeys(part["estimator"])),
            "policies": ", ".join(dict.fromkeys(part["policy"])),
        }
        for reason, part in rows.groupby("refused", sort=False)
    ]
