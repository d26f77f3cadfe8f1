"""Plots of a run: each policy's estimate beside the truth, each estimator against it, how far the logs speak."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy import ndarray

from experiments.ope.joining import OPEN
from experiments.ope.results import Finished
from experiments.ope.tables import FIGURE, TRUE
from experiments.report.pictures import EGO_COLOUR, REAL_COLOUR, figure
from experiments.report.plots import Plot, png
from wmplan.ope.overlap import Limits
from wmplan.scene import STEP_S
from wmplan.simulator.policies.mixture import HOLD_STEPS
from wmplan.statistics.policies import LEAST_POLICIES

COLUMNS = 4
ALONE, REST = ("alone", "alone_low", "alone_high"), ("rest_true", "rest_true_low", "rest_true_high")


Drawn = tuple[Figure, ndarray]
"""A figure and its axes [rows, columns]."""


def all_plots(found: Finished, score: str, overlap: bool = True) -> list[Plot]:
    """Every plot of a score that the run allows, with what it shows; `overlap` is the same for all scores."""
    seconds, name = found.manifest.horizon_s, found.manifest.estimators[0]
    drawn = [
        (
            draw_policies(found, score),
            f"What {name} says of each policy, and what it is truly worth on the road over {seconds:g} s. Overlapping "
            "intervals do not say which of two policies is better.",
        ),
        (
            draw_scatter(found, score),
            "Each point is a policy, with 95 % intervals over groups of scenes. On the line the estimate is the truth; "
            "an order needs no more than points that rise.",
        ),
        (
            draw_powered(found, score),
            f"Returns from {found.manifest.executed} executed scenes alone, and with what {name} imagines of all: the "
            "shorter the second interval, the more the imagination is worth.",
        ),
        (
            draw_overlap(found) if overlap else None,
            "How far the logs speak for policies with densities. Beyond the dashed lines estimates by weights are "
            "refused.",
        ),
    ]
    return [Plot(png(one[0]), caption) for one, caption in drawn if one is not None]


def draw_policies(found: Finished, score: str) -> Drawn | None:
    """Each policy's estimate by the first estimator, and its truth, both with intervals, best estimate first."""
    rows = _of(found, score, found.manifest.estimators[0]).sort_values("value", kind="stable")
    if rows.empty:
        return None
    sides = ((FIGURE, EGO_COLOUR, found.manifest.estimators[0]), (TRUE, REAL_COLOUR, "truth"))
    return _ladder(rows, sides, f"{score}, 95 % intervals over groups of scenes")


def draw_powered(found: Finished, score: str) -> Drawn | None:
    """Each policy's return by executed scenes alone, by these and the first estimator, and by the truth of the rest."""
    rows = found.powered
    rows = rows[(rows["score"] == score) & (rows["estimator"] == found.manifest.estimators[0])]
    if rows.empty:
        return None
    sides = (
        (FIGURE, EGO_COLOUR, f"executed and {found.manifest.estimators[0]}"),
        (ALONE, "#9aa3ad", "executed alone"),
        (REST, REAL_COLOUR, "truth of the other scenes"),
    )
    title = f"{score}, {found.manifest.executed} executed scenes, 95 % intervals"
    return _ladder(rows.sort_values("value", kind="stable"), sides, title)


