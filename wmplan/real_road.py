"""The road of a scene as polygons and lines: drivable area, lanes, direction, for boxes that really drove there."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import cKDTree

from wmplan.boxes import corners
from wmplan.map_raster import LANE_HALF_WIDTH_M
from wmplan.scene import Feature, RoadMap

LANE_WIDTH_M = 3.7
"""Where a map has no lane areas, a box is within a lane if its corners are within half of this of one centreline."""
NEAR_M = 2.5
"""Lanes whose metre-pieces are farther away say nothing of a move."""
GRID_M = 1e-3
"""Areas are joined on a grid: without one, unions of nearly equal edges lose whole lanes."""
NEIGHBOURS = 16
"""Nearest metre-pieces of lanes that are asked for their direction: several lanes overlap in a crossing."""


class RealRoad:
    """Drivable area and lanes of a map, in the scene frame.

    Drivable is, by what the map offers: its polygons (lane areas and drivable areas); else what can be reached without
    crossing a road edge; else everything within 2 m of a lane's centreline. Without any of these nothing is known.
    """

    def __init__(self, road_map: RoadMap) -> None:
        areas = [p for p in road_map.of_kind(Feature.LANE_AREA, Feature.DRIVABLE) if len(p) >= 3]
        lanes = [p for p in road_map.of_kind(Feature.LANE) if len(p) >= 2]
        edges = [p for p in road_map.of_kind(Feature.ROAD_EDGE) if len(p) >= 2]
        self._area = self._edges = None
        if areas:
            self._area = shapely.union_all([_polygon(p) for p in areas], grid_size=GRID_M)
        elif edges:
            self._edges = shapely.union_all([shapely.LineString(p.astype(np.float64)) for p in edges])
            shapely.prepare(self._edges)
        elif lanes:
            lines = shapely.union_all([shapely.LineString(p.astype(np.float64)) for p in lanes])
            self._area = shapely.buffer(lines, LANE_HALF_WIDTH_M)
        self._wide: dict[float, shapely.Geometry] = {}
        self._map = road_map
        self._points, self._tangents = _pieces(lanes)
        self._tree = cKDTree(self._points) if len(self._points) else None

    @property
    def known(self) -> bool:
        """Whether the map says what is drivable."""
        return self._area is not None or self._edges is not None

    @property
    def edges(self) -> shapely.Geometry | None:
        """The road edges, where they are all that tells what is drivable."""
        return self._edges

    def area(self, tolerance_m: float = 0.0) -> shapely.Geometry | None:
        """The drivable area made wider by the tolerance; None where the map has none."""
        if self._area is not None and tolerance_m not in self._wide:
            wide = shapely.buffer(self._area, tolerance_m, quad_segs=32) if tolerance_m > 0.0 else self._area
            shapely.prepare(wide)
            self._wide[tolerance_m] = wide
        return self._wide.get(tolerance_m)

    def off(self, boxes: Float[ndarray, "N 5"], tolerance_m: float) -> Bool[ndarray, "N"]:
        """Which boxes have a corner at least (for 0: more than) this far outside the drivable area; False if unknown.

        With road edges only, a box is off when it, made smaller by the tolerance on every side, crosses one.
        """
        wide = self.area(tolerance_m)
        if wide is not None:
            points = corners(boxes)
            return ~shapely.intersects_xy(wide, points[..., 0], points[..., 1]).all(axis=1)
        if self._edges is not None:
            smaller = boxes.copy()
            smaller[:, 3:] = np.maximum(smaller[:, 3:] - 2.0 * tolerance_m, 0.1)
            return shapely.intersects(self._edges, shapely.polygons(corners(smaller)))
        return np.zeros(len(boxes), dtype=bool)

    def within_lane(self, boxes: Float[ndarray, "N 5"]) -> Bool[ndarray, "N"]:
        """Which boxes lie wholly within one lane, or one and the next; True where the map has no lanes."""
        lanes, links, are_areas = self._lanes
        inside = np.zeros(len(boxes), dtype=bool)
        if not len(boxes) or not len(lanes):
            return ~inside
        ends = corners(boxes)
        if are_areas:
            shapes = shapely.polygons(ends)
            row, lane = lanes.query(shapes)
            inside[row[shapely.covers(lanes.geometries[lane], shapes[row])]] = True
            return inside
        point, lane = lanes.query(shapely.points(ends.reshape(-1, 2)), predicate="dwithin", distance=LANE_WIDTH_M / 2.0)
        near = np.zeros((len(boxes), 4, len(lanes)), dtype=bool)
        near[point // 4, point % 4, lane] = True
        together = near[:, :, links[:, 0]] | near[:, :, links[:, 1]]
        return np.any(np.all(near, axis=1), axis=1) | np.any(np.all(together, axis=1), axis=1)

    @cached_property
    def _lanes(self) -> tuple[shapely.STRtree, Int[ndarray, "N 2"], bool]:
        """Lanes as areas (every one, and every one with one that follows it), or without these as lines; which lines
        follow each other; whether they are areas."""
        rows = [i for i in np.flatnonzero(self._map.kinds == Feature.LANE) if len(self._map.feature(int(i))) >= 2]
        lines = [shapely.LineString(self._map.feature(int(i)).astype(np.float64)) for i in rows]
        areas = [_polygon(p) for p in self._map.of_kind(Feature.LANE_AREA) if len(p) >= 3]
        own = _area_of_each(lines, areas) if areas and lines else list(range(len(lines)))
        place = dict(zip(map(int, rows), own))
        found = {(place.get(a, -1), place.get(b, -1)) for a, b in self._map.successors.tolist()}
        links = np.array(sorted((a, b) for a, b in found if a >= 0 and b >= 0 and a != b), dtype=int).reshape(-1, 2)
        if not areas:
            return shapely.STRtree(lines), links, False
        single = np.array(areas, dtype=object)
        lanes = np.concatenate([single, shapely.union(single[links[:, 0]], single[links[:, 1]])])
        shapely.prepare(lanes)
        return shapely.STRtree(lanes), links, True

    def with_nearest_lane(self, moved: Float[ndarray, "N 2"], at: Float[ndarray, "N 2"]) -> Bool[ndarray, "N"]:
        """Which moves go with the direction of the nearest lane, or have none near: `along_lane` gives them no less
        than 0, and costs more."""
        if self._tree is None:
            return np.ones(len(at), dtype=bool)
        distance, found = self._tree.query(at, k=1, distance_upper_bound=NEAR_M)
        near = np.isfinite(distance)
        tangent = self._tangents[np.where(near, found, 0)]
        return ~near | (tangent[:, 0] * moved[:, 0] + tangent[:, 1] * moved[:, 1] >= 0.0)

    def along_lane(self, moved: Float[ndarray, "N 2"], at: Float[ndarray, "N 2"]) -> Float[ndarray, "N"]:
        """Metres of each move along the best aligned lane within 2 m of where it began; 0 where there is none."""
        if self._tree is None or not len(at):
            return np.zeros(len(at))
        distance, found = self._tree.query(at, k=min(NEIGHBOURS, len(self._points)), distance_upper_bound=NEAR_M)
        distance, found = distance.reshape(len(at), -1), found.reshape(len(at), -1)
        near = np.isfinite(distance)
        tangent = self._tangents[np.where(near, found, 0)]
        along = tangent[..., 0] * moved[:, :1] + tangent[..., 1] * moved[:, 1:]
        progress = np.where(near, along, -np.inf)
        best = progress.max(axis=1)
        return np.where(np.isfinite(best), best, 0.0)


def _polygon(points: ndarray) -> shapely.Geometry:
    """A valid polygon of what may be a self-touching ring."""
    shape = shapely.Polygon(points.astype(np.float64))
    return shape if shape.is_valid else shapely.make_valid(shape)


def _area_of_each(lines: list[shapely.LineString], areas: list[shapely.Geometry]) -> list[int]:
    """The area that each lane's line mostly lies in, -1 for none: formats name both in ways of their own."""
    points = shapely.line_interpolate_point(np.array(lines)[:, None], np.linspace(0.1, 0.9, 9), normalized=True)
    point, area = shapely.STRtree(areas).query(points.ravel(), predicate="intersects")
    count = np.zeros((len(lines), len(areas)), dtype=int)
    np.add.at(count, (point // points.shape[1], area), 1)
    return [int(row.argmax()) if row.any() else -1 for row in count]


def _pieces(lanes: list[ndarray]) -> tuple[Float[ndarray, "N 2"], Float[ndarray, "N 2"]]:
    """Points every metre or less along all lanes, and the unit direction there."""
    points, tangents = [np.zeros((0, 2))], [np.zeros((0, 2))]
    for lane in lanes:
        step = np.diff(lane.astype(np.float64), axis=0)
        length = np.hypot(step[:, 0], step[:, 1])
        for start, move, metres in zip(lane[:-1][length > 1e-6], step[length > 1e-6], length[length > 1e-6]):
            share = (np.arange(int(np.ceil(metres))) + 0.5) / int(np.ceil(metres))
            points.append(start + share[:, None] * move)
            tangents.append(np.broadcast_to(move / metres, (len(share), 2)))
    return np.concatenate(points), np.concatenate(tangents)
