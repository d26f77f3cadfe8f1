"""Pictures of executed candidates, side by side: PNG and GIF."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from numpy import ndarray
from PIL import Image

from wmplan.boxes import corners
from wmplan.errors import InputError
from wmplan.frames import Pose
from wmplan.scene import STEP_S, Feature, Kind, RoadMap
from wmplan.scores import Outcomes
from wmplan.simulator.executed import Executed

PANEL_INCHES, GAP_INCHES, TITLE_INCHES, DOTS_PER_INCH = 3.2, 0.15, 0.5, 110
MARGIN_M = 14.0
"""Around everything that the ego does in any panel."""
LEAST_M = 50.0
"""A panel shows at least this much of the world each way."""
FRAME_STEPS = 2
"""Steps from one frame of a film to the next; it plays in real time."""
GROUND, ASPHALT, WALK, EDGE, LINE, INK = "#f3f1ec", "#dcdad4", "#efede8", "#85827a", "#ffffff", "#33312c"
EGO, HIT = "#1f6fb4", "#c8102e"
KIND_COLOURS = {Kind.VEHICLE: "#8d8a83", Kind.PEDESTRIAN: "#d9822b", Kind.CYCLIST: "#3b8f5a", Kind.OTHER: "#5b5750"}


def render(
    path: Path,
    executed: Executed,
    road_map: RoadMap,
    outcomes: Outcomes | None = None,
    candidates: Sequence[int] | None = None,
) -> Path:
    """The picture (.png: the moment of first contact, else the end) or film (.gif) of candidates, one panel each.

    Seen from the ego at t0: ahead is to the right. `candidates` are rows, at most 16 by default. With `outcomes` each
    panel says both scores and what was broken, and contacts are marked. The file appears whole or not at all.

    Raises:
        InputError: a file name that ends in neither, or a candidate that is not there.
    """
    if path.suffix not in (".png", ".gif"):
        raise InputError(f"{path}: ends in {path.suffix!r}, expected .png or .gif")
    count = executed.x.shape[1]
    rows = list(range(min(count, 16))) if candidates is None else list(candidates)
    for row in rows:
        if not 0 <= row < count:
            raise InputError(f"candidates: {row}, expected 0 to {count - 1}")
    stage = _Stage(executed, road_map, outcomes, rows)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            if path.suffix == ".png":
                stage.show(None)
                Image.fromarray(stage.shot()).save(file, format="png")
            else:
                frames = [Image.fromarray(frame).quantize(64) for frame in stage.film()]
                duration = round(1000 * STEP_S * FRAME_STEPS)
                frames[0].save(file, format="gif", save_all=True, append_images=frames[1:], duration=duration, loop=0)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


class _Stage:
    """The figure: what stays is drawn once, what moves is set anew for each moment."""

    def __init__(self, executed: Executed, road_map: RoadMap, outcomes: Outcomes | None, rows: list[int]) -> None:
        self.boxes, self.active, self.kinds = _seen_from_ego(executed.select(rows))
        self.hits = [_first_contact(outcomes, row) for row in rows]
        pose = _pose(executed)
        ends = [hit[0] if hit else len(self.boxes) - 1 for hit in self.hits]
        paths = [self.boxes[: end + 1, k, 0, :2] for k, end in enumerate(ends)]
        low, high = _window(np.concatenate(paths))
        across, down = float(high[0] - low[0]), float(high[1] - low[1])
        columns = min(len(rows), 4 - int(across > 1.6 * down) - int(across > 2.5 * down))
        lines = -(-len(rows) // columns)
        width = PANEL_INCHES * float(np.clip(across / down, 1.0, 1.5))
        high_inches = width * down / across
        total = columns * (width + GAP_INCHES) + GAP_INCHES, lines * (high_inches + TITLE_INCHES) + GAP_INCHES
        self.figure = Figure(figsize=total, dpi=DOTS_PER_INCH, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        here, self.panels = road_map.seen_from(pose), []
        for k, path in enumerate(paths):
            line, column = divmod(k, columns)
            left = GAP_INCHES + column * (width + GAP_INCHES)
            bottom = total[1] - (line + 1) * (high_inches + TITLE_INCHES)
            place = (left / total[0], bottom / total[1], width / total[0], high_inches / total[1])
            self.panels.append(_Panel(self.figure.add_axes(place), here, low, high, path))
        for panel, row in zip(self.panels, rows):
            panel.title(row, outcomes)

    def show(self, step: int | None) -> None:
        """Sets every panel to a moment; None is the one of its first contact, or the end."""
        for k, panel in enumerate(self.panels):
            hit = self.hits[k]
            at = step if step is not None else (hit[0] if hit else len(self.boxes) - 1)
            panel.show(self.boxes[:, k], self.active[:, k], self.kinds, at, hit)

    def shot(self) -> ndarray:
        """The figure as pixels."""
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()

    def film(self) -> list[ndarray]:
        """All frames; the last stays a while."""
        self.show(0)
        moving = [artist for panel in self.panels for artist in panel.moving]
        for artist in moving:
            artist.set_animated(True)
        self.canvas.draw()
        empty = self.canvas.copy_from_bbox(self.figure.bbox)
        frames = []
        for step in range(0, len(self.boxes), FRAME_STEPS):
            self.show(step)
            self.canvas.restore_region(empty)
            for artist in moving:
                self.figure.draw_artist(artist)
            frames.append(np.asarray(self.canvas.buffer_rgba())[..., :3].copy())
        return frames + frames[-1:] * 5


class _Panel:
    """One candidate."""

    def __init__(
        self, ax: Axes, road_map: RoadMap, low: Float[ndarray, "2"], high: Float[ndarray, "2"], path: ndarray
    ) -> None:
        self.ax = ax
        _draw_map(ax, road_map)
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[], facecolor=GROUND)
        for spine in ax.spines.values():
            spine.set_color("#c9c6bf")
        ax.plot(*path.T, color=EGO, lw=1.8, alpha=0.5, solid_capstyle="round", zorder=5)
        bar = 10.0 if high[0] - low[0] < 90.0 else 20.0
        x, y = low[0] + 3.0, low[1] + 3.0
        ax.plot([x, x + bar], [y, y], color=INK, lw=1.2, zorder=9)
        ax.text(x + 0.5 * bar, y + 0.8, f"{bar:g} m", ha="center", va="bottom", fontsize=6, color=INK, zorder=9)
        self.others = PolyCollection([], edgecolors="white", linewidths=0.4, zorder=6)
        self.ego = PolyCollection([], edgecolors="white", linewidths=0.5, facecolors=EGO, zorder=7)
        self.noses = LineCollection([], colors="white", linewidths=0.9, zorder=8)
        for collection in (self.others, self.ego, self.noses):
            ax.add_collection(collection, autolim=False)
        (self.mark,) = ax.plot([], [], "o", ms=15, mfc="none", mec=HIT, mew=1.6, zorder=9)
        self.clock = ax.text(
            0.98, 0.03, "", ha="right", va="bottom", transform=ax.transAxes, fontsize=7, color=INK, zorder=9
        )
        self.moving = (self.others, self.ego, self.noses, self.mark, self.clock)

    def title(self, row: int, outcomes: Outcomes | None) -> None:
        """The candidate's number, its scores, and what it broke in red."""
        text, broken = f"{row}", ""
        if outcomes is not None:
            of = {name: float(outcomes.column(name)[row]) for name in outcomes.columns}
            text = f"{row}:  PDMS {of['pdms']:.2f}   nuPlan {of['nuplan_score']:.2f}"
            broken = ", ".join(_broken(of)[:MOST_WORDS])
        colour = INK if broken == KEPT else HIT
        for line, height, size, ink in ((text, 15, 8, INK), (broken, 4.5, 7, colour)):
            self.ax.annotate(line, (0, 1), (0, height), "axes fraction", "offset points", fontsize=size, color=ink)

    def show(
        self, boxes: Float[ndarray, "S A 5"], active: Bool[ndarray, "S A"], kinds: Int[ndarray, "A"], step: int,
        hit: tuple[int, int] | None,
    ) -> None:  # fmt: skip
        """The moment `step`; a contact that has happened is marked where it did."""
        there = np.flatnonzero(active[step])
        shapes = corners(boxes[step, there])
        colours = [KIND_COLOURS[Kind(int(kind))] for kind in kinds[there]]
        if hit and step >= hit[0]:
            colours = [HIT if row == hit[1] else colour for row, colour in zip(there, colours)]
        ego = there == 0
        self.others.set_verts(list(shapes[~ego]))
        self.others.set_facecolor([c for c, own in zip(colours, ego) if not own])
        self.ego.set_verts(list(shapes[ego]))
        front, centre = shapes[:, :2].mean(axis=1), shapes.mean(axis=1)
        self.noses.set_segments([np.stack([c + 0.45 * (f - c), f]) for c, f in zip(centre, front)])
        self.mark.set_data([], [])
        if hit is not None and step >= hit[0]:
            x, y = 0.5 * (boxes[hit[0], 0, :2] + boxes[hit[0], hit[1], :2])
            self.mark.set_data([x], [y])
        self.clock.set_text(f"{step * STEP_S:.1f} s")


