"""A map turned into the tables of `wmplan.simulator.network`."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.simulator.layout import SimMap
from wmplan.simulator.network import FAR_M, Network
from wmplan.simulator.overlap import overlap_table, passages

PLACES = 256
"""Places of a route in the tables."""
SPACING_M = 2.0
"""Between two places on a synthetic map."""
APPROACH_DECEL_MPS2 = 1.5
"""How hard a driver slows ahead of a lower limit."""
SPAWN_ROUTES = 4
"""Routes that may begin at one spawn."""


@dataclass(frozen=True)
class Sizes:
    """Padded sizes of a network; one for all synthetic maps, so that nothing is compiled twice."""

    routes: int = 32
    points: int = 32
    spawns: int = 24
    zones: int = 12
    groups: int = 32
    moments: int = 1280


def pack(road: SimMap, sizes: Sizes = Sizes(), spacing: float = SPACING_M) -> Network:
    """One map (N = 1) as padded arrays.

    Raises:
        InputError: more routes, points, spawns, zones or light groups than the padding holds, or a route that is
            longer than the tables.
    """
    _check(road, sizes, spacing)
    r = sizes.routes
    points = np.zeros((r, sizes.points, 2))
    speeds = np.ones((r, sizes.points))
    for i, route in enumerate(road.routes):
        n = len(route.points)
        points[i], speeds[i] = route.points[-1], route.speeds[-1]
        points[i, :n], speeds[i, :n] = route.points, route.speeds
    steps = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    arc = np.concatenate([np.zeros((r, 1)), np.cumsum(steps, axis=1)], axis=1)
    places = spacing * np.arange(PLACES)
    pose = np.stack([_poses(points[i], arc[i], places) for i in range(r)])
    limit = np.stack([_allowed(arc[i], speeds[i], places) for i in range(r)])
    used = len(road.routes)
    table = np.full((r, PLACES, r), np.uint32(0xFFFFFFFF))
    table[:used, :, :used] = overlap_table(points[:used], arc[:used], pose[:used], spacing)
    enter, leave, waits = _zones(road, sizes, table, spacing)
    light = np.zeros((sizes.groups, sizes.moments), np.int8)
    groups, moments = road.signal.states.shape
    light[:groups, :moments] = road.signal.states
    spawn_route = np.zeros((sizes.spawns, SPAWN_ROUTES), np.int32)
    spawn_range, spawn_ego = np.tile([1.0, 0.0], (sizes.spawns, 1)), np.zeros(sizes.spawns, bool)
    spawn_kind = np.zeros(sizes.spawns, np.int32)
    for i, spawn in enumerate(road.spawns):
        spawn_route[i] = np.resize(spawn.routes, SPAWN_ROUTES)
        spawn_range[i], spawn_ego[i] = (spawn.low, spawn.high), spawn.ego
        spawn_kind[i] = road.routes[spawn.routes[0]].kind
    size = np.diff(arc, axis=1)
    along = np.diff(points, axis=1) / np.maximum(size, 1e-9)[..., None]
    return Network(
        begin_x=put(points[:, :-1, 0].T),
        begin_y=put(points[:, :-1, 1].T),
        along_x=put(along[..., 0].T),
        along_y=put(along[..., 1].T),
        begin=put(arc[:, :-1].T),
        size=put(size.T),
        length=put(arc[:, -1]),
        stop=put(_column(road, sizes, "stop", 0.0)),
        clear=put(_column(road, sizes, "clear", 0.0)),
        group=put(_column(road, sizes, "group", -1)),
        kind=put(_column(road, sizes, "kind", 0)),
        left=put(_column(road, sizes, "left", -1)),
        right=put(_column(road, sizes, "right", -1)),
        change=put(np.array([r.change for r in road.routes] + [(0.0, 0.0)] * (r - used))),
        dead_end=put(_column(road, sizes, "dead_end", False)),
        x=put(pose[..., 0]),
        y=put(pose[..., 1]),
        cos=put(pose[..., 2]),
        sin=put(pose[..., 3]),
        limit=put(limit),
        overlap=put(table),
        enter=put(enter),
        leave=put(leave),
        waits=put(waits),
        light=put(light),
        period=put(np.array(moments, np.int32)),
        periodic=put(np.array(road.signal.periodic)),
        spawn_route=put(spawn_route),
        spawn_range=put(spawn_range),
        spawn_ego=put(spawn_ego),
        spawn_kind=put(spawn_kind),
        spacing=put(np.array(spacing)),
        lane_width=put(np.array(road.lane_width)),
    )


def put(values: ndarray) -> Array:
    """The array of one map, in 32 bits, with the leading axis N."""
    single = values.astype({"f": np.float32, "i": np.int32}.get(values.dtype.kind, values.dtype), copy=False)
    return jnp.asarray(values if values.dtype == np.int8 else single)[None]


def _check(road: SimMap, sizes: Sizes, spacing: float) -> None:
    longest = max(float(np.linalg.norm(np.diff(r.points, axis=0), axis=1).sum()) for r in road.routes)
    for name, count, bound in (
        ("routes", len(road.routes), sizes.routes),
        ("points of a route", max(len(r.points) for r in road.routes), sizes.points),
        ("metres of a route", longest, (PLACES - 1) * spacing),
        ("spawns", len(road.spawns), sizes.spawns),
        ("zones", len(road.zones), sizes.zones),
        ("light groups", len(road.signal.states), sizes.groups),
        ("moments of the lights", road.signal.states.shape[1], sizes.moments),
    ):
        if count > bound:
            raise InputError(f"map {road.name}: {count:g} {name}, expected at most {bound:g}")


def _column(road: SimMap, sizes: Sizes, field: str, empty: float | int | bool) -> ndarray:
    values = [getattr(route, field) for route in road.routes]
    return np.array(values + [empty] * (sizes.routes - len(values)))


def _zones(road: SimMap, sizes: Sizes, table: ndarray, spacing: float) -> tuple[ndarray, ndarray, ndarray]:
    """Where zones begin and end on the routes with right of way, and who waits for them."""
    enter = np.full((sizes.routes, sizes.zones), FAR_M)
    leave = np.full((sizes.routes, sizes.zones), -FAR_M)
    waits = np.zeros(sizes.routes, np.uint32)
    for z, zone in enumerate(road.zones):
        for r in zone.waits:
            waits[r] |= np.uint32(1) << np.uint32(z)
            for q in zone.first:
                found = passages(table[r, :, q], spacing, road.routes[r].stop, road.routes[r].clear)
                if found is not None:
                    enter[q, z], leave[q, z] = min(enter[q, z], found[0]), max(leave[q, z], found[1])
    return enter, leave, waits


def _poses(points: Float[ndarray, "P 2"], arc: Float[ndarray, "P"], places: Float[ndarray, "S"]) -> ndarray:
    """x, y, cos and sin of the heading at each place; the heading is that of the chord between both axles of a car, so
    that it is continuous where the polyline bends. Beyond the end the route goes on straight."""
    half = 1.4
    front, rear = _along(points, arc, places + half), _along(points, arc, places - half)
    chord = front - rear
    return np.concatenate([_along(points, arc, places), chord / np.linalg.norm(chord, axis=1, keepdims=True)], axis=1)


def _along(points: Float[ndarray, "P 2"], arc: Float[ndarray, "P"], places: Float[ndarray, "S"]) -> ndarray:
    on = np.stack([np.interp(places, arc, points[:, i]) for i in (0, 1)], axis=-1)
    steps = np.diff(points, axis=0)
    real = np.flatnonzero(np.linalg.norm(steps, axis=1) > 1e-6)
    if not len(real):
        return on + places[:, None] * np.array([1.0, 0.0])
    first, last = steps[real[0]], steps[real[-1]]
    on += np.minimum(places, 0.0)[:, None] * first / np.linalg.norm(first)
    return on + np.maximum(places - arc[-1], 0.0)[:, None] * last / np.linalg.norm(last)


def _allowed(arc: Float[ndarray, "P"], speeds: Float[ndarray, "P"], places: Float[ndarray, "S"]) -> ndarray:
    ends = np.append(arc[1:], np.inf)
    reach = np.sqrt(speeds[None] ** 2 + 2.0 * APPROACH_DECEL_MPS2 * np.maximum(arc[None] - places[:, None], 0.0))
    return np.where(ends[None] > places[:, None], reach, np.inf).min(axis=1)
