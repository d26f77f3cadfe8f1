"""Worlds of 32, 64 and 128 road users: a motorway packed with cars, made a road as recorded scenes are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from wmplan.scene import STEP_S, Feature, Future, Kind, Lights, Log, RoadMap, Scene, Tracks
from wmplan.simulator.layout import strip
from wmplan.simulator.network import Network
from wmplan.simulator.populate_scene import of_scene
from wmplan.simulator.scene_road import scene_road
from wmplan.simulator.state import State
from wmplan.windows import WindowConfig, cut

LANES = 8
LANE_M = 3.6
SPACING_M = 24.0
SPEED_MPS = 14.0
STEPS = 121
AHEAD_M = 1000.0


def crowd(agents: int, worlds: int) -> tuple[Network, State]:
    """So many equal worlds of `agents` cars, the ego in their middle; nobody is left out and no row is empty."""
    scene, future = crowded(agents)
    found = scene_road(scene, future)
    if found.rows != agents or len(found.start.ids) != agents:
        raise ValueError(f"bench road: {len(found.start.ids)} of {agents} cars on {found.rows} rows")
    network, state = of_scene(found, seed=0)
    return network, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (worlds, *leaf.shape)), state)


def crowded(agents: int) -> tuple[Scene, Future]:
    """The motorway with so many cars as a recorded scene."""
    return next(cut(_motorway(agents), WindowConfig(radius_m=1000.0)))


def _motorway(agents: int) -> Log:
    rank, lane = np.divmod(np.arange(agents), LANES)
    speed = SPEED_MPS + 0.5 * lane
    begin = SPACING_M * (rank - rank.mean()) + 3.0 * lane
    x = begin[:, None] + speed[:, None] * STEP_S * np.arange(STEPS)
    y = np.broadcast_to(LANE_M * lane[:, None], x.shape)
    zero = np.zeros_like(x)
    ego = int(np.argmin(np.abs(rank - rank.mean()) + np.abs(lane - LANES / 2)))
    features = []
    for i in range(LANES):
        line = np.stack([np.linspace(-AHEAD_M, AHEAD_M, 101), np.full(101, LANE_M * i)], axis=-1)
        features += [(Feature.LANE, f"{i}", line), (Feature.LANE_AREA, f"{i}-area", strip(line, LANE_M))]
    return Log(
        log_id=f"crowd-{agents}",
        group="crowd",
        dataset="crowd",
        file="crowd",
        dt_s=STEP_S,
        tracks=Tracks(
            ids=tuple(str(i) for i in range(agents)),
            kinds=np.full(agents, Kind.VEHICLE, np.int8),
            sizes=np.tile(np.array([[4.5, 1.9]], np.float32), (agents, 1)),
            states=np.stack([x, y, zero, speed[:, None] + zero, zero], axis=-1),
            valid=np.ones(x.shape, dtype=bool),
        ),
        road_map=RoadMap.build(features),
        lights=Lights.none(STEPS),
        recorded_ego=str(ego),
        recorded=False,
    )
