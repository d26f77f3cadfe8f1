"""Where a place on one route lies on another: the table that tells who is in whose way.

An entry holds, in 32 bits, the arc length on the other route (2 cm steps), the signed distance to it (10 cm steps, left
positive) and the cosine between both directions; `NOWHERE` where the other route does not pass within `REACH_M`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32
from numpy import ndarray

NOWHERE = 0xFFFFFFFF
REACH_M = 12.0
ARC_STEPS_PM, LATERAL_STEPS_PM, COS_STEPS = 50.0, 10.0, 127.0
ROUTES_TOGETHER = 8
"""Routes are padded to a multiple of this, so that maps of nearly any size share what is compiled."""
CONFLICT_M = 2.6
"""Two paths are in each other's way while their centrelines are closer than this (two half cars and a margin)."""


class Placed(NamedTuple):
    """Places on a route: arc length and distance to the left (m), cosine to its direction. Nowhere: `arc` is -1e4."""

    arc: Float[Array, "*N"]
    lateral: Float[Array, "*N"]
    cos: Float[Array, "*N"]


def overlap_table(
    points: Float[ndarray, "R P 2"], arc: Float[ndarray, "R P"], pose: Float[ndarray, "R S 4"], spacing: float
) -> UInt32[ndarray, "R S R"]:
    """Entry [q, k, r]: where place k of route q lies on route r. On itself a route lies exactly on itself."""
    count, more = len(points), -len(points) % ROUTES_TOGETHER
    padded = [np.concatenate([a, np.repeat(a[-1:], more, axis=0)]).astype(np.float32) for a in (points, arc, pose)]
    table = np.array(_project_all(*padded))[:count, :, :count]
    places = np.arange(pose.shape[1]) * spacing
    own = _pack(places, np.zeros_like(places), np.ones_like(places))
    for route, length in enumerate(arc[:, -1]):
        table[route, places > length + spacing] = NOWHERE
        table[route, :, route] = own
    return table


def unpack(entry: UInt32[Array, "*N"]) -> Placed:
    """What an entry says."""
    arc = (entry >> 16).astype(jnp.float32) / ARC_STEPS_PM
    lateral = (((entry >> 8) & 255).astype(jnp.float32) - 128.0) / LATERAL_STEPS_PM
    cos = ((entry & 255).astype(jnp.float32) - 128.0) / COS_STEPS
    return Placed(jnp.where(entry == jnp.uint32(NOWHERE), -1e4, arc), lateral, cos)


def passages(entries: UInt32[ndarray, "S"], spacing: float, begin: float, end: float) -> tuple[float, float] | None:
    """Arc lengths on the other route between which it is in the way of a route's piece from `begin` to `end` metres;
    None where it never is."""
    places = np.arange(len(entries)) * spacing
    here = (places >= begin) & (places <= max(end, begin)) & (entries != NOWHERE)
    lateral = (((entries >> 8) & 255).astype(np.float64) - 128.0) / LATERAL_STEPS_PM
    near = here & (np.abs(lateral) < CONFLICT_M)
    if not near.any():
        return None
    arcs = (entries[near] >> 16) / ARC_STEPS_PM
    return float(arcs.min() - spacing), float(arcs.max() + spacing)


def _pack(arc: ndarray, lateral: ndarray, cos: ndarray) -> UInt32[ndarray, "*N"]:
    return np.asarray(_packed(jnp.asarray(arc, jnp.float32), jnp.asarray(lateral, jnp.float32), jnp.asarray(cos)))


def _packed(arc: Array, lateral: Array, cos: Array) -> Array:
    def whole(value: Array, low: float, high: float) -> Array:
        return jnp.clip(jnp.round(value), low, high).astype(jnp.uint32)

    return (
        (whole(arc * ARC_STEPS_PM, 0.0, 65534.0) << 16)
        | (whole(lateral * LATERAL_STEPS_PM + 128.0, 0.0, 255.0) << 8)
        | whole(cos * COS_STEPS + 128.0, 1.0, 255.0)
    )


@partial(jax.jit)
def _project_all(points: Array, arc: Array, pose: Array) -> Array:
    def on(one: Array, lengths: Array, places: Array) -> Array:
        """Entries of these places (x, y, cos, sin) on one route."""
        along = one[1:] - one[:-1]
        squared = jnp.sum(along**2, axis=-1)
        real = squared > 1e-9
        direction = along * jax.lax.rsqrt(jnp.maximum(squared, 1e-9))[:, None]
        dx = places[:, :1] - one[None, :-1, 0]
        dy = places[:, 1:2] - one[None, :-1, 1]
        ahead = dx * direction[None, :, 0] + dy * direction[None, :, 1]
        side = dy * direction[None, :, 0] - dx * direction[None, :, 1]
        beyond = ahead - jnp.clip(ahead, 0.0, jnp.sqrt(squared)[None])
        distance = jnp.where(real[None], beyond**2 + side**2, jnp.inf)
        best = jnp.argmin(distance, axis=1)
        rows = jnp.arange(places.shape[0])
        length = jnp.sqrt(squared)[best]
        s = lengths[best] + jnp.clip(ahead[rows, best], 0.0, length)
        cos = jnp.sum(places[:, 2:] * direction[best], axis=1)
        lateral = jnp.sign(side[rows, best]) * jnp.sqrt(distance[rows, best])
        passed = jnp.abs(beyond[rows, best]) > 1.0
        ends = (s <= 0.0) | (s >= lengths[-1])
        nowhere = (jnp.abs(lateral) > REACH_M) | (passed & ends)
        return jnp.where(nowhere, jnp.uint32(NOWHERE), _packed(s, lateral, cos))

    def of_route(places: Array) -> Array:
        return jax.lax.map(lambda route: on(route[0], route[1], places), (points, arc)).T

    return jax.lax.map(of_route, pose)
