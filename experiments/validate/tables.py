"""Tables of a validation in the terminal: a row a figure, a column a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from experiments.validate.instrument import Result
from experiments.validate.verdict import Verdict
from wmplan.statistics import Measure


def show(results: Sequence[Result], verdict: Verdict) -> None:
    """Every part as a table, then what was cleared."""
    console = Console(width=None if Console().is_terminal else 220)
    for part, models, rows in by_part(results):
        table = Table(title=part, title_justify="left", header_style="bold")
        table.add_column("figure", no_wrap=True)
        for model in models:
            table.add_column(model, justify="right")
        table.add_column("n", justify="right")
        table.add_column("gate")
        for metric, cells in rows:
            own = cells.get(verdict.model)
            shown = [_cell(cells.get(model)) for model in models]
            count = own or next(iter(cells.values()))
            table.add_row(metric, *shown, str(count.count), _gate(own))
        console.print(table)
    console.print(f"{verdict.model} on {verdict.data}: {verdict.scenes} scenes of {verdict.groups} groups")
    for layer in verdict.layers:
        state = {True: "[green]cleared[/green]", False: "[red]not cleared[/red]", None: "not measured"}[layer.cleared]
        console.print(f"  {layer.layer}: {state}{': ' if layer.missed else ''}{'; '.join(layer.missed)}")
    if verdict.refused:
        console.print(f"  {len(verdict.refused)} scenes could not be measured, first: {': '.join(verdict.refused[0])}")


def by_part(results: Sequence[Result]) -> Iterator[tuple[str, list[str], list[tuple[str, dict[str, Measure]]]]]:
    """Each part with its models and its figures, in the order in which they came."""
    for part in dict.fromkeys(one.part for one in results):
        chosen = [one for one in results if one.part == part]
        models = list(dict.fromkeys(one.model for one in chosen))
        rows: dict[str, dict[str, Measure]] = {}
        for one in chosen:
            rows.setdefault(one.measure.metric, {})[one.model] = one.measure
        yield part, models, list(rows.items())


def written(measure: Measure) -> str:
    """`0.97 [0.95, 0.99]`, or why there is none."""
    if math.isnan(measure.value):
        return "none"
    between = "" if math.isnan(measure.low) else f" [{measure.low:.3g}, {measure.high:.3g}]"
    return f"{measure.value:.3g}{between}"


def _cell(measure: Measure | None) -> str:
    return "" if measure is None else written(measure)


def _gate(measure: Measure | None) -> str:
    if measure is None or not measure.gate:
        return ""
    return f"{measure.gate}: {'kept' if measure.cleared else '[red]missed[/red]'}"
