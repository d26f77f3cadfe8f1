"""The page of a validation: verdict, plots, every figure beside its baselines, in one file without links outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from experiments.files import write_text
from experiments.report.plots import Plot
from experiments.validate.instrument import Result, layer_of
from experiments.validate.plots import all_plots
from experiments.validate.tables import by_part, written
from experiments.validate.verdict import Verdict
from wmplan.validation.probes import CEILING, FLOOR, FORESEEN

PAGE = "validation.html"
MEANINGS = {
    "L1": "Forecast: is what follows forecast better than by constant velocity, given what the ego really did?",
    "L2": "Distributions: speeds, gaps and responses as in the logs, jointly and conditionally.",
    "L3": "Consistency: nobody vanishes, jumps or leaves the road.",
    "L4": "Reaction: what others do because of what the ego does.",
    "diagnostics": "Diagnostics without a verdict of their own, except against copying from training.",
}
NOTES = {
    "L1": "The truth read as a forecast (oracle) shows what the metric itself allows.",
    "L2": "Both sides are read from occupancy in the same way.",
    "L3": "Two cars drawn as one lose one of them in the truth too: read beside the oracle.",
    "L4": f"{CEILING} is the true future drawn and read as if imagined, the ceiling; {FLOOR} is the logged plan's true "
    f"future for every plan, the floor; {FORESEEN} is the road with its drivers drawn anew, about the best that can be "
    "imagined by who does not know them. tracked counts whom the read-out followed; all counts a lost one as still.",
    "diagnostics": "",
}
GATE_COLOURS = {True: "kept", False: "missed", None: ""}


def write_page(
    verdict: Verdict,
    results: Sequence[Result],
    rows: Mapping[str, Mapping[str, Sequence[Any]]],
    more: Sequence[Plot] = (),
) -> Path:
    """Path of the page, after it was written whole."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("template.html.j2").render(
        verdict=verdict,
        meanings=MEANINGS,
        notes=NOTES,
        plots=[*all_plots(results, rows, verdict.model), *more],
        sections=_sections(results, verdict.model),
    )
    return write_text(verdict.out / PAGE, page)


def _sections(results: Sequence[Result], model: str) -> list[dict[str, Any]]:
    """A section a layer, a table a part, a row a figure, a cell a model."""
    sections: dict[str, dict[str, Any]] = {}
    for part, models, rows in by_part(results):
        layer = layer_of(part)
        section = sections.setdefault(layer, {"layer": layer, "parts": []})
        table = []
        for metric, cells in rows:
            own = cells.get(model)
            counted = own or next(iter(cells.values()))
            table.append(
                {
                    "metric": metric,
                    "cells": [written(cells[name]) if name in cells else "" for name in models],
                    "reasons": [cells[name].reason if name in cells else "" for name in models],
                    "n": counted.count,
                    "gate": own.gate if own else "",
                    "state": GATE_COLOURS[own.cleared if own and own.gate else None],
                }
            )
        section["parts"].append({"name": part, "models": models, "rows": table})
    return list(sections.values())
