"""Plots of the agreement pass: planners' real scores, the executed plan among its perturbations, what cost predicts."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.report.pictures import EGO_COLOUR, REAL_COLOUR, figure

DPI = 110


@dataclass(frozen=True)
class Plot:
    """A picture as base64 PNG, and what it shows."""

    png: str
    caption: str


def png(fig: Figure) -> str:
    """The figure as base64 PNG, without the time it was made."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode()


def planners_plot(planners: Sequence[Mapping[str, Any]]) -> Plot | None:
    """Real score of each planner with its interval."""
    known = [row for row in planners if row["score"]["value"] is not None]
    if not known:
        return None
    fig, axes = figure(5.2, 0.5 + 0.42 * len(known))
    ax = axes[0, 0]
    for place, row in enumerate(reversed(known)):
        _interval(ax, place, row["score"], REAL_COLOUR if row["planner"] == "log_replay" else EGO_COLOUR)
    ax.set(yticks=range(len(known)), xlabel="real PDMS of the chosen plan, 95 % scene bootstrap", xlim=(0, 1.02))
    ax.set_yticklabels([row["planner"] for row in reversed(known)])
    ax.grid(axis="x", color="#e6eaef")
    return Plot(
        png(fig), "Real driving score (PDMS form, road users as logged) of each planner's choice. Higher is better."
    )


def executed_plot(executed: Mapping[str, Any]) -> Plot | None:
    """How often the executed plan is cheaper than a perturbation, by how far the perturbation ends from it."""
    bins = [row for row in executed["by_distance"] if row["value"] is not None]
    if not bins:
        return None
    fig, axes = figure(5.2, 3.2)
    ax = axes[0, 0]
    x = [row["distance_m"] for row in bins]
    y = np.array([row["value"] for row in bins])
    low = np.array([row["lower"] if row["lower"] is not None else row["value"] for row in bins])
    high = np.array([row["upper"] if row["upper"] is not None else row["value"] for row in bins])
    ax.errorbar(x, y, yerr=[y - low, high - y], fmt="o-", color=EGO_COLOUR, capsize=3, label="critic")
    placebo = executed["placebo"]
    if placebo["value"] is not None:
        ax.axhline(placebo["value"], color="#9aa3ad", ls="--", lw=1, label="placebo: a random plan called executed")
    ax.axhline(0.5, color="#c8d0da", lw=1)
    ax.set(xscale="log", xticks=x, ylim=(0, 1.02), xlabel="end of the perturbed plan, m from the executed one")
    ax.set_xticks([], minor=True)
    ax.set_xticklabels([f"{d:g}" for d in x])
    ax.set_ylabel("share ranked behind the executed plan")
    ax.legend(fontsize=8, frameon=False, loc="lower right")
    return Plot(
        png(fig), "Is what the driver did cheaper than what he did not do? One half is chance; 95 % scene bootstrap."
    )


def cost_plot(outcomes: pd.DataFrame) -> Plot | None:
    """Imagined cost of every compared plan against its real score, in cost deciles."""
    known = outcomes[np.isfinite(outcomes["cost"]) & np.isfinite(outcomes["real_pdms"])] if len(outcomes) else outcomes
    if len(known) < 20:
        return None
    fig, axes = figure(5.2, 3.2)
    ax = axes[0, 0]
    ranks = known["cost"].rank(pct=True)
    groups = known.groupby(np.minimum((ranks * 10).astype(int), 9))["real_pdms"]
    mean, error = groups.mean(), groups.std() / np.sqrt(groups.count())
    ax.bar(mean.index + 1, mean, yerr=error, color="#9bbcf2", ecolor="#5b6675", capsize=2)
    ax.set(
        xlabel="decile of imagined cost (1 = cheapest)", ylabel="mean real PDMS", ylim=(0, 1.02), xticks=range(1, 11)
    )
    return Plot(
        png(fig),
        "Real score of all compared plans (executed, perturbed, chosen) by decile of imagined cost, pooled over "
        "scenes; bars are standard errors that ignore what scenes share. A critic that knows something falls from "
        "left to right.",
    )


def support_plot(ledger: pd.DataFrame) -> Plot | None:
    """Distribution of the conformal p-values of all candidates, and of the chosen ones."""
    if "support_p" not in ledger.columns:
        return None
    known = ledger[np.isfinite(ledger["support_p"])]
    if not len(known):
        return None
    fig, axes = figure(5.2, 3.2)
    ax = axes[0, 0]
    edges = np.linspace(0, 1, 21)
    for rows, colour, name in ((known, "#c8d0da", "all candidates"), (known[known["chosen"]], EGO_COLOUR, "chosen")):
        if len(rows):
            weights = np.full(len(rows), 1.0 / len(rows))
            ax.hist(rows["support_p"], edges, weights=weights, color=colour, alpha=0.75, label=name)
    ax.set(xlabel="support p-value (small = rare in the logs)", ylabel="share")
    ax.legend(fontsize=8, frameon=False)
    return Plot(
        png(fig),
        "How familiar the candidates are to the training logs. Below 0.05 a candidate is penalised more, below 0.01 "
        "it is refused.",
    )


def _interval(ax: Any, place: int, interval: Mapping[str, Any], colour: str) -> None:
    """A point with its interval, lying."""
    value = interval["value"]
    low = interval["lower"] if interval["lower"] is not None else value
    high = interval["upper"] if interval["upper"] is not None else value
    ax.errorbar([value], [place], xerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=3)
