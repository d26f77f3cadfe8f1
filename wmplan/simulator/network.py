"""Maps of the simulator as padded arrays, so that whoever drives there only looks things up.

Everything that depends on geometry is worked out once a map (`wmplan.simulator.packing`): the pose at each place of a
route, how fast one may be there, and where a place of one route lies on every other (`wmplan.simulator.overlap`). Maps
of one size are stacked; a world names its map by a number, and nothing is compiled twice.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8, UInt32

FAR_M = 1e4
"""Farther than anything."""


class Network(NamedTuple):
    """N maps. Metres, m/s, map frame; a padded piece of a route has size 0, a padded spawn has `low > high`.

    `begin_x`, `begin_y`, `along_x`, `along_y` are where each straight piece of a route begins and its unit direction,
    `begin` the arc length there, `size` its length. `x`, `y`, `cos`, `sin` are the poses of places every `spacing`
    metres along each route, `limit` the speed there from which every lower limit ahead is reached by slowing gently,
    `overlap` where these places lie on the other routes (`wmplan.simulator.overlap`). `enter` and `leave` bound the
    zone on the routes that have right of way there (`FAR_M` and `-FAR_M` on others); bit z of `waits` is set on routes
    that give way at zone z. `light` is the state (`Light`) of each group at each step.
    """

    begin_x: Float[Array, "N P R"]
    begin_y: Float[Array, "N P R"]
    along_x: Float[Array, "N P R"]
    along_y: Float[Array, "N P R"]
    begin: Float[Array, "N P R"]
    size: Float[Array, "N P R"]
    length: Float[Array, "N R"]
    stop: Float[Array, "N R"]
    clear: Float[Array, "N R"]
    group: Int[Array, "N R"]
    kind: Int[Array, "N R"]
    left: Int[Array, "N R"]
    right: Int[Array, "N R"]
    change: Float[Array, "N R 2"]
    dead_end: Bool[Array, "N R"]
    x: Float[Array, "N R S"]
    y: Float[Array, "N R S"]
    cos: Float[Array, "N R S"]
    sin: Float[Array, "N R S"]
    limit: Float[Array, "N R S"]
    overlap: UInt32[Array, "N R S R"]
    enter: Float[Array, "N R Z"]
    leave: Float[Array, "N R Z"]
    waits: UInt32[Array, "N R"]
    light: Int8[Array, "N G L"]
    period: Int[Array, "N"]
    periodic: Bool[Array, "N"]
    spawn_route: Int[Array, "N Q 4"]
    spawn_range: Float[Array, "N Q 2"]
    spawn_ego: Bool[Array, "N Q"]
    spawn_kind: Int[Array, "N Q"]
    spacing: Float[Array, "N"]
    lane_width: Float[Array, "N"]


def lookup(table: Array, *index: Array | slice) -> Array:
    """`table[index]` for indices that are known to lie inside: without the checks, which cost more than the reading."""
    return table.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def stack(networks: list[Network]) -> Network:
    """Maps of one size as one network."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *networks)
