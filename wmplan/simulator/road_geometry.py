"""The road of a map for very many boxes: a grid decides the clear cases, `RealRoad`'s exact geometry the rest.

Every answer is that of `wmplan.real_road.RealRoad`; only the time differs. What is clear depends on the map alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float, Float64, Int8
from numpy import ndarray
from scipy import ndimage

from wmplan.boxes import corners
from wmplan.real_road import RealRoad
from wmplan.rules import DIRECTION_WINDOW_STEPS, DRIVABLE_TOLERANCE_M, worst_against
from wmplan.scene import RoadMap

AREA_CELL_M = 0.4
EDGE_CELL_M = 0.25
DISCS = 4
"""A box is covered by this many discs along its length."""
OUTSIDE, INSIDE, ASK = 0, 1, 2
TOLERANCES_M = (0.0, DRIVABLE_TOLERANCE_M)


class RoadGeometry:
    """Drivable area, lanes and directions of a map; built once a map, `RealRoad` made fast."""

    def __init__(self, road_map: RoadMap) -> None:
        self.exact = RealRoad(road_map)
        self._areas = {t: _AreaGrid.of(area) for t in TOLERANCES_M if (area := self.exact.area(t))}
        self._edges = None if self._areas or self.exact.edges is None else _EdgeGrid.of(self.exact.edges)

    def off(self, boxes: Float[ndarray, "N 5"]) -> tuple[Bool[ndarray, "N"], Bool[ndarray, "N"]]:
        """`RealRoad.off` without tolerance, and with nuPlan's."""
        points = corners(boxes) if self._areas else None
        clear = self._edges.clear(boxes) if self._edges is not None else None
        answers = []
        for tolerance in TOLERANCES_M:
            off, ask = np.zeros(len(boxes), dtype=bool), np.zeros(0, dtype=int)
            if clear is not None:
                ask = np.flatnonzero(~clear)
            elif points is not None:
                places = self._areas[tolerance].look_up(points)
                off = (places == OUTSIDE).any(axis=1)
                ask = np.flatnonzero(~off & (places == ASK).any(axis=1))
            off[ask] = self.exact.off(boxes[ask], tolerance)
            answers.append(off)
        return answers[0], answers[1]

    def within_lane(self, boxes: Float[ndarray, "N 5"]) -> Bool[ndarray, "N"]:
        """`RealRoad.within_lane`."""
        return self.exact.within_lane(boxes)

    def worst_against(self, xy: Float64[ndarray, "K S 2"]) -> Float64[ndarray, "K"]:
        """Most metres driven against the lanes within a second, by `RealRoad.along_lane` and `rules.worst_against`."""
        moves = np.diff(xy, axis=1)
        clear = self.exact.with_nearest_lane(moves.reshape(-1, 2), xy[:, :-1].reshape(-1, 2)).reshape(moves.shape[:2])
        # Only a window with a step that is not clear can be against the lanes; the other steps of it count too.
        ask = ndimage.binary_dilation(~clear, np.ones((1, 2 * DIRECTION_WINDOW_STEPS - 1), dtype=bool))
        progress = np.zeros(moves.shape[:2])
        progress[ask] = self.exact.along_lane(moves[ask], xy[:, :-1][ask])
        worst, rows = np.zeros(len(xy)), np.flatnonzero(ask.any(axis=1))
        worst[rows] = worst_against(progress[rows])
        return worst


@dataclass(frozen=True)
class _AreaGrid:
    """Cells of `AREA_CELL_M`: wholly inside an area, wholly outside, or on its border."""

    low: Float64[ndarray, "2"]
    cells: Int8[ndarray, "H W"]

    @staticmethod
    def of(area: shapely.Geometry) -> _AreaGrid:
        low, border = _marked(shapely.boundary(area), AREA_CELL_M)
        # A region without border cells is inside or outside as a whole: one point of each tells.
        regions, count = ndimage.label(~border)
        some = np.zeros(count + 1, dtype=np.int64)
        some[regions.ravel()] = np.arange(regions.size)
        i, j = np.unravel_index(some, regions.shape)
        inside = shapely.contains_xy(area, low[0] + (j + 0.5) * AREA_CELL_M, low[1] + (i + 0.5) * AREA_CELL_M)
        return _AreaGrid(low, np.where(border, np.int8(ASK), inside[regions].astype(np.int8)))

    def look_up(self, points: Float[ndarray, "*N 2"]) -> Int8[ndarray, "*N"]:
        """What each point's cell says."""
        return _looked_up(self.cells, self.low, AREA_CELL_M, points, OUTSIDE)


@dataclass(frozen=True)
class _EdgeGrid:
    """From each cell of `EDGE_CELL_M` a distance (m) that no road edge is nearer than."""

    low: Float64[ndarray, "2"]
    metres: Float[ndarray, "H W"]

    @staticmethod
    def of(edges: shapely.Geometry) -> _EdgeGrid:
        low, border = _marked(edges, EDGE_CELL_M, margin_m=4.0)
        cells = np.asarray(ndimage.distance_transform_edt(~border))
        return _EdgeGrid(low, np.maximum((cells - np.sqrt(2.0)) * EDGE_CELL_M, 0.0).astype(np.float32))

    def clear(self, boxes: Float[ndarray, "N 5"]) -> Bool[ndarray, "N"]:
        """Boxes that surely touch no edge: they are covered by discs that do not."""
        x, y, yaw, length, width = (boxes[:, i, None] for i in range(5))
        along = ((np.arange(DISCS) + 0.5) / DISCS - 0.5) * length
        radius = 0.5 * np.hypot(length / DISCS, width)
        centres = np.stack([x + along * np.cos(yaw), y + along * np.sin(yaw)], axis=-1)
        far = _looked_up(self.metres, self.low, EDGE_CELL_M, centres, 4.0 - EDGE_CELL_M)
        return (far > radius).all(axis=1)


def _marked(lines: shapely.Geometry, cell: float, margin_m: float = 0.0) -> tuple[ndarray, Bool[ndarray, "H W"]]:
    """The lower corner of a grid around lines, and which cells they pass through (or come within a tenth of)."""
    step = 0.1 * cell
    points = shapely.get_coordinates(shapely.segmentize(lines, step))
    low = points.min(axis=0) - margin_m - 2.0 * cell
    cols, rows = np.ceil((points.max(axis=0) + margin_m + 2.0 * cell - low) / cell).astype(int)
    border = np.zeros((rows, cols), dtype=bool)
    for shift in np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]) * step:
        j, i = np.floor((points + shift - low) / cell).astype(int).T
        border[i, j] = True
    return low, border


def _looked_up(table: ndarray, low: ndarray, cell: float, points: ndarray, beyond: float | int) -> ndarray:
    """The table's values at points; `beyond` outside it."""
    j = np.floor((points[..., 0] - low[0]) * (1.0 / cell)).astype(np.int64)
    i = np.floor((points[..., 1] - low[1]) * (1.0 / cell)).astype(np.int64)
    rows, cols = table.shape
    known = (i >= 0) & (i < rows) & (j >= 0) & (j < cols)
    return np.where(known, table[np.clip(i, 0, rows - 1), np.clip(j, 0, cols - 1)], table.dtype.type(beyond))
