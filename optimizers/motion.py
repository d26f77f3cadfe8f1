"""What an optimizer knows of a scene, as arrays of fixed shapes: the ego's motion and the route as a smooth curve."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.plans import ROUTE_POINTS, Start

ROUTE_SMOOTHING = 1.0
"""Weight of squared third differences of the route's points against their squared displacement. One keeps circles and
straight lines where they are (within millimetres) and rounds the corner of a polyline over about three points."""
SHORTEST_SPACING_M = 1e-2
"""A route with closer points is no route: straight ahead is taken."""


class Route(NamedTuple):
    """A curve through the route's points, twice continuously differentiable between them, straight beyond both ends.

    The parameter is metres along the polyline; `second` holds the second derivatives at the points.
    """

    points: Float[Array, "R 2"]
    second: Float[Array, "R 2"]
    spacing: Float[Array, ""]


class Motion(NamedTuple):
    """The ego at t0 and where it would like to go. Scene frame: the ego is at the origin with heading 0."""

    speed: Float[Array, ""]
    accel: Float[Array, ""]
    curvature: Float[Array, ""]
    target_speed: Float[Array, ""]
    route: Route


class Place(NamedTuple):
    """Points of a route: position, derivative by the parameter, heading of the tangent (as an angle and as a unit
    vector), curvature."""

    x: Float[Array, "..."]
    y: Float[Array, "..."]
    slope: Float[Array, "..."]
    yaw: Float[Array, "..."]
    curvature: Float[Array, "..."]
    cos: Float[Array, "..."]
    sin: Float[Array, "..."]


def motion_of(start: Start) -> Motion:
    """The start as arrays.

    Raises:
        InputError: if a number of the start is not finite, the speed is negative or the route has a wrong shape.
    """
    for name in ("speed", "accel", "curvature", "target_speed"):
        if not np.isfinite(getattr(start, name)):
            raise InputError(f"start.{name} is {getattr(start, name)}, expected a finite number")
    if start.speed < 0.0:
        raise InputError(f"start.speed is {start.speed}, expected 0 or more")
    if start.route.shape != (ROUTE_POINTS, 2) or not np.isfinite(start.route).all():
        raise InputError(f"start.route has shape {start.route.shape}, expected ({ROUTE_POINTS}, 2), all finite")
    numbers = (start.speed, start.accel, start.curvature, max(start.target_speed, 0.0))
    speed, accel, curvature, target_speed = (jnp.float32(value) for value in numbers)
    return Motion(speed, accel, curvature, target_speed, route_of(start.route))


def route_of(points: Float[ndarray, "R 2"]) -> Route:
    """A smooth curve along equally spaced points."""
    raw = np.asarray(points, dtype=np.float64)
    spacing = float(np.hypot(*np.diff(raw, axis=0).T).mean())
    if spacing < SHORTEST_SPACING_M:
        spacing = 1.0
        raw = np.stack([np.arange(len(raw)) * spacing, np.zeros(len(raw))], axis=1)
    smoother, curver = _spline_matrices(len(raw))
    smooth = smoother @ raw
    second = curver @ smooth / spacing**2
    return Route(*(jnp.asarray(np.float32(value)) for value in (smooth, second, spacing)))


def place(route: Route, s: Float[Array, "..."]) -> Place:
    """The route at `s` metres from its first point; before it and past the last point the route goes on straight.

    References:
        Cubic spline with given second derivatives: Press et al., "Numerical Recipes", 3.3.3 to 3.3.5.
    """
    last = route.points.shape[0] - 1
    u = s / route.spacing
    cell = jnp.clip(jnp.floor(u), 0, last - 1)
    i = cell.astype(jnp.int32)
    b = jnp.clip(u - cell, 0.0, 1.0)
    a = 1.0 - b
    beyond = (u - cell - b) * route.spacing
    h = route.spacing
    tables = (route.points[:-1], route.points[1:], route.second[:-1], route.second[1:])
    p0, p1, m0, m1 = ((table[i, 0], table[i, 1]) for table in tables)
    value, first, second = [], [], []
    for axis in range(2):
        tangent = (p1[axis] - p0[axis]) / h + h / 6.0 * ((3 * b**2 - 1) * m1[axis] - (3 * a**2 - 1) * m0[axis])
        inside = a * p0[axis] + b * p1[axis] + h**2 / 6.0 * ((a**3 - a) * m0[axis] + (b**3 - b) * m1[axis])
        value.append(inside + beyond * tangent)
        first.append(tangent)
        second.append(jnp.where(beyond == 0.0, a * m0[axis] + b * m1[axis], 0.0))
    slope = jnp.maximum(jnp.sqrt(first[0] ** 2 + first[1] ** 2), 1e-3)
    curvature = (first[0] * second[1] - first[1] * second[0]) / slope**3
    # Inside a compiled program only the form that is read costs anything: an angle is ten times dearer than a vector.
    yaw = jnp.arctan2(first[1], first[0])
    return Place(value[0], value[1], slope, yaw, curvature, first[0] / slope, first[1] / slope)


def nearest(route: Route, x: Float[Array, ""], y: Float[Array, ""], guess: Float[Array, ""]) -> Float[Array, ""]:
    """Parameter of the route's point nearest to (x, y), from a guess within a few metres: three Newton steps."""
    s = guess
    for _ in range(3):
        at = place(route, s)
        ahead = (x - at.x) * at.cos + (y - at.y) * at.sin
        left = -(x - at.x) * at.sin + (y - at.y) * at.cos
        step = ahead / (at.slope * jnp.maximum(1.0 - at.curvature * left, 0.3))
        s = s + jnp.clip(step, -2.0 * route.spacing, 2.0 * route.spacing)
    return s


def nearest_to_ego(route: Route) -> Float[Array, ""]:
    """Parameter of the route's point nearest to the ego, searched over the whole polyline, then refined."""
    index = jnp.argmin((route.points**2).sum(axis=1))
    return nearest(route, jnp.float32(0.0), jnp.float32(0.0), index * route.spacing)


@functools.cache
def _spline_matrices(n: int) -> tuple[Float64[ndarray, "R R"], Float64[ndarray, "R R"]]:
    """Two matrices for n points of unit spacing: smoothing, and second derivatives of the cubic spline."""
    third = np.diff(np.eye(n), n=3, axis=0)
    smoother = np.linalg.inv(np.eye(n) + ROUTE_SMOOTHING * third.T @ third)
    system = np.eye(n)
    right = np.zeros((n, n))
    # At both ends the curvature of the next point goes on: a route that starts inside a turn keeps its heading.
    system[0, 1] = system[-1, -2] = -1.0
    for i in range(1, n - 1):
        system[i, i - 1 : i + 2] = 1.0, 4.0, 1.0
        right[i, i - 1 : i + 2] = 6.0, -12.0, 6.0
    return smoother, np.linalg.solve(system, right)