def draw_scatter(found: Finished, score: str) -> Drawn | None:
    """Estimates against the truth, a panel an estimator, a point a policy."""
    names = [name for name in found.manifest.estimators if np.isfinite(_of(found, score, name)["value"]).any()]
    if not names:
        return None
    rows = -(-len(names) // COLUMNS)
    fig, axes = figure(3.1 * min(COLUMNS, len(names)), 3.1 * rows, columns=min(COLUMNS, len(names)), rows=rows)
    for ax in axes.ravel()[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.ravel(), names):
        mine = _of(found, score, name)
        mine = mine[np.isfinite(mine["value"]) & np.isfinite(mine["true"])]
        x, y = mine["true"].to_numpy(np.float64), mine["value"].to_numpy(np.float64)
        ax.errorbar(
            x, y, xerr=_arms(mine, TRUE), yerr=_arms(mine, FIGURE), fmt="o", ms=4, lw=0.8, alpha=0.75, color=EGO_COLOUR
        )
        if name != OPEN and len(x):
            reach = [min(x.min(), y.min()), max(x.max(), y.max())]
            ax.plot(reach, reach, color="#c8d0da", lw=1, zorder=0)
        ax.set_title(f"{name}\n{_rank(found, score, name)}", fontsize=9)
        ax.set(xlabel="true " + score, ylabel="minus metres from the log" if name == OPEN else "estimate")
    return fig, axes


def draw_overlap(found: Finished) -> Drawn | None:
    """Effective sample size and largest weight by decision, for policies with densities."""
    if found.weights.empty:
        return None
    fig, axes = figure(9.0, 3.2, columns=2)
    drives = found.manifest.scenes
    for policy, rows in found.weights.groupby("policy", sort=False):
        seconds = (rows["decision"] + 1) * HOLD_STEPS * STEP_S
        axes[0, 0].plot(seconds, rows["ess"], lw=1.5, label=str(policy))
        axes[0, 1].plot(seconds, rows["max_share"], lw=1.5, label=str(policy))
    limits = Limits()
    least = max(limits.least_ess, limits.least_ess_share * drives)
    axes[0, 0].axhline(least, color="#9aa3ad", ls="--", lw=1)
    axes[0, 1].axhline(limits.most_share, color="#9aa3ad", ls="--", lw=1)
    axes[0, 0].set(xlabel="seconds after t0", ylabel=f"effective sample size of {drives} drives", yscale="log")
    axes[0, 1].set(xlabel="seconds after t0", ylabel="largest share of all weight", ylim=(0, 1.02))
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    return fig, axes


def _ladder(rows: pd.DataFrame, sides: Sequence[tuple[Sequence[str], str, str]], title: str) -> Drawn:
    """A line a policy; each side has columns of value, low and high, a colour and a name."""
    fig, axes = figure(7.2, 1.25 + 0.27 * len(rows))
    ax, places = axes[0, 0], np.arange(len(rows))
    for (parts, colour, label), shift in zip(sides, np.linspace(0.14, -0.14, len(sides)) * len(sides) / 2.0):
        value, low, high = (rows[part].to_numpy(np.float64) for part in parts)
        low, high = np.where(np.isnan(low), value, low), np.where(np.isnan(high), value, high)
        ax.hlines(places + shift, low, high, color=colour, lw=1.6)
        ax.plot(value, places + shift, "o", ms=4, color=colour, label=label)
    ax.set(yticks=places, xlabel=title, ylim=(-0.7, len(rows) - 0.3))
    ax.set_yticklabels(rows["policy"].tolist(), fontsize=8)
    ax.grid(axis="x", color="#e6eaef")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper right", fontsize=8, frameon=False, ncols=len(sides))
    return fig, axes


def _of(found: Finished, score: str, estimator: str) -> pd.DataFrame:
    rows = found.estimates
    return rows[(rows["score"] == score) & (rows["estimator"] == estimator)]


def _arms(rows: pd.DataFrame, parts: tuple[str, str, str]) -> np.ndarray:
    value, low, high = (rows[part].to_numpy(np.float64) for part in parts)
    return np.nan_to_num(np.stack([np.maximum(value - low, 0.0), np.maximum(high - value, 0.0)]))


def _rank(found: Finished, score: str, estimator: str) -> str:
    rows = found.agreement
    mine = rows[(rows["score"] == score) & (rows["estimator"] == estimator) & (rows["metric"] == "spearman")]
    mine = mine[mine["truth"] == found.manifest.truths[0]]
    value = float(mine["value"].iloc[0]) if len(mine) else float("nan")
    few = len(mine) == 0 or int(mine["policies"].iloc[0]) < LEAST_POLICIES
    return "no order" if few or np.isnan(value) else f"Spearman {value:.2f}"