KEPT = "nothing broken"
MOST_WORDS = 3


def _broken(of: dict[str, float]) -> list[str]:
    """What a candidate did wrong, in words."""
    if not np.isfinite(of["pdms"]):
        return ["not finite"]
    own, other = of["contacts_at_fault"], of["contacts"] - of["contacts_at_fault"]
    words = {
        f"at fault for contact ({of['first_contact_s']:.1f} s)": own > 0,
        "hit by others": other > 0,
        "off the road": of["drivable_nuplan"] == 0,
        "wrong way": of["direction"] < 1,
        "red light": of["no_red_light"] == 0,
        "close": of["ttc_nuplan"] == 0 and own == 0,
        "no progress": of["making_progress"] == 0,
        "too fast": of["speed_limit"] < 0.99,
        "uncomfortable": of["comfort"] == 0,
    }
    return [word for word, is_so in words.items() if is_so] or [KEPT]


def _window(points: Float[ndarray, "N 2"]) -> tuple[Float[ndarray, "2"], Float[ndarray, "2"]]:
    """Corners of what the panels show: the points and a margin, no more than three times as wide as high or so."""
    low, high = points.min(axis=0) - MARGIN_M, points.max(axis=0) + MARGIN_M
    size = high - low
    size = np.maximum(size, np.maximum(LEAST_M, size[::-1] / 3.0))
    middle = 0.5 * (low + high)
    return middle - 0.5 * size, middle + 0.5 * size


