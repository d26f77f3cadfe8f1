"""Tables of the report as HTML: planners, rankings, failures, the glossary of the ledger's columns."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import pandas as pd

GLOSSARY = {
    "scene_id": "one moment of a log",
    "planner": "who proposed the candidate",
    "round": "ask/tell round; -1 is a finalist, re-scored after the last round",
    "row": "place in the order of proposal",
    "label": "what the row is: sample, mean, nominal, best, smoothed, ...",
    "infeasible": "flags of wmplan.contracts.Infeasible; 0 can be driven",
    "accel": "acceleration every 0.1 s, m/s2",
    "curvature": "curvature every 0.1 s, 1/m",
    "pdms": "PDMS-style score on imagined occupancy, 0 to 1, higher is better",
    "nuplan_score": "nuPlan's weighted closed-loop form on imagined occupancy, 0 to 1, higher is better",
    "progress": "metres along the route at the end of the plan",
    "vista_reward": "Vista's reward exp(-mean variance over imagined samples)",
    "vista_log_reward": "its logarithm, which does not saturate",
    "probe_error": "inverse-control probe: commanded minus recovered mean acceleration, magnitude, m/s2",
    "support_p": "split-conformal p-value of (situation, action) among the training logs",
    "support_excess": "distance beyond the 95 % quantile of the support score, in interquartile ranges",
    "cost_task": "part of the cost: the driving score and its dense shaping",
    "cost_reward": "part of the cost: variance of the imagined futures",
    "cost_probe": "part of the cost: inverse-control probe",
    "cost_support": "part of the cost: support penalty, 0 inside the support",
    "cost": "sum of the parts, lower is better; inf where a term is not finite or the row cannot be driven",
    "verdict": "trusted, downweighted or refused",
    "reasons": "why it is not trusted",
    "nonfinite": "number of non-finite terms in the row",
    "eligible": "whether it may be chosen",
    "rank": "place by cost in its scene and planner, from 1",
    "chosen": "whether it is the plan",
}
"""What the columns of `ranked_actions.parquet` mean."""


def number(value: object, digits: int = 3) -> str:
    """A value as a person reads it; a missing number is a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        if value == 0.0 or 1e-3 <= abs(value) < 1e5:
            return f"{value:.{digits}f}"
        return f"{value:.2e}"
    return str(value)


def table(
    frame: pd.DataFrame, text: Sequence[str] = (), mark: str | None = None, sortable: bool = True, digits: int = 3
) -> str:
    """A frame as an HTML table; `text` columns stand left, rows where column `mark` is true are highlighted."""
    shown = [name for name in frame.columns if name != mark]
    cells = [
        "".join(
            f'<th{_class(name, text)} title="{html.escape(GLOSSARY.get(name, ""))}">{html.escape(name)}</th>'
            for name in shown
        )
    ]
    for record in frame.to_dict("records"):
        kind = ' class="chosen"' if mark and record[mark] else ""
        row = "".join(
            f"<td{_class(name, text, record[name])}>{html.escape(number(_plain(record[name]), digits))}</td>"
            for name in shown
        )
        cells.append(f"<tr{kind}>{row}</tr>")
    name = ' class="sortable"' if sortable else ""
    return f"<table{name}><thead><tr>{cells[0]}</tr></thead><tbody>{''.join(cells[1:])}</tbody></table>"


def ranking(rows: pd.DataFrame, columns: Sequence[str], cheapest: int = 6, refused: int = 2) -> str:
    """The cheapest candidates of each planner, its chosen one, and a few refused ones."""
    picked = []
    for _, group in rows.groupby("planner", sort=True):
        group = group.sort_values(["cost", "row"], kind="stable")
        keep = pd.concat(
            [group.head(cheapest), group[group["chosen"]], group[group["verdict"] == "refused"].head(refused)]
        )
        picked.append(keep[~keep.index.duplicated()].sort_values(["cost", "row"], kind="stable"))
    shown = pd.concat(picked)[[name for name in columns if name in rows.columns]]
    return table(shown, text=("planner", "label", "verdict", "reasons"), mark="chosen")


def glossary(columns: Sequence[str]) -> str:
    """Every column of the ledger with its meaning."""
    rows = [
        {"column": name, "meaning": GLOSSARY.get(name, "a term of the critics; see the docs page on critics")}
        for name in columns
    ]
    return table(pd.DataFrame(rows), text=("column", "meaning"), sortable=False)


def _plain(value: object) -> object:
    """NumPy scalars as Python's."""
    return value.item() if hasattr(value, "item") else value


def _class(name: str, text: Sequence[str], value: object = None) -> str:
    kinds = (["text"] if name in text else []) + (
        [str(value)] if name in ("verdict", "status") and value is not None else []
    )
    return f' class="{" ".join(kinds)}"' if kinds else ""
