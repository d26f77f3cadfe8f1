"""A finished study in a few numbers per planner: for the terminal and for MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.agreement import AGREEMENT, LOG_REPLAY
from experiments.ledger import LEDGER, PER_SCENE, TIMINGS
from experiments.prepared import stored_config
from experiments.tracking import Headline, Page


@dataclass(frozen=True)
class PlannerSummary:
    """One planner's line. `score` and its bounds are NaN where nothing real could be compared."""

    planner: str
    planned: int
    no_plan: int
    failed: int
    cost: float
    refused: float
    """Share of its drivable candidates that were refused."""
    support_p: float
    """Median support p-value of its choices."""
    seconds: float
    """Median time of a decision."""
    score: float
    lower: float
    upper: float


def summarise(run: Path, subset: str = "all") -> list[PlannerSummary]:
    """One line a planner, sorted by name, log replay last."""
    decisions = pd.read_parquet(run / PER_SCENE)
    seconds = pd.read_parquet(run / TIMINGS).groupby("planner")["seconds"].median()
    agreement = json.loads((run / AGREEMENT).read_text())
    lines = []
    for row in agreement["planners"][subset]:
        mine = decisions[decisions["planner"] == row["planner"]]
        drivable = int((mine["candidates"] - mine["infeasible"]).sum())
        score = row["score"]
        lines.append(
            PlannerSummary(
                planner=row["planner"],
                planned=row["planned"],
                no_plan=row["no_plan"],
                failed=row["failed"],
                cost=_mean(mine["chosen_cost"]),
                refused=int(mine["refused"].sum()) / drivable if drivable else math.nan,
                support_p=_median(mine["chosen_support_p"]),
                seconds=float(seconds.get(row["planner"], math.nan)),
                score=_number(score["value"]),
                lower=_number(score["lower"]),
                upper=_number(score["upper"]),
            )
        )
    return lines


def show(run: Path, seconds: float) -> None:
    """Print the table of planners, the headline figures, and where the files are."""
    from rich.console import Console
    from rich.table import Table

    about, agreement = stored_config(run), json.loads((run / AGREEMENT).read_text())
    console = Console(width=None if Console().is_terminal else 140)
    table = Table(title=f"{about['config']['name']}: {about['scenes']} scenes, model {Path(about['model']).name}")
    table.add_column("planner")
    names = ("planned", "no plan", "failed", "mean cost", "real PDMS [95 %]", "refused", "median p", "s a scene")
    for name in names:
        table.add_column(name, justify="right")
    for line in summarise(run):
        table.add_row(
            line.planner, str(line.planned), str(line.no_plan), str(line.failed), _shown(line.cost),
            _interval(line.score, line.lower, line.upper), _shown(line.refused, "{:.0%}"),
            _shown(line.support_p), _shown(line.seconds, "{:.2f}"),
        )  # fmt: skip
    console.print(table)
    for text in headlines_text(agreement):
        console.print(text, highlight=False)
    timings, rows = pd.read_parquet(run / TIMINGS), sum(pd.read_parquet(run / PER_SCENE)["candidates"])
    imagined, asked, steps = (int(timings[name].sum()) for name in ("imagined", "steps_asked", "steps_imagined"))
    console.print(f"{rows} candidates; planning imagined {imagined} of them and found the rest in the cache")
    console.print(f"{asked} imagined steps asked for in planning, {steps} computed; {seconds:.0f} s in all")
    for name in ("report.html", LEDGER, PER_SCENE, "agreement.json", "mlflow.db"):
        if (run / name).exists():
            console.print(f"  {run / name}", highlight=False, soft_wrap=True)


def headlines_text(agreement: Mapping[str, Any]) -> list[str]:
    """The figures of the agreement pass in words, unseen scenes first where there are any that were seen."""
    names = ["unseen", "all"] if agreement["scenes"]["unseen"] != agreement["scenes"]["all"] else ["all"]
    lines = []
    for name in names:
        executed, order = agreement["executed"][name], agreement["order"][name]
        which = f"{agreement['scenes'][name]} scenes{' the model was not trained near' if name == 'unseen' else ''}"
        lines.append(
            f"{which}: executed plan cheaper than a perturbation {_dict_interval(executed['pairwise_accuracy'])} "
            f"(placebo {_dict_interval(executed['placebo'])}); imagined order = real order "
            f"{_dict_interval(order['pairwise_accuracy'])} (placebo {_dict_interval(order['placebo'])})"
        )
        for item in agreement["prediction"][name]:
            event = item["event"].replace("_", " ")
            lines.append(
                f"  cost of the executed plan predicts {event} ({item['positives']} cases): AUROC "
                f"{_dict_interval(item['auroc'])} {item['auroc']['reason']}".rstrip()
            )
    return lines


def pages(run: Path) -> tuple[Page, list[Page]]:
    """The study's MLflow page and one for each planner."""
    about, agreement = stored_config(run), json.loads((run / AGREEMENT).read_text())
    params = {name: _text(value) for name, value in _flat(about["config"])}
    tags = {"digest": about["digest"], "commit": about["commit"], "config_seed": str(about["config"]["seed"])}
    tags |= {f"digest/{name}": value for name, value in about["digests"].items()}
    study = Page(about["config"]["name"], params, tags, tuple(_study_headlines(agreement)))
    return study, [_planner_page(line, about["scenes"]) for line in summarise(run)]


def _study_headlines(agreement: Mapping[str, Any]) -> list[Headline]:
    found = []
    for name in ("all", "unseen"):
        figures = {
            "executed_pairwise_accuracy": agreement["executed"][name]["pairwise_accuracy"],
            "executed_placebo": agreement["executed"][name]["placebo"],
            "real_order_pairwise_accuracy": agreement["order"][name]["pairwise_accuracy"],
            "real_order_placebo": agreement["order"][name]["placebo"],
            **{f"auroc_{item['event']}": item["auroc"] for item in agreement["prediction"][name]},
        }
        found += [
            Headline(f"{name}/{figure}", *(_number(part[bound]) for bound in ("value", "lower", "upper")))
            for figure, part in figures.items()
        ]
        found.append(Headline(f"{name}/scenes", float(agreement["scenes"][name])))
    return found


def _planner_page(line: PlannerSummary, scenes: int) -> Page:
    counted = {"planned": line.planned, "no_plan": line.no_plan, "failed": line.failed}
    headlines = [Headline("real_pdms", line.score, line.lower, line.upper), Headline("mean_cost", line.cost)]
    headlines += [Headline(f"{name}_share", value / scenes) for name, value in counted.items()]
    headlines += [
        Headline("refused_share", line.refused),
        Headline("median_support_p", line.support_p),
        Headline("median_seconds", line.seconds),
    ]
    return Page(
        line.planner, {"planner": line.planner}, {"log_replay": str(line.planner == LOG_REPLAY)}, tuple(headlines)
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return found


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list) else str(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _mean(values: pd.Series) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else math.nan


def _median(values: pd.Series) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.median()) if len(kept) else math.nan


def _shown(value: float, form: str = "{:.3f}") -> str:
    return form.format(value) if math.isfinite(value) else "–"


def _interval(value: float, lower: float, upper: float) -> str:
    bounds = f" [{lower:.3f}, {upper:.3f}]" if math.isfinite(lower) and math.isfinite(upper) else ""
    return _shown(value) + bounds


def _dict_interval(figure: Mapping[str, Any]) -> str:
    return _interval(*(_number(figure[name]) for name in ("value", "lower", "upper")))
