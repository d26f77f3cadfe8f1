"""A simulator map as padded arrays, and motion along its routes: projecting points, placing boxes, speed limits."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from wmplan.errors import InputError
from wmplan.simulator.layout import SimMap

ROUTES, ROUTE_POINTS, SPAWNS, SPAWN_ROUTES, GROUPS = 24, 16, 24, 3, 8
"""Padded sizes, one for all maps, so that nothing is compiled twice."""
APPROACH_DECEL_MPS2 = 1.5
"""How hard a driver slows ahead of a lower limit."""


class Network(NamedTuple):
    """The routes, spawns and lights of one map. Padded routes repeat their last point, padded spawns
    have `low > high`."""

    points: Float[Array, "R P 2"]
    arc: Float[Array, "R P"]
    speeds: Float[Array, "R P"]
    length: Float[Array, "R"]
    stop: Float[Array, "R"]
    clear: Float[Array, "R"]
    group: Int[Array, "R"]
    walk: Bool[Array, "R"]
    left: Int[Array, "R"]
    right: Int[Array, "R"]
    spawn_route: Int[Array, "S 3"]
    spawn_range: Float[Array, "S 2"]
    spawn_ego: Bool[Array, "S"]
    cycle: Float[Array, ""]
    start: Float[Array, "G"]
    green: Float[Array, "G"]
    yellow: Float[Array, "G"]
    lane_width: Float[Array, ""]


def pack(road: SimMap) -> Network:
    """The map as padded float32 arrays.

    Raises:
        InputError: more routes, points, spawns or light groups than the padding holds.
    """
    groups = len(road.signal.starts)
    most = max(len(route.points) for route in road.routes)
    for name, count, bound in (
        ("routes", len(road.routes), ROUTES),
        ("points of a route", most, ROUTE_POINTS),
        ("spawns", len(road.spawns), SPAWNS),
        ("light groups", groups, GROUPS),
    ):
        if count > bound:
            raise InputError(f"map {road.name}: {count} {name}, expected at most {bound}")
    points = np.zeros((ROUTES, ROUTE_POINTS, 2))
    speeds = np.ones((ROUTES, ROUTE_POINTS))
    numbers = np.zeros((ROUTES, 3))
    group, walk, beside = np.full(ROUTES, -1), np.zeros(ROUTES, dtype=bool), np.full((2, ROUTES), -1)
    for i, route in enumerate(road.routes):
        n = len(route.points)
        points[i], speeds[i] = route.points[-1], route.speeds[-1]
        points[i, :n], speeds[i, :n] = route.points, route.speeds
        numbers[i] = [np.linalg.norm(np.diff(route.points, axis=0), axis=1).sum(), route.stop, route.clear]
        group[i], walk[i], beside[:, i] = route.group, route.walk, (route.left, route.right)
    steps = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    arc = np.concatenate([np.zeros((ROUTES, 1)), np.cumsum(steps, axis=1)], axis=1)
    spawn_route = np.zeros((SPAWNS, SPAWN_ROUTES), dtype=int)
    spawn_range, spawn_ego = np.tile([1.0, 0.0], (SPAWNS, 1)), np.zeros(SPAWNS, dtype=bool)
    for i, spawn in enumerate(road.spawns):
        spawn_route[i] = np.resize(spawn.routes, SPAWN_ROUTES)
        spawn_range[i], spawn_ego[i] = (spawn.low, spawn.high), spawn.ego
    light = np.zeros((3, GROUPS))
    light[:, :groups] = road.signal.starts, road.signal.greens, road.signal.yellows
    return Network(
        points=jnp.asarray(points, dtype=jnp.float32),
        arc=jnp.asarray(arc, dtype=jnp.float32),
        speeds=jnp.asarray(speeds, dtype=jnp.float32),
        length=jnp.asarray(numbers[:, 0], dtype=jnp.float32),
        stop=jnp.asarray(numbers[:, 1], dtype=jnp.float32),
        clear=jnp.asarray(numbers[:, 2], dtype=jnp.float32),
        group=jnp.asarray(group, dtype=jnp.int32),
        walk=jnp.asarray(walk),
        left=jnp.asarray(beside[0], dtype=jnp.int32),
        right=jnp.asarray(beside[1], dtype=jnp.int32),
        spawn_route=jnp.asarray(spawn_route, dtype=jnp.int32),
        spawn_range=jnp.asarray(spawn_range, dtype=jnp.float32),
        spawn_ego=jnp.asarray(spawn_ego),
        cycle=jnp.float32(road.signal.cycle),
        start=jnp.asarray(light[0] % road.signal.cycle, dtype=jnp.float32),
        green=jnp.asarray(light[1], dtype=jnp.float32),
        yellow=jnp.asarray(light[2], dtype=jnp.float32),
        lane_width=jnp.float32(road.lane_width),
    )


def stack(networks: list[Network]) -> Network:
    """Several networks as one with a leading axis, for vmap."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)


