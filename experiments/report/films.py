"""Imagined futures over time: film strips, moving pictures, and what one plan changes for the others beside another."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy import ndarray
from PIL import Image

from experiments.report.pictures import figure
from wmplan.contracts import Grid

VEHICLE, VRU, EGO = (0.11, 0.22, 0.42), (0.76, 0.15, 0.45), (0.91, 0.35, 0.05)
COMES, GOES = (0.05, 0.45, 0.72), (0.78, 0.16, 0.16)
"""Colours of the change panel: where the others are only under the second plan, and only under the first."""
HOLD_S = 1.2
"""A moving picture rests so long on its last frame."""
Strip = tuple[str, Float[ndarray, "T C H W"]]


def plot_film(
    strips: list[Strip],
    footprints: Float[ndarray, "T H W"],
    grid: Grid,
    step_s: float,
    title: str = "",
) -> tuple[Figure, ndarray]:
    """A film of occupancy over time, one row a strip (imagined, real, ...), one column a step.

    Vehicles are dark blue, vulnerable road users magenta, the ego's footprint under the plan orange.
    """
    rows = [(name, [_blend(shown[t], footprints[t]) for t in range(len(shown))]) for name, shown in strips]
    return _strips(rows, grid, step_s, title)


def plot_reaction(
    names: tuple[str, str],
    futures: tuple[Float[ndarray, "T C H W"], Float[ndarray, "T C H W"]],
    footprints: tuple[Float[ndarray, "T H W"], Float[ndarray, "T H W"]],
    grid: Grid,
    step_s: float,
    title: str = "",
) -> tuple[Figure, ndarray]:
    """Two plans' imagined futures, and the reaction: what changes for the others from the first plan to the second.

    In the last row blue is where somebody is only under the second plan, red where only under the first; the paler
    orange is the ego under the first plan. Give both the same noise, or the samples' difference shows too.
    """
    rows = [
        (name, [_blend(shown[t], feet[t]) for t in range(len(shown))])
        for name, shown, feet in zip(names, futures, footprints, strict=True)
    ]
    change = futures[1].max(1) - futures[0].max(1)
    panels = []
    for t, moved in enumerate(change):
        layers = (np.clip(moved, 0.0, 1.0), COMES), (np.clip(-moved, 0.0, 1.0), GOES)
        egos = (0.35 * footprints[0][t], EGO), (footprints[1][t], EGO)
        panels.append(_over_white((*layers, *egos)))
    return _strips([*rows, ("change", panels)], grid, step_s, title)


def film_gif(strips: list[Strip], footprints: Float[ndarray, "T H W"], grid: Grid, step_s: float) -> bytes:
    """The strips side by side as a moving picture (GIF), at the pace at which it happens."""
    shots = []
    for t in range(len(footprints)):
        fig, axes = figure(3.3 * len(strips), 2.6, columns=len(strips))
        for ax, (name, shown) in zip(axes[0], strips, strict=True):
            _panel(ax, _blend(shown[t], footprints[t]), grid)
            ax.set_title(f"{name}, {(t + 1) * step_s:.1f} s", fontsize=9)
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
        shots.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()).quantize(64))
    pace = [round(1000 * step_s)] * len(shots)
    pace[-1] += round(1000 * HOLD_S)
    file = io.BytesIO()
    shots[0].save(file, format="gif", save_all=True, append_images=shots[1:], duration=pace, loop=0)
    return file.getvalue()


def _strips(rows: list[tuple[str, list[ndarray]]], grid: Grid, step_s: float, title: str) -> tuple[Figure, ndarray]:
    steps = len(rows[0][1])
    fig, axes = figure(1.55 * steps + 0.5, 1.25 * len(rows) + 0.35, columns=steps, rows=len(rows))
    for row, (name, panels) in enumerate(rows):
        for t, image in enumerate(panels):
            _panel(axes[row, t], image, grid)
            if row == 0:
                axes[row, t].set_title(f"{(t + 1) * step_s:.1f} s", fontsize=8)
        axes[row, 0].set_ylabel(name, fontsize=8)
    if title:
        fig.suptitle(title, fontsize=9)
    return fig, axes


def _panel(ax: Axes, image: Float[ndarray, "H W 3"], grid: Grid) -> None:
    extent = (grid.x_min, grid.x_min + grid.cols * grid.cell, grid.y_min, grid.y_min + grid.rows * grid.cell)
    ax.imshow(image, origin="lower", extent=extent, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_color("#c8d0da")


def _blend(occupancy: Float[ndarray, "C H W"], footprint: Float[ndarray, "H W"]) -> Float[ndarray, "H W 3"]:
    """Vehicle, VRU and ego layers."""
    return _over_white(((occupancy[0], VEHICLE), (occupancy[1], VRU), (footprint, EGO)))


def _over_white(layers: tuple[tuple[ndarray, tuple[float, float, float]], ...]) -> Float[ndarray, "H W 3"]:
    image = np.ones((*layers[0][0].shape, 3))
    for amount, colour in layers:
        weight = np.clip(amount, 0.0, 1.0)[..., None]
        image = image * (1.0 - weight) + weight * np.array(colour)
    return np.clip(image, 0.0, 1.0)