def _first_contact(outcomes: Outcomes | None, row: int) -> tuple[int, int] | None:
    """Step and row of a candidate's first contact."""
    if outcomes is None or not np.isfinite(outcomes.column("first_contact_row")[row]):
        return None
    return round(outcomes.column("first_contact_s")[row] / STEP_S), int(outcomes.column("first_contact_row")[row])


def _pose(executed: Executed) -> Pose:
    x, y, yaw = executed.ego[0, 0, :3]
    return Pose(float(x), float(y), float(yaw))


def _seen_from_ego(executed: Executed) -> tuple[Float[ndarray, "S K A 5"], Bool[ndarray, "S K A"], Int[ndarray, "A"]]:
    """Boxes in the frame of the ego at t0, who is there, and of what kind."""
    ex, pose = executed.numpy(), _pose(executed)
    xy = pose.to_local(np.stack([ex.x, ex.y], axis=-1).astype(np.float64))
    yaw = np.arctan2(ex.sin, ex.cos) - pose.yaw
    size = np.broadcast_to(np.stack([ex.length, ex.width], axis=-1), (*yaw.shape, 2))
    return np.concatenate([xy, yaw[..., None], size], axis=-1), np.asarray(ex.active), np.asarray(ex.kind)


def _draw_map(ax: Axes, road_map: RoadMap) -> None:
    areas = [p for p in road_map.of_kind(Feature.LANE_AREA, Feature.DRIVABLE) if len(p) >= 3]
    lanes, edges = road_map.of_kind(Feature.LANE), road_map.of_kind(Feature.ROAD_EDGE)
    # Areas that overlap must not show their seams: an outline in the same colour closes them.
    ax.add_collection(PolyCollection(areas, facecolors=ASPHALT, edgecolors=ASPHALT, linewidths=0.6, zorder=1))
    if not areas:
        ax.add_collection(LineCollection(lanes, colors=ASPHALT, linewidths=9.0, capstyle="round", zorder=1))
    walks = [p for p in road_map.of_kind(Feature.CROSSWALK) if len(p) >= 3]
    ax.add_collection(
        PolyCollection(walks, facecolors=WALK, edgecolors="#cfccc4", linewidths=0.4, hatch="////", zorder=2)
    )
    ax.add_collection(LineCollection(lanes, colors=LINE, linewidths=0.6, linestyles=(0, (6, 6)), zorder=3))
    ax.add_collection(LineCollection(edges, colors=EDGE, linewidths=0.9, zorder=4))