def project(
    polyline: Float[Array, "P 2"], arc: Float[Array, "P"], points: Float[Array, "N 2"]
) -> tuple[Float[Array, "N"], Float[Array, "N"]]:
    """Arc length and signed distance (left positive) of each point's nearest place on the polyline, metres."""
    a, b = polyline[:-1], polyline[1:]
    along = b - a
    squared = jnp.maximum(jnp.sum(along**2, axis=-1), 1e-9)
    offset = points[:, None, :] - a[None, :, :]
    share = jnp.clip(jnp.sum(offset * along[None], axis=-1) / squared[None], 0.0, 1.0)
    away = offset - share[..., None] * along[None]
    distance = jnp.sum(away**2, axis=-1)
    # A padded segment lies on the route's end and is never nearer than the real one before it; argmin takes the first.
    best = jnp.argmin(distance, axis=-1)
    rows = jnp.arange(points.shape[0])
    length = jnp.sqrt(squared)[best]
    side = along[best, 0] * offset[rows, best, 1] - along[best, 1] * offset[rows, best, 0]
    return arc[best] + share[rows, best] * length, jnp.sign(side) * jnp.sqrt(distance[rows, best])


def at(polyline: Float[Array, "P 2"], arc: Float[Array, "P"], s: Float[Array, ""]) -> Float[Array, "2"]:
    """The point at arc length `s`; the route goes on straight beyond its end."""
    x = jnp.interp(s, arc, polyline[:, 0])
    y = jnp.interp(s, arc, polyline[:, 1])
    beyond = jnp.maximum(s - arc[-1], 0.0) + jnp.minimum(s, 0.0)
    first = polyline[1] - polyline[0]
    # The last real segment: padded points coincide, so look one metre back.
    back = jnp.stack([jnp.interp(arc[-1] - 1.0, arc, polyline[:, 0]), jnp.interp(arc[-1] - 1.0, arc, polyline[:, 1])])
    direction = jnp.where(s < 0.0, first / jnp.linalg.norm(first), polyline[-1] - back)
    return jnp.stack([x, y]) + beyond * direction


def pose(
    polyline: Float[Array, "P 2"],
    arc: Float[Array, "P"],
    s: Float[Array, ""],
    lateral: Float[Array, ""],
    length: Float[Array, ""],
) -> Float[Array, "3"]:
    """x, y, yaw of a box of this length whose centre is `s` along the route and `lateral` metres to its left.

    Both axles are on the route, so heading is continuous where the polyline bends.
    """
    half = 0.3 * length
    front, rear = at(polyline, arc, s + half), at(polyline, arc, s - half)
    heading = jnp.arctan2(front[1] - rear[1], front[0] - rear[0])
    centre = 0.5 * (front + rear)
    return jnp.stack([centre[0] - lateral * jnp.sin(heading), centre[1] + lateral * jnp.cos(heading), heading])


def allowed_speed(arc: Float[Array, "P"], speeds: Float[Array, "P"], s: Float[Array, ""]) -> Float[Array, ""]:
    """The speed in m/s from which every lower limit ahead is reached by slowing gently."""
    ends = jnp.concatenate([arc[1:], jnp.full((1,), jnp.inf, dtype=arc.dtype)])
    ahead = jnp.maximum(arc - s, 0.0)
    reach = jnp.sqrt(speeds**2 + 2.0 * APPROACH_DECEL_MPS2 * ahead)
    return jnp.min(jnp.where(ends > s, reach, jnp.inf))
