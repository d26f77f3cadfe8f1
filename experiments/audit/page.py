"""The page of an audit: what was promised and reached, tables, plots, the review queue; one file without links."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from experiments.audit.deciding import Deciding
from experiments.audit.figures import Figures
from experiments.audit.joined import Joined
from experiments.audit.plots import all_plots
from experiments.audit.prepared import Audit
from experiments.audit.support import CONFOUNDERS
from experiments.audit.within import METRICS, SCORES, Ranking
from experiments.files import write_text
from experiments.report.plots import Plot
from wmplan.statistics import Interval

PAGE = "audit.html"
STATES = {True: "kept", False: "missed", None: ""}


def write_page(
    audit: Audit,
    joined: Joined,
    found: Figures,
    decided: Deciding | None,
    review: pd.DataFrame,
    pictures: Sequence[Plot],
) -> Path:
    """Path of the page, after it was written whole."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["interval"] = written
    page = environment.get_template("template.html.j2").render(
        audit=audit,
        scenes=int(joined.rows["scene_id"].nunique()),
        groups=int(joined.rows["group"].nunique()),
        kinds=joined.rows["kind"].value_counts(),
        calibration=joined.calibration,
        found=found,
        states=STATES,
        metrics=METRICS,
        tables=[_table(found.within.rankings, real) for real in SCORES],
        differences=_differences(found),
        confounders=CONFOUNDERS,
        curves=[(name, _curve(found, name)) for name in ("ungated", "gated")],
        plots=all_plots(found, audit.name),
        decided=decided,
        review=review,
        pictures=pictures,
        skipped=sorted(joined.skipped.items()),
    )
    return write_text(audit.run / PAGE, page)


def written(value: Interval, digits: int = 3) -> str:
    """A figure with its interval, or why there is none."""
    if not math.isfinite(value.value):
        return value.reason or "none"
    if not value.valid:
        return f"{value.value:.{digits}f}"
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _table(rankings: Sequence[Ranking], real: str) -> dict[str, Any]:
    """Contenders by the composite first, then the model's columns, best first."""
    mine = [one for one in rankings if one.real == real]
    order = sorted(mine, key=lambda one: (one.critic != "cost", -_or(one.metrics["pairwise_accuracy"].value)))
    return {
        "real": real,
        "rows": [(one.contender, one.critic, [one.metrics[name] for name in METRICS]) for one in order],
    }


def _differences(found: Figures) -> list[tuple[str, list[Interval]]]:
    names = dict.fromkeys(one.placebo for one in found.within.differences)
    return [
        (name, [one.interval for one in found.within.differences if one.placebo == name and one.real == SCORES[0]])
        for name in names
    ]


def _curve(found: Figures, name: str) -> list[tuple[Any, ...]]:
    curve = getattr(found.selecting, name)
    nothing = [max(0.0, round(share, 9)) for share in curve.refused]
    return list(zip(curve.sizes, curve.imagined_gain, curve.real_gain, curve.curse, nothing))


def _or(value: float) -> float:
    return value if math.isfinite(value) else -1.0
