"""Plots of a validation: IoU over time, reactions imagined against true, reactions by model, the long run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.report.pictures import EGO_COLOUR, REAL_COLOUR, figure
from experiments.report.plots import Plot, png
from experiments.validate.contenders import RANDOM
from experiments.validate.instrument import ACCURACY, CONTROL, LONG_RUN, REACTION, TWIN, Result
from wmplan.contracts import IMAGINED_STEP_S
from wmplan.validation.long_run import curves
from wmplan.validation.probes import CEILING, FLOOR, FORESEEN
from wmplan.validation.reaction import CAUSAL_M, SceneReaction

COLOURS = {
    "persistence": "#9aa3ad",
    "cv": "#5b6b7f",
    RANDOM: "#b7791f",
    CEILING: "#1a7f4b",
    FORESEEN: "#6fae8a",
    FLOOR: "#c2577a",
}
SECONDS = (1.0, 2.0, 3.0)


def colour(model: str) -> str:
    """The model's colour; all but the known baselines have that of the model that is validated."""
    return COLOURS.get(model, EGO_COLOUR)


def all_plots(results: Sequence[Result], rows: Mapping[str, Mapping[str, Sequence[Any]]], model: str) -> list[Plot]:
    """Every plot that the measured parts allow."""
    found = [
        iou_plot(results),
        reaction_plot(rows.get(REACTION, {}), model, "Drivers as in the logs."),
        reaction_plot(rows.get(TWIN, {}), model, "The twin: drivers with wrong parameters."),
        slope_plot(results),
        sweep_plot(rows.get(CONTROL, {})),
        long_plot(rows),
    ]
    return [plot for plot in found if plot is not None]


def iou_plot(results: Sequence[Result]) -> Plot | None:
    """IoU of everybody at 1, 2 and 3 s by model."""
    known = {
        (one.model, one.measure.metric): one.measure
        for one in results
        if one.part == ACCURACY and one.measure.metric.startswith("soft_iou, any") and "minus" not in one.measure.metric
    }
    models = [name for name in dict.fromkeys(name for name, _ in known) if name != CEILING]
    if not models:
        return None
    fig, axes = figure(5.2, 3.4)
    ax = axes[0, 0]
    for place, name in enumerate(models):
        found = [known[name, f"soft_iou, any, {s:g} s"] for s in SECONDS]
        x = np.array(SECONDS) + 0.03 * (place - len(models) / 2)
        _points(ax, x, [(m.value, m.low, m.high) for m in found], name)
    ax.set(xlabel="seconds after t0", ylabel="soft IoU of everybody", xticks=SECONDS, ylim=(0.0, None))
    ax.legend(fontsize=8, frameon=False)
    return Plot(png(fig), "L1: how well occupancy is forecast given what the ego really did; 95 % intervals by groups.")


def reaction_plot(rows: Mapping[str, Sequence[SceneReaction]], model: str, note: str) -> Plot | None:
    """Imagined against true reactions of those who truly react, of the model and of the truth read the same way."""
    shown = [name for name in (CEILING, model) if rows.get(name)]
    if model not in shown or not any(row.causal.any() for row in rows[model]):
        return None
    fig, axes = figure(4.4 * len(shown), 4.2, columns=len(shown))
    for ax, name in zip(axes[0], shown):
        along = [row.along(np.flatnonzero(row.causal)) for row in rows[name]]
        true, imagined = (np.concatenate([part[i].ravel() for part in along]) for i in (0, 1))
        kept = np.isfinite(true)
        lost = kept & ~np.isfinite(imagined)
        reach = max(1.0, float(np.abs(true[kept]).max()))
        ax.plot([-reach, reach], [-reach, reach], color="#c8d0da", lw=1, zorder=1)
        ax.axhline(0.0, color="#e6eaef", lw=1, zorder=1)
        ax.scatter(true[kept], imagined[kept], s=9, alpha=0.6, color=colour(name), linewidths=0)
        ax.scatter(true[lost], np.zeros(lost.sum()), s=16, marker="x", color=REAL_COLOUR, label=f"lost: {lost.sum()}")
        ax.set(xlabel="true reaction at 3 s, m", ylabel="imagined reaction, m", title=name)
        if lost.any():
            ax.legend(fontsize=8, frameon=False)
    return Plot(
        png(fig),
        f"L4: how far road users that react (more than {CAUSAL_M:g} m under some plan) are displaced by what the ego "
        f"does instead of what it did. {note}",
    )


