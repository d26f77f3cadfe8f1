"""Geometry that the maps share: arcs and rounded corners, areas beside a path, kerbs, and paths of people and cyclists.

Metres, radians, counter-clockwise; arcs are cut so finely that no path bends by more than `BEND` at a vertex (what is
only drawn: by `FINE_BEND`) and no piece is longer than `PIECE_M`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator

from wmplan.scene import Feature, Kind
from wmplan.simulator.layout import Points, Route, resample

Place = Float[ndarray, "2"] | Sequence[float]
BEND, FINE_BEND, PIECE_M = np.deg2rad(15.0), np.deg2rad(5.0), 5.0
TURN_ACCEL_MPS2 = 2.5
"""Lateral acceleration that sets the speed of a turn: what drivers accept at low speed is 2 to 3 m/s2 (side
friction of 0.2 to 0.3 below 40 km/h, AASHTO Green Book 2018, chapter 3)."""
SIDEWALK_M = 6.0
"""Beyond a kerb, where people who cross begin and end."""
KERB_GAP_M = 0.3
"""Slits between areas that are narrower than twice this are no kerbs."""


def arc(centre: tuple[float, float], radius: float, begin: float, end: float, bend: float = BEND) -> Points:
    """The circular arc from angle `begin` to angle `end` as seen from the centre, either way round."""
    pieces = int(np.ceil(abs(end - begin) / min(bend, PIECE_M / radius) - 1e-9))
    angle = np.linspace(begin, end, max(1, pieces) + 1)
    return np.array(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], -1)


def rounded(begin: Place, corner: Place, end: Place, radius: float, bend: float = BEND) -> Points:
    """The arc that rounds a corner between two straight pieces; it ends where it touches them."""
    at = np.array(corner, float)
    came, goes = at - np.array(begin, float), np.array(end, float) - at
    came, goes = came / np.hypot(*came), goes / np.hypot(*goes)
    angle = float(np.arctan2(came[0] * goes[1] - came[1] * goes[0], came @ goes))
    side = np.sign(angle) * np.array([-came[1], came[0]])
    centre = at - radius * np.tan(0.5 * abs(angle)) * came + radius * side
    first = float(np.arctan2(-side[1], -side[0]))
    return arc((float(centre[0]), float(centre[1])), radius, first, first + angle, bend)


def join(*pieces: Points) -> Points:
    """One path through these pieces; points that follow each other closer than a millimetre are one."""
    points = np.concatenate(pieces)
    keep = np.append(True, np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-3)
    return points[keep]


def length(points: Points) -> float:
    """Of the whole path."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def place(points: Points, target: Place) -> float:
    """The arc length of the place on a path that is nearest to a point."""
    return float(shapely.line_locate_point(shapely.LineString(points), shapely.Point(*target)))


def parallel(points: Points, offset: float) -> Points:
    """The path `offset` metres to the left of this one (negative: to the right), vertex by vertex."""
    step = np.diff(points, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], -1) / np.linalg.norm(step, axis=1, keepdims=True)
    before, after = np.concatenate([normal[:1], normal]), np.concatenate([normal, normal[-1:]])
    return points + offset * (before + after) / (1.0 + (before * after).sum(axis=1, keepdims=True))


def area(
    points: Points, left: float | Float[ndarray, "_N"], right: float | Float[ndarray, "_N"]
) -> Float[ndarray, "_M 2"]:
    """The closed area from `left` metres to the left of a path to `right` metres to its right."""
    unit = parallel(points, 1.0) - points
    near = np.broadcast_to(np.asarray(left), len(points))[:, None]
    far = np.broadcast_to(np.asarray(right), len(points))[:, None]
    return np.concatenate([points + near * unit, (points - far * unit)[::-1]])


def kerbs(
    features: Sequence[tuple[Feature, str, Points]], ends: Sequence[tuple[Points, float]]
) -> list[tuple[Feature, str, Points]]:
    """The edges of everything paved among the features, open where the road leaves the map: `ends` are the middles of
    the roads' ends (one point each) and half their widths."""
    paved = [shapely.Polygon(p) for kind, _, p in features if kind in (Feature.LANE_AREA, Feature.DRIVABLE)]
    # Without a grid GEOS loses whole lanes whose edges nearly coincide with others'.
    union = (
        shapely.union_all(paved, grid_size=1e-3)
        .buffer(KERB_GAP_M, join_style="mitre")
        .buffer(-KERB_GAP_M, join_style="mitre")
    )
    lines = union.simplify(0.02).boundary
    for middle, half in ends:
        lines = lines.difference(shapely.Point(*middle[0]).buffer(half))
    merged = shapely.get_parts(shapely.line_merge(lines))
    points = [np.asarray(line.coords) for line in merged if line.length > 1.0]
    return [(Feature.ROAD_EDGE, f"edge{i}", resample(p)) for i, p in enumerate(points)]


def turn_speed(radius: float, limit: float) -> float:
    """How fast a turn is driven, m/s."""
    return min(limit, float(np.sqrt(TURN_ACCEL_MPS2 * radius)))


def walks(draw: Generator, begin: Place, end: Place, apart: float, group: int = -1) -> list[Route]:
    """The two paths of people who cross a road from kerb `begin` to kerb `end` and back, `apart` metres from each
    other (each keeps to the right), at 1.0 to 1.6 m/s.

    Those who cross walk at 1.45 m/s on average, 15 in 100 slower than 1.15 (Fitzpatrick et al. 2006, TCRP 112).
    """
    across = np.array(end, float) - np.array(begin, float)
    width = float(np.hypot(*across))
    unit = across / width
    middle = np.stack([np.array(begin) - SIDEWALK_M * unit, np.array(end) + SIDEWALK_M * unit])
    shift = 0.5 * apart * np.array([unit[1], -unit[0]])
    return [
        Route(
            path,
            np.full(2, draw.uniform(1.0, 1.6)),
            SIDEWALK_M - 0.5,
            SIDEWALK_M + width,
            group,
            Kind.PEDESTRIAN,
        )
        for path in (middle + shift, middle[::-1] - shift)
    ]


def riding_speed(draw: Generator) -> float:
    """What one who cycles in a town keeps to: 3.5 to 6 m/s. The mean on the flat is 6.0 m/s (Parkin and Rotheram 2010,
    Transport Policy 17); many are slower where there is traffic."""
    return float(draw.uniform(3.5, 6.0))
