"""Pictures of scenes, candidates and imagined futures: for the report, and one call each in a notebook."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy import ndarray

from wmplan.plans import Plans
from wmplan.scene import Feature, Future, Kind, Light, Scene

VIEW_M = (-20.0, 60.0, -30.0, 30.0)
"""What a scene picture shows of the scene frame: x from, x to, y from, y to."""
COST_COLOURS = colormaps["viridis_r"]
KIND_COLOURS = {Kind.VEHICLE: "#5b6b7f", Kind.PEDESTRIAN: "#c2577a", Kind.CYCLIST: "#b7791f", Kind.OTHER: "#9aa3ad"}
LIGHT_COLOURS = {Light.UNKNOWN: "#9aa3ad", Light.RED: "#d33c3c", Light.YELLOW: "#e0a616", Light.GREEN: "#2f9e5b"}
EGO_COLOUR = "#1f6feb"
REAL_COLOUR = "#e8590c"


def figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, ndarray]:
    """A figure without a window and its axes `[rows, columns]`; sizes in inches."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, np.asarray(fig.subplots(rows, columns, squeeze=False))


def plot_scene(
    scene: Scene,
    plans: Plans | None = None,
    costs: Float[ndarray, "K"] | None = None,
    chosen: int | None = None,
    future: Future | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> tuple[Figure, Axes]:
    """The scene from above with its candidates coloured by cost (bright is cheap), the chosen one outlined.

    Candidates without a finite cost are drawn thin and grey. With `future`, what the ego really did is drawn as a
    dashed line. Metres, scene frame: the ego starts at the origin and looks to the right.
    """
    if ax is None:
        fig, axes = figure(7.0, 5.2)
        ax = axes[0, 0]
    else:
        fig = ax.figure  # type: ignore[assignment]
    draw_map(ax, scene)
    draw_agents(ax, scene)
    if plans is not None:
        draw_candidates(ax, plans, costs, chosen)
    if future is not None:
        seen = future.ego.valid[0]
        path = future.ego.states[0, seen, :2]
        ax.plot(path[:30, 0], path[:30, 1], "--", color=REAL_COLOUR, lw=1.8, label="what the ego really did", zorder=7)
    ego = box_corners(np.zeros(3), scene.ego.sizes[0])
    ax.add_collection(PolyCollection([ego], facecolors=EGO_COLOUR, edgecolors="white", linewidths=0.6, zorder=8))
    ax.set(xlim=VIEW_M[:2], ylim=VIEW_M[2:], aspect="equal", title=title, xlabel="ahead, m", ylabel="left, m")
    ax.tick_params(labelsize=7)
    return fig, ax


def draw_map(ax: Axes, scene: Scene) -> None:
    """Drivable areas, lanes, edges, crosswalks, the route and the lights of the scene."""
    road = scene.road_map
    areas = road.of_kind(Feature.LANE_AREA, Feature.DRIVABLE)
    ax.add_collection(PolyCollection(areas, facecolors="#eef1f5", edgecolors="none", zorder=0))
    crossings = road.of_kind(Feature.CROSSWALK)
    ax.add_collection(PolyCollection(crossings, facecolors="#f4e9c8", edgecolors="none", zorder=1))
    lanes = road.of_kind(Feature.LANE)
    ax.add_collection(LineCollection(lanes, colors="#c8d0da", linewidths=0.7, zorder=1))
    ax.add_collection(LineCollection(road.of_kind(Feature.ROAD_LINE), colors="#dde2e9", linewidths=0.5, zorder=1))
    ax.add_collection(LineCollection(road.of_kind(Feature.ROAD_EDGE), colors="#7c8896", linewidths=0.9, zorder=1))
    ax.plot(scene.route[:, 0], scene.route[:, 1], color=EGO_COLOUR, lw=5, alpha=0.10, zorder=1, label="route")
    for point, state in zip(scene.lights.points, scene.lights.states[:, -1]):
        ax.plot(*point, "s", ms=4, color=LIGHT_COLOURS[Light(int(state))], zorder=6)


def draw_agents(ax: Axes, scene: Scene) -> None:
    """Boxes of the agents at t0 with their last two seconds as a trail."""
    present = np.flatnonzero(scene.agents.valid[:, -1])
    boxes = [box_corners(scene.agents.states[a, -1, :3], scene.agents.sizes[a]) for a in present]
    colours = [KIND_COLOURS[Kind(int(scene.agents.kinds[a]))] for a in present]
    trails = [scene.agents.states[a, scene.agents.valid[a], :2] for a in present]
    ax.add_collection(LineCollection(trails, colors=colours, linewidths=0.8, alpha=0.5, zorder=2))
    ax.add_collection(PolyCollection(boxes, facecolors=colours, edgecolors="white", linewidths=0.4, zorder=3))


def draw_candidates(ax: Axes, plans: Plans, costs: Float[ndarray, "K"] | None, chosen: int | None) -> None:
    """Paths of the candidates, the cheapest on top; colours span the cheaper nine tenths of the finite costs."""
    paths = plans.states[:, :, :2]
    cost = np.zeros(len(plans)) if costs is None else np.asarray(costs, dtype=np.float64)
    drawable = np.isfinite(paths).all(axis=(1, 2))
    finite = np.isfinite(cost) & drawable
    refused = drawable & ~finite
    ax.add_collection(LineCollection(list(paths[refused]), colors="#b6bdc6", linewidths=0.4, alpha=0.5, zorder=4))
    if finite.any():
        order = np.flatnonzero(finite)[np.argsort(-cost[finite], kind="stable")]
        scale = Normalize(cost[finite].min(), max(np.quantile(cost[finite], 0.9), cost[finite].min() + 1e-9), clip=True)
        colours = COST_COLOURS(scale(cost[order]))
        ax.add_collection(LineCollection(list(paths[order]), colors=colours, linewidths=0.9, zorder=5))
    if chosen is not None and drawable[chosen]:
        ax.plot(*paths[chosen].T, color="white", lw=4, zorder=6)
        ax.plot(*paths[chosen].T, color=EGO_COLOUR, lw=2.2, zorder=6, label="chosen plan")


def box_corners(pose: Float[ndarray, "3"], size: Float[ndarray, "2"]) -> Float[ndarray, "4 2"]:
    """Corners of a box with this centre and heading; length and width in metres."""
    half = 0.5 * np.asarray(size)
    corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * half
    c, s = np.cos(pose[2]), np.sin(pose[2])
    return corners @ np.array([[c, s], [-s, c]]) + pose[:2]
