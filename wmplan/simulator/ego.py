"""The ego's motion, which owes nothing to routes: a kinematic bicycle, projected onto every route afterwards."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from wmplan import bicycle
from wmplan.scene import STEP_S
from wmplan.simulator.network import Network, lookup
from wmplan.simulator.overlap import REACH_M


class OnRoutes(NamedTuple):
    """Where the ego is on every route: arc length (m; -1e4: nowhere), distance to the left (m), cosine to the route's
    direction."""

    arc: Float[Array, "R"]
    lateral: Float[Array, "R"]
    cos: Float[Array, "R"]


def drive(pose: tuple[Array, Array, Array, Array, Array], action: Float[Array, "2"]) -> tuple[Array, ...]:
    """x, y, cos, sin, speed after one step; the same formula as `wmplan.bicycle.forward`, the action (m/s2, 1/m)
    clipped to its bounds."""
    x, y, cos, sin, speed = pose
    accel = jnp.clip(action[0], -bicycle.MAX_ACCEL_MPS2, bicycle.MAX_ACCEL_MPS2)
    curvature = jnp.clip(action[1], -bicycle.MAX_CURVATURE_PM, bicycle.MAX_CURVATURE_PM)
    faster, distance = travel(speed, accel)
    half = 0.5 * curvature * distance
    chord = distance * jnp.sinc(half / jnp.pi)
    ch, sh = jnp.cos(half), jnp.sin(half)
    middle_cos, middle_sin = cos * ch - sin * sh, sin * ch + cos * sh
    ahead_cos, ahead_sin = middle_cos * ch - middle_sin * sh, middle_sin * ch + middle_cos * sh
    # Without this the heading would lose its unit length over many steps.
    unit = 1.0 / jnp.sqrt(ahead_cos**2 + ahead_sin**2)
    return x + chord * middle_cos, y + chord * middle_sin, ahead_cos * unit, ahead_sin * unit, faster


def travel(speed: Float[Array, "*A"], accel: Float[Array, "*A"]) -> tuple[Float[Array, "*A"], Float[Array, "*A"]]:
    """Speed after a step and distance covered in it; who brakes to a standstill inside it covers v2/2a."""
    after = speed + accel * STEP_S
    faster = jnp.maximum(after, 0.0)
    stops = (after < 0.0) & (accel < 0.0)
    braking = jnp.where(stops, accel, -1.0)
    return faster, jnp.where(stops, -(speed**2) / (2.0 * braking), 0.5 * (speed + faster) * STEP_S)


def on_routes(network: Network, road: Int[Array, ""], x: Array, y: Array, cos: Array, sin: Array) -> OnRoutes:
    """Where a box lies on every route of its map."""

    def relative(*index: Array) -> tuple[Array, Array, Array]:
        """Metres along pieces, beyond their ends, and to their left."""
        dx, dy = x - lookup(network.begin_x, road, *index), y - lookup(network.begin_y, road, *index)
        ux, uy = lookup(network.along_x, road, *index), lookup(network.along_y, road, *index)
        ahead = dx * ux + dy * uy
        on = jnp.clip(ahead, 0.0, lookup(network.size, road, *index))
        return on, ahead - on, dy * ux - dx * uy

    _, beyond, side = relative()
    distance = jnp.where(lookup(network.size, road) > 1e-4, beyond**2 + side**2, 1e9)
    # The nearest piece by comparison with the least, which vectorises where argmin does not; and over the first axis,
    # where all routes are compared at once.
    least = jnp.min(distance, axis=0)
    pieces = jnp.arange(distance.shape[0])[:, None]
    index = jnp.min(jnp.where(distance == least[None], pieces, distance.shape[0] - 1), axis=0)
    routes = jnp.arange(distance.shape[1])
    on, beyond, side = relative(index, routes)
    away = jnp.sqrt(beyond**2 + side**2)
    s = lookup(network.begin, road, index, routes) + on
    lateral = jnp.where(side < 0.0, -away, away)
    ends = (s <= 0.0) | (s >= lookup(network.length, road))
    nowhere = (away > REACH_M) | (ends & (jnp.abs(beyond) > 1.0))
    ux, uy = lookup(network.along_x, road, index, routes), lookup(network.along_y, road, index, routes)
    return OnRoutes(jnp.where(nowhere, -1e4, s), lateral, cos * ux + sin * uy)
