"""Plots of an audit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from experiments.audit.contenders import ROAD, ROAD_SHUFFLED
from experiments.audit.figures import ACCURACY, Figures
from experiments.audit.pooling import DISTANCES_M
from experiments.audit.within import COST, PERMUTED, SCORES
from experiments.report.pictures import EGO_COLOUR, REAL_COLOUR, figure
from experiments.report.plots import Plot, png
from wmplan.statistics import Interval

SOFT, GRID_COLOUR = "#9aa3ad", "#e6eaef"
CEILING_COLOUR = "#1a7f4b"


def all_plots(found: Figures, model: str) -> list[Plot]:
    """Every plot that the figures allow."""
    plots = [
        contenders_plot(found, model),
        bins_plot(found),
        coverage_plot(found),
        told_plot(found),
        curse_plot(found),
        critics_plot(found, model),
    ]
    return [plot for plot in plots if plot is not None]


def contenders_plot(found: Figures, model: str) -> Plot:
    """Pairwise accuracy of the cost under every contender."""
    known = [one for one in found.within.rankings if one.critic == COST and one.real == SCORES[0]]
    colours = {model: EGO_COLOUR, ROAD: CEILING_COLOUR, ROAD_SHUFFLED: CEILING_COLOUR, PERMUTED: REAL_COLOUR}
    return _bars(
        [(one.contender, one.metrics[ACCURACY], colours.get(one.contender, SOFT)) for one in known],
        "share of pairs ordered as their executed PDMS",
        "The same cost on what the model imagined, on placebos, and on what truly happened (green). Half is chance; "
        "95 % intervals over groups of scenes.",
    )


def critics_plot(found: Figures, model: str) -> Plot:
    """Pairwise accuracy of every single column that is far from chance, best first."""
    known = [one for one in found.within.rankings if one.contender == model and one.real == SCORES[0]]
    known = [one for one in known if abs(one.metrics[ACCURACY].value - 0.5) > 0.05]
    known.sort(key=lambda one: -one.metrics[ACCURACY].value)
    return _bars(
        [(one.critic, one.metrics[ACCURACY], EGO_COLOUR if one.critic == COST else SOFT) for one in known],
        "share of pairs ordered as their executed PDMS",
        "Each column alone as a critic, where it is more than 0.05 from chance.",
    )


def bins_plot(found: Figures) -> Plot | None:
    """Imagined and executed PDMS by tenth of support."""
    if not found.bins:
        return None
    fig, axes = figure(5.2, 3.4)
    ax = axes[0, 0]
    x = np.arange(len(found.bins)) + 1
    for name, colour, shift in (("imagined", EGO_COLOUR, -0.08), ("real", REAL_COLOUR, 0.08)):
        _points(ax, x + shift, [getattr(one, name) for one in found.bins], colour, name)
    _points(ax, x, [one.error for one in found.bins], SOFT, "mean error")
    ax.set(xlabel="tenth of candidates by support, least supported first", ylabel="PDMS", xticks=x, ylim=(0.0, 1.02))
    ax.legend(fontsize=8, frameon=False)
    return Plot(png(fig), "Imagined against executed by how usual the action is in its situation.")


def coverage_plot(found: Figures) -> Plot | None:
    """Mean error of what is kept when the most doubtful are left out."""
    if not found.doubts:
        return None
    fig, axes = figure(5.2, 3.4)
    ax = axes[0, 0]
    for one, style in zip(found.doubts, ("-", "--", "-.", ":", "-")):
        ax.plot(one.curve.coverage, one.curve.risk, style, lw=1.5, label=f"{one.name}: {one.aurc.value:.3f}")
    first = found.doubts[0].curve
    ax.plot(first.coverage, first.oracle, color=CEILING_COLOUR, lw=1.5, label=f"oracle: {first.oracle_aurc:.3f}")
    ax.axhline(first.random, color=SOFT, lw=1, label=f"random: {first.random:.3f}")
    top = 2.2 * max(first.random, 1e-9)
    ax.set(xlabel="share of candidates kept", ylabel="mean error of PDMS", xlim=(0, 1), ylim=(0.0, top))
    ax.legend(fontsize=7, frameon=False, loc="upper right", ncols=2)
    return Plot(png(fig), "Risk and coverage, by who says what to leave out; the numbers are areas (AURC).")


def told_plot(found: Figures) -> Plot | None:
    """AUROC by how far a perturbation ends."""
    fig, axes = figure(5.2, 3.2)
    ax = axes[0, 0]
    for name, colour in (("support", EGO_COLOUR), ("neighbours", SOFT)):
        known = [one for one in found.told if one.name == name and np.isfinite(one.distance_m)]
        if known:
            _points(ax, np.array([one.distance_m for one in known]), [one.auroc for one in known], colour, name)
    if not ax.containers:
        return None
    ax.axhline(0.5, color=GRID_COLOUR, lw=1)
    _log_ticks(ax, DISTANCES_M)
    ax.set(xlabel="end of the perturbed plan, m from the driven one", ylabel="AUROC", ylim=(0.4, 1.02))
    ax.legend(fontsize=8, frameon=False, loc="lower right")
    return Plot(
        png(fig), "Driven actions told from perturbed ones: half a metre in three seconds is within what people do."
    )


def curse_plot(found: Figures) -> Plot:
    """How much better the chosen looks, and is, by the size of the pool."""
    fig, axes = figure(5.2, 5.4, rows=2)
    for name, colour in (("ungated", REAL_COLOUR), ("gated", EGO_COLOUR)):
        curve = getattr(found.selecting, name)
        _points(axes[0, 0], np.array(curve.sizes), list(curve.curse), colour, name)
        _points(axes[1, 0], np.array(curve.sizes), list(curve.real_gain), colour, name)
    for ax, words in ((axes[0, 0], "looks better than it is by (PDMS)"), (axes[1, 0], "truly better than the mean by")):
        ax.axhline(0.0, color=GRID_COLOUR, lw=1)
        _log_ticks(ax, curve.sizes)
        ax.set(xlabel="candidates to choose from", ylabel=words)
    axes[0, 0].legend(fontsize=8, frameon=False)
    return Plot(png(fig), "The winner's curse: the chosen candidate against the mean of its pool.")


def _bars(rows: list[tuple[str, Interval, str]], label: str, caption: str) -> Plot:
    fig, axes = figure(5.2, 0.9 + 0.22 * len(rows))
    ax = axes[0, 0]
    for place, (_, value, colour) in enumerate(reversed(rows)):
        low, high = (value.value if np.isnan(v) else v for v in (value.low, value.high))
        ax.plot([low, high], [place, place], color=colour, lw=2)
        ax.plot(value.value, place, "o", ms=4, color=colour)
    ax.axvline(0.5, color=GRID_COLOUR, lw=1)
    ax.set(yticks=range(len(rows)), xlabel=label)
    ax.set_yticklabels([name for name, _, _ in reversed(rows)], fontsize=7)
    ax.grid(axis="x", color=GRID_COLOUR)
    return Plot(png(fig), caption)


def _log_ticks(ax: Axes, values: Sequence[int] | Sequence[float]) -> None:
    """A logarithmic axis with these ticks and no others."""
    ax.set(xscale="log", xticks=list(values))
    ax.set_xticks([], minor=True)
    ax.set_xticklabels([f"{value:g}" for value in values])


def _points(ax: Axes, x: np.ndarray, values: list[Interval], colour: str, name: str) -> None:
    y = np.array([one.value for one in values])
    low, high = (np.array([getattr(one, side) for one in values]) for side in ("low", "high"))
    low, high = np.where(np.isnan(low), y, low), np.where(np.isnan(high), y, high)
    # An interval of percentiles need not hold the figure itself.
    reach = [np.maximum(y - low, 0.0), np.maximum(high - y, 0.0)]
    ax.errorbar(x, y, yerr=reach, fmt="o-", ms=3, capsize=2, color=colour, label=name)
