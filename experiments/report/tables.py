"""Tables of the report as HTML: planners, rankings, failures, the glossary of the ledger's columns."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import pandas as pd

LONGEST_HORIZON = 16
"""Imagined steps of the longest horizon that a study may have (8 s)."""

GLOSSARY = {
    "scene_id": "one moment of a log",
    "dataset": "where the log comes from",
    "group": "what shares traffic with this scene: drawn together by every bootstrap, split together for training",
    "planner": "who proposed the candidate",
    "round": "ask/tell round; -1 is a finalist, re-scored after the last round, or a baseline's only plan",
    "row": "place in the order of proposal",
    "label": "what the row is: sample, mean, nominal, best, smoothed, policy, ...",
    "infeasible": "why it cannot be driven, flags of wmplan.contracts.Infeasible; 0 = it can",
    "accel": "acceleration every 0.1 s, m/s2",
    "curvature": "curvature every 0.1 s, 1/m",
    **{
        f"collision_{step}": f"at-fault overlap with imagined road users in imagined step {step}, mean of samples"
        for step in range(1, LONGEST_HORIZON + 1)
    },
    "collision_vehicle": "largest at-fault overlap with imagined vehicles, 0 to 1, mean of samples",
    "collision_vru": "largest at-fault overlap with imagined pedestrians and cyclists, 0 to 1, mean of samples",
    "contact_rear": "largest overlap in the ego's rear quarter or while it stands: not its fault, 0 to 1",
    "no_collision": "share of imagined samples without an at-fault contact",
    "drivable": "1 unless a corner leaves the drivable area (0.3 m tolerance); 1 where it was outside at t0",
    "drivable_pdms": "the same without tolerance, as NAVSIM asks",
    "offroad_share": "largest share of the box's corners beyond the drivable area, more than at t0",
    "direction": "1 below 2 m against the lanes in the worst second, 0.5 below 6 m, else 0",
    "against_m": "metres driven against the lane direction in the worst second",
    "red_light": "1 where the centre comes within 2 m of the stop point of a red or yellow light, rising from 0",
    "ttc": "share of imagined samples in which the box moved on for 0.3, 0.6, 0.9 s touches nothing",
    "progress_m": "metres along the route at the end of the plan",
    "progress": "nuPlan's progress ratio against target speed x horizon, 0 to 1",
    "progress_pdms": "NAVSIM's progress against target speed x horizon, 0 to 1",
    "comfort": "1 where all six of nuPlan's comfort bounds are kept",
    "speed_limit": "1 - mean speed above the target / 2.23 m/s, at least 0; the target stands in for a limit",
    "lane_keeping": "0 where the route is left by more than 0.5 m for 2 s in a row, else 1",
    "lateral_m": "largest distance to the route, m",
    "outside_window": "share of the plan beyond the raster, where nothing is known",
    "pdms": "PDMS-style score on imagined occupancy, 0 to 1, higher is better",
    "nuplan_score": "nuPlan's weighted closed-loop form on imagined occupancy, 0 to 1, higher is better",
    "collision_cost": "discounted sum of the overlaps over the imagined steps; the rear counts a fifth",
    "ttc_cost": "mean overlap of the box moved on at constant velocity",
    "offroad_cost": "mean share of the box's corners beyond the drivable area, more than at t0",
    "direction_cost": "metres against the lanes over 6 m, at most 1",
    "red_light_cost": "the same as red_light",
    "progress_cost": "1 - progress over target speed x horizon, 0 to 1",
    "speed_cost": "mean speed above the target / 2.23 m/s, at most 1",
    "discomfort_cost": "mean of the six comfort signals over their bounds, squared, at most 4 each",
    "lateral_cost": "mean of (distance to the route / 1.75 m) squared, at most 4",
    "vista_reward": "Vista's reward exp(-mean variance over imagined samples)",
    "vista_log_reward": "its logarithm, which does not saturate",
    "vista_epistemic": "minus the variance of an ensemble's members' means: what they do not agree on",
    "vista_aleatoric": "minus the mean variance within an ensemble's members",
    "vista_swept": "minus the variance of occupancy within 4 m of where the ego drives",
    "probe_accel": "mean acceleration that the probe reads off the others' imagined response, m/s2",
    "probe_error": "inverse-control probe: commanded minus recovered mean acceleration, magnitude, m/s2",
    "support_s": "-log density of the action given the situation, in whitened units; higher is less usual",
    "support_p": "split-conformal p-value of (situation, action) among the training logs",
    "neighbours_s": "mean distance to the 8 nearest logged actions in like situations, whitened units",
    "neighbours_p": "conformal p-value of that distance: a second opinion, no part of cost and verdict",
    "neighbours_excess": "distance beyond the 95 % quantile of neighbours_s, in interquartile ranges",
    "support_excess": "distance beyond the 95 % quantile of the support score, in interquartile ranges",
    "verdict": "trusted, downweighted or refused",
    "reasons": "why it is not trusted",
    "cost_task": "part of the cost: the driving score and its dense shaping",
    "cost_reward": "part of the cost: variance of the imagined futures",
    "cost_probe": "part of the cost: inverse-control probe",
    "cost_support": "part of the cost: support penalty, 0 inside the support",
    "cost": "sum of the parts, lower is better; inf where a term is not finite or the row cannot be driven",
    "nonfinite": "number of non-finite terms in the row",
    "eligible": "whether it may be chosen",
    "rank": "place by cost in its scene and planner, from 1",
    "samples": "imagined futures that the terms rest on; fewer than the study's where a race dropped the row early",
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
