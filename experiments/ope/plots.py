"""Plots of a run: each policy's estimate beside the truth, each estimator against it, how far the logs speak."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.ope.joining import OPEN
from experiments.ope.results import Finished
from experiments.ope.tables import FIGURE, TRUE
from experiments.report.pictures import EGO_COLOUR, REAL_COLOUR, figure
from experiments.report.plots import Plot, png
from wmplan.ope.overlap import Limits
from wmplan.scene import STEP_S
from wmplan.simulator.policies.mixture import HOLD_STEPS

COLUMNS = 4


def all_plots(found: Finished, score: str) -> list[Plot]:
    """Every plot of a score that the run allows."""
    plots = [policies_plot(found, score), scatter_plot(found, score), overlap_plot(found)]
    return [plot for plot in plots if plot is not None]


def policies_plot(found: Finished, score: str) -> Plot | None:
    """Each policy's estimate by the first estimator, and its truth, both with intervals, best estimate first."""
    name = found.manifest.estimators[0]
    rows = _of(found, score, name).sort_values("value", kind="stable")
    if rows.empty:
        return None
    fig, axes = figure(7.2, 1.0 + 0.27 * len(rows))
    ax, places = axes[0, 0], np.arange(len(rows))
    for shift, parts, colour, label in ((0.14, FIGURE, EGO_COLOUR, name), (-0.14, TRUE, REAL_COLOUR, "truth")):
        value, low, high = (rows[part].to_numpy(np.float64) for part in parts)
        low, high = np.where(np.isnan(low), value, low), np.where(np.isnan(high), value, high)
        ax.hlines(places + shift, low, high, color=colour, lw=1.6)
        ax.plot(value, places + shift, "o", ms=4, color=colour, label=label)
    ax.set(yticks=places, xlabel=f"{score}, 95 % intervals over groups of scenes", ylim=(-0.7, len(rows) - 0.3))
    ax.set_yticklabels(rows["policy"].tolist(), fontsize=8)
    ax.grid(axis="x", color="#e6eaef")
    ax.legend(fontsize=8, frameon=False, loc="lower right")
    return Plot(
        png(fig),
        f"What {name} says of each policy, and what it is truly worth on the road over "
        f"{found.manifest.horizon_s:g} s. Overlapping intervals do not say which of two policies is better.",
    )


def scatter_plot(found: Finished, score: str) -> Plot | None:
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
    return Plot(
        png(fig),
        "Each point is a policy, with 95 % intervals over groups of scenes. On the line the estimate is the truth; "
        "an order needs no more than points that rise.",
    )


def overlap_plot(found: Finished) -> Plot | None:
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
    return Plot(
        png(fig),
        "How far the logs speak for policies with densities. Beyond the dashed lines estimates by weights are refused.",
    )


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
    return "no order" if np.isnan(value) else f"Spearman {value:.2f}"
