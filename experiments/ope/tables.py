"""A finished run in the terminal: policies in the order of the first estimator beside the truth, then agreement."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.ope.results import Finished, Row, by_estimator, rows_of

FIGURE, TRUE = ("value", "low", "high"), ("true", "true_low", "true_high")


def show(found: Finished, seconds: float) -> None:
    """Print it: the first score in full, the agreement of all."""
    about = found.manifest
    console = Console(width=None if Console().is_terminal else 230)
    table = Table(
        title=f"{about.scores[0]} of {about.horizon_s:g} s, {about.scenes} scenes of {about.groups} groups, "
        f"{about.draws} drives each, road {about.road}; 95 % intervals over groups of scenes",
        title_justify="left",
    )
    rows = ordered(found, about.scores[0])
    shown = [name for name in about.estimators if rows["value"][name].notna().any()]
    table.add_column("policy", no_wrap=True)
    table.add_column(f"truth ({about.truths[0]})", justify="right")
    for name in shown:
        table.add_column(name, justify="right")
    for policy, row in rows.iterrows():
        true = written(*(row[part, shown[0]] for part in TRUE))
        first = written(*(row[part, shown[0]] for part in FIGURE))
        others = [written(row["value", name], math.nan, math.nan) for name in shown[1:]]
        table.add_row(str(policy), true, first, *others)
    console.print(table)
    if about.executed:
        console.print(_powered(found))
    for truth in about.truths:
        console.print(_agreement(found, truth))
    for estimator, words in headlines(found):
        console.print(f"  {estimator}: {words}", highlight=False)
    refused = found.estimates[(found.estimates["score"] == about.scores[0]) & (found.estimates["refused"] != "")]
    for reason, part in refused.groupby("refused", sort=False):
        names = ", ".join(dict.fromkeys(part["estimator"]))
        who = ", ".join(dict.fromkeys(part["policy"]))
        console.print(f"refused ({names}) for {who}: {reason}", highlight=False, soft_wrap=True)
    for kind, scene, policy, reason in found.failures.itertuples(index=False):
        console.print(f"{kind}: {policy or scene}: {reason}", highlight=False, soft_wrap=True)
    console.print(f"{seconds:.0f} s in all; results: {found.folder}", highlight=False, soft_wrap=True)


def powered_rows(found: Finished, score: str) -> list[tuple[str, ...]]:
    """Policy, truth of the scenes that were not executed, executed scenes alone, with the first estimator's
    imagination of all, its weight, share of the width; best policy first."""
    rows = found.powered
    mine = rows[(rows["score"] == score) & (rows["estimator"] == found.manifest.estimators[0])]
    mine = mine.sort_values("value", ascending=False, kind="stable")
    parts = (("rest_true", "rest_true_low", "rest_true_high"), ("alone", "alone_low", "alone_high"), FIGURE)
    cells = [[written(*figures) for figures in mine[list(part)].to_numpy(np.float64)] for part in parts]
    cells += [[written(figure, math.nan, math.nan) for figure in mine[name]] for name in ("weight", "width_share")]
    return [(str(policy), *row) for policy, *row in zip(mine["policy"], *cells)]


POWERED_COLUMNS = ("policy", "truth of the others", "executed alone", "powered", "weight", "share of the width")


def _powered(found: Finished) -> Table:
    about = found.manifest
    title = (
        f"{about.scores[0]} of {about.executed} executed scenes, alone and with what {about.estimators[0]} imagines of "
        f"all {about.scenes} (prediction-powered)"
    )
    table = Table(title=title, title_justify="left")
    for name in POWERED_COLUMNS:
        table.add_column(name, justify="left" if name == "policy" else "right", no_wrap=True)
    for row in powered_rows(found, about.scores[0]):
        table.add_row(*row)
    return table


def ordered(found: Finished, score: str) -> pd.DataFrame:
    """A row a policy in the order of the first estimator's figures, columns (figure, estimator)."""
    mine = found.estimates[found.estimates["score"] == score]
    wide = mine.pivot(index="policy", columns="estimator", values=[*FIGURE, *TRUE])
    order = wide["value"][found.manifest.estimators[0]].sort_values(ascending=False, kind="stable")
    return wide.loc[order.index]


def headlines(found: Finished) -> list[tuple[str, str]]:
    """The rank correlation of each estimator with the first truth, first score, in words."""
    rows = rows_of(found.agreement, found.manifest.scores[0], found.manifest.truths[0])
    return [(row.estimator, row.words) for row in rows if row.metric == "spearman"]


def written(value: float, low: float, high: float) -> str:
    """`0.912 [0.90, 0.93]`; nothing where there is no figure."""
    if math.isnan(value):
        return "–"
    digits = 3 if abs(value) < 10 else 1
    if math.isnan(low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _agreement(found: Finished, truth: str) -> Table:
    title = escape(f"agreement with {truth}: value [over scenes] [over policies]")
    table = Table(title=title, title_justify="left")
    for name in ("score", "estimator"):
        table.add_column(name, no_wrap=True)
    metrics = list(dict.fromkeys(found.agreement["metric"]))
    for name in (*metrics, "policies"):
        table.add_column(name, justify="right")
    for score in found.manifest.scores:
        for estimator, by_metric in by_estimator(rows_of(found.agreement, score, truth)).items():
            cells = [both(by_metric[name]) for name in metrics]
            table.add_row(score, estimator, *cells, str(next(iter(by_metric.values())).policies))
    return table


def both(row: Row) -> str:
    """A figure of agreement with its two intervals."""
    if math.isnan(row.value):
        return "none"
    text = f"{row.value:.3f}"
    for low, high in (row.over_scenes, row.over_policies):
        text += " [–]" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return text