def slope_plot(results: Sequence[Result]) -> Plot | None:
    """The slope of imagined on true reactions, all accounted for, by model."""
    wanted = "reaction slope, all"
    known = [(one.model, one.measure) for one in results if one.part == REACTION and one.measure.metric == wanted]
    if not known:
        return None
    fig, axes = figure(5.2, 0.8 + 0.36 * len(known))
    ax = axes[0, 0]
    for place, (name, measure) in enumerate(reversed(known)):
        low, high = (measure.value if math.isnan(v) else v for v in (measure.low, measure.high))
        ax.plot([low, high], [place, place], color=colour(name), lw=2)
        ax.plot(measure.value, place, "o", color=colour(name))
    ax.set(yticks=range(len(known)), xlabel="slope of imagined on true reaction, lost ones as 0")
    ax.set_yticklabels([name for name, _ in reversed(known)])
    ax.axvline(1.0, color="#c8d0da", lw=1)
    ax.grid(axis="x", color="#e6eaef")
    note = f"{CEILING} and {FLOOR} are ceiling and floor, {FORESEEN} is what can be foreseen."
    return Plot(png(fig), f"L4: 1 reacts as the road does, 0 not at all; {note}")


def sweep_plot(rows: Mapping[str, Sequence[Any]]) -> Plot | None:
    """Mean response to each command of the sweep by model, over the scenes where everything was followed."""
    if not rows:
        return None
    fig, axes = figure(5.2, 3.4)
    ax = axes[0, 0]
    for name, scenes in rows.items():
        responses = np.array([one.responses for one in scenes if np.isfinite(one.responses).all()])
        if len(responses):
            ax.plot(scenes[0].sweep.grid, responses.mean(0), "o-", ms=4, color=colour(name), label=name)
    ax.set(xlabel="commanded acceleration, m/s2", ylabel="mean response at 3 s, m")
    ax.legend(fontsize=8, frameon=False)
    return Plot(
        png(fig), "L4: the sweep behind controllability: what the road user does that responds most, against the log."
    )


def long_plot(rows: Mapping[str, Mapping[str, Sequence[Any]]]) -> Plot | None:
    """Who is still there, and the reaction in each 3 s, over 45 s of chained imagination."""
    if not all(part in rows for part in LONG_RUN.values()):
        return None
    fig, axes = figure(9.6, 6.4, columns=2, rows=2)
    for (mode, part), (kept_ax, slope_ax) in zip(LONG_RUN.items(), axes):
        for name, scenes in rows[part].items():
            kept, slope = curves(scenes)
            kept_ax.plot(IMAGINED_STEP_S * (1 + np.arange(len(kept))), kept, color=colour(name), label=name)
            slope_ax.plot(3.0 * (1 + np.arange(len(slope))), slope, "o-", ms=3, color=colour(name))
        eligible = np.sum([one.eligible for one in next(iter(rows[part].values()))], axis=0)
        kept_ax.set(ylabel="still there", title=f"{mode}: {eligible[0]:.0f} road users, {eligible[-1]:.0f} at the end")
        kept_ax.set(ylim=(-0.03, 1.03), xlim=(0, 45.5))
        slope_ax.set(ylabel="slope of reactions", title=mode, xlim=(0, 45.5), ylim=(-0.5, 1.5))
    for ax in axes[-1]:
        ax.set_xlabel("seconds imagined")
    axes[0, 0].legend(fontsize=8, frameon=False)
    caption = (
        "The long run: road users found at the beginning and truly inside the moving window ever since; below as "
        "above, but on the true frames every 6 s. A line ends where nobody is left to look for."
    )
    return Plot(png(fig), caption)


def _points(ax: Axes, x: np.ndarray, values: Sequence[tuple[float, float, float]], name: str) -> None:
    y, low, high = (np.array(column) for column in zip(*values))
    low, high = np.where(np.isnan(low), y, low), np.where(np.isnan(high), y, high)
    ax.errorbar(x, y, yerr=[y - low, high - y], fmt="o-", ms=4, capsize=2, color=colour(name), label=name)
