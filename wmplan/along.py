"""Motion along a route: how far, and how far beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray


@dataclass(frozen=True)
class RouteUse:
    """Points on a route: arc length of the nearest route point (m), signed before its start, and distance to it (m)."""

    along: Float[ndarray, "*K"]
    lateral: Float[ndarray, "*K"]


def along_route(x: Float[ndarray, "*K"], y: Float[ndarray, "*K"], route: Float[ndarray, "R 2"]) -> RouteUse:
    """Each point projected on the nearest segment of the route; the first and last segment reach on without end.

    Segment by segment, elementwise: a point's answer does not depend on the others.

    Raises:
        ValueError: the route has no two different points.
    """
    x, y = np.ascontiguousarray(x, dtype=np.float64), np.ascontiguousarray(y, dtype=np.float64)
    route = route.astype(np.float64)
    step = np.diff(route, axis=0)
    length = np.sqrt(step[:, 0] ** 2 + step[:, 1] ** 2)
    segments = np.flatnonzero(length > 1e-6)
    if not len(segments):
        raise ValueError("along_route: the route has no two different points, expected a line")
    arc = np.concatenate([[0.0], np.cumsum(length)])
    best = np.full(x.shape, np.inf)
    along = np.zeros(x.shape)
    for n, s in enumerate(segments):
        tx, ty = step[s] / length[s]
        dx, dy = x - route[s, 0], y - route[s, 1]
        low = -np.inf if n == 0 else 0.0
        high = np.inf if n == len(segments) - 1 else length[s]
        u = np.clip(dx * tx + dy * ty, low, high)
        gap = (dx - u * tx) ** 2 + (dy - u * ty) ** 2
        nearer = gap < best
        best = np.where(nearer, gap, best)
        along = np.where(nearer, arc[s] + u, along)
    return RouteUse(along, np.sqrt(best))
