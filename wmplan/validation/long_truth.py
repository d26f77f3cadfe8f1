"""What truly happens in 45 s: an ego that drives on by itself, the same ego braking at one moment after another.

The window moves with the ego every 3 s (a chunk). Everything is drawn as the raster draws scenes, so that it can be a
model's history, and as a perfect model would imagine it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Array, Bool, Float, Float32, Float64, Int
from numpy import ndarray
from torch import Tensor

from wmplan.contracts import RASTER_HISTORY, Grid, SceneRaster
from wmplan.frames import Pose
from wmplan.map_raster import draw_map, map_observed
from wmplan.plans import ROUTE_POINTS, Plans, Start
from wmplan.raster import STRIDE, draw_dynamic
from wmplan.route import route_of
from wmplan.scene import STEP_S, Kind, RoadMap
from wmplan.simulator.ego_view import see
from wmplan.simulator.executed import Executed
from wmplan.simulator.live import LiveScene
from wmplan.simulator.network import Network
from wmplan.simulator.perception import lights
from wmplan.simulator.policies.graded import IDM
from wmplan.simulator.policies.protocol import Policy, Situation
from wmplan.simulator.state import State
from wmplan.simulator.task import arrived as at_the_end
from wmplan.simulator.task import drive, sit
from wmplan.start import ROUTE_SPACING_M, equally_spaced

CHUNK_STEPS = 6
"""Imagined steps between two moves of the window: 3 s."""
CHUNKS = 16
"""The first gives the history, 45 s are imagined."""
BRAKE_MPS2 = -4.0
_CHUNK = CHUNK_STEPS * STRIDE


@dataclass(frozen=True)
class LongTruth:
    """Row 0 of `done` is the ego as it drives on, row 1 + c the same until chunk c begins, then braking. `chunks` of
    them are whole before the ego arrives or touches somebody; `start` is that of the scene."""

    alive: LiveScene
    done: Executed
    plans: Plans
    start: Start
    grid: Grid
    chunks: int

    def pose(self, chunk: int) -> Pose:
        """Where the window of a chunk is anchored: the ego's place when it begins, in the scene frame."""
        return self._pose(chunk * _CHUNK)

    def moved(self, chunk: int) -> Pose:
        """Where the next chunk's window is anchored, in the frame of this one's."""
        here, there = self.pose(chunk), self.pose(chunk + 1)
        x, y = here.to_local(np.array([there.x, there.y]))
        return Pose(float(x), float(y), there.yaw - here.yaw)

    def pair(self, chunk: int) -> Plans:
        """What the ego does in a chunk: as it drives on, and braking; two rows, in the frame of the chunk's window."""
        steps = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)
        speed = max(float(self.done.speed[steps.start, 0, 0]), 0.0)
        return Plans.from_controls(self.plans.controls[[0, 1 + chunk], steps].astype(np.float64), speed)

    def places(self, chunk: int, row: int) -> tuple[Float64[ndarray, "S A 2"], Bool[ndarray, "S A"]]:
        """Everybody at each imagined step of a chunk, its beginning first, in the frame of its window; who is there and
        inside the window."""
        steps = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK + 1, STRIDE)
        place = np.stack([part[steps, row, 1:] for part in (self.done.x, self.done.y)], axis=-1).astype(np.float64)
        place = self.pose(chunk).to_local(place)
        grid = self.grid
        x, y = place[..., 0] - grid.x_min, place[..., 1] - grid.y_min
        inside = (np.minimum(x, y) >= 1.0) & (x <= grid.cols * grid.cell - 1.0) & (y <= grid.rows * grid.cell - 1.0)
        return place, np.asarray(self.done.active)[steps, row, 1:] & inside

    @property
    def kind(self) -> Int[ndarray, "A"]:
        """The channel that each road user is drawn in."""
        return (np.asarray(self.done.kind)[1:] != Kind.VEHICLE).astype(int)

    def raster(self, chunk: int, history: Float[Tensor, "H4 4 H W"] | None = None) -> SceneRaster:
        """The scene as a model sees it when a chunk begins; with `history` in place of the true frames."""
        pose, step = self.pose(chunk), chunk * _CHUNK
        road_map = self._map().seen_from(pose)
        route = route_of(road_map)[0]
        static = self._static(road_map, route, pose, step)
        observed = map_observed(road_map, static, self.grid)
        moments = step - STRIDE * np.arange(RASTER_HISTORY)[::-1]
        frames = self.drawn(pose, moments, 0, observed)
        if history is not None:
            frames = torch.cat([history, frames[:, 4:]], dim=1)
        controls = self.plans.controls[0, max(step - 1, 0)]
        start = replace(
            self.start,
            speed=max(float(self.done.speed[step, 0, 0]), 0.0),
            accel=float(controls[0]),
            curvature=float(controls[1]),
            route=equally_spaced(route, ROUTE_POINTS, ROUTE_SPACING_M),
        )
        digest = hashlib.blake2b(static.numpy().tobytes() + frames.contiguous().numpy().tobytes(), digest_size=16)
        return SceneRaster(
            f"{self.alive.name}+{step * STEP_S:g}s", digest.hexdigest(), self.grid, static, frames, start
        )

    def imagined(self, chunk: int) -> Float32[Tensor, "2 T 4 H W"]:
        """What follows in a chunk under both plans of `pair`, as a perfect model would imagine it."""
        moments = chunk * _CHUNK + STRIDE * np.arange(1, CHUNK_STEPS + 1)
        return torch.stack([self.drawn(self.pose(chunk), moments, row)[:, :4] for row in (0, 1 + chunk)])

    def drawn(
        self, pose: Pose, moments: Int[ndarray, "T"], row: int, observed: Float[Tensor, "H W"] | None = None
    ) -> Float32[Tensor, "T 5 H W"]:
        """The road at these moments, seen from a pose."""
        x, y, cos, sin, speed, active = (np.asarray(part)[moments, row, 1:] for part in self.done[:6])
        place = pose.to_local(np.stack([x, y], axis=-1).astype(np.float64))
        yaw = np.arctan2(sin, cos) - pose.yaw
        states = np.stack([place[..., 0], place[..., 1], yaw, speed * np.cos(yaw), speed * np.sin(yaw)], axis=-1)
        sizes = np.stack([self.done.length, self.done.width], axis=-1)[1:].astype(np.float32)
        return draw_dynamic(
            torch.from_numpy(states.astype(np.float32))[None],
            torch.from_numpy(sizes)[None],
            torch.from_numpy(np.asarray(self.done.kind)[1:].astype(np.int64))[None],
            torch.from_numpy(active.copy())[None],
            self.grid,
            None if observed is None else observed[None],
        )[0]

    def _pose(self, step: int) -> Pose:
        x, y, cos, sin = (float(part[step, 0, 0]) for part in self.done[:4])
        return Pose(x, y, float(np.arctan2(sin, cos)))

    def _map(self) -> RoadMap:
        return self.alive.road.road_map.seen_from(self.alive.anchor)

    def _static(self, road_map: RoadMap, route: ndarray, pose: Pose, step: int) -> Float32[Tensor, "8 H W"]:
        stops = self.alive.road.stop_points
        if not stops:
            return draw_map(road_map, self.grid, route=route)
        now = np.asarray(lights(self.alive.network, self.alive.state._replace(steps=self.alive.state.steps + step)))
        points = self.alive.anchor.to_local(np.concatenate([stop.point.reshape(1, 2) for stop in stops]))
        states = now[[stop.group for stop in stops]].astype(np.int8)
        return draw_map(
            road_map, self.grid, route=route, light_points=pose.to_local(points).astype(np.float32), light_states=states
        )


def long_truth(alive: LiveScene, start: Start, grid: Grid, policy: Policy = IDM["idm_normal_in_lane"]) -> LongTruth:
    """The truth of `CHUNKS` chunks from t0 on, the ego driven by a policy that keeps to its lane."""
    actions, over = (np.asarray(part) for part in _cruise(alive.network, alive.state, policy, CHUNKS * _CHUNK))
    ends = np.flatnonzero(over)
    whole = CHUNKS if not len(ends) else int(ends[0]) // _CHUNK
    controls = np.repeat(actions[None].astype(np.float64), 1 + CHUNKS, axis=0)
    for chunk in range(CHUNKS):
        controls[1 + chunk, chunk * _CHUNK :, 0] = BRAKE_MPS2
    plans = Plans.from_controls(controls, max(float(alive.state.speed[0]), 0.0))
    return LongTruth(alive, alive.execute(plans), plans, start, grid, whole)


@partial(jax.jit, static_argnames="steps")
def _cruise(network: Network, state: State, policy: Policy, steps: int) -> tuple[Float[Array, "T 2"], Bool[Array, "T"]]:
    """The policy's actions from this state on, and whether the drive was over when each was taken."""

    def one(carry: tuple, key: Array) -> tuple:
        seat, over = carry
        seen = see(network, seat.worlds, seat.observed)
        action = policy.act(Situation(network, seat.worlds, seat.observed, seen), key)
        seat, brought = drive(network, seat, action)
        ended = jax.vmap(at_the_end, in_axes=(None, 0))(network, seat.worlds)
        return (seat, over | brought.over | ended), (action[0], over[0])

    worlds = jax.tree.map(lambda leaf: leaf[None], state)
    first = (sit(network, worlds), jnp.zeros(1, dtype=bool))
    return jax.lax.scan(one, first, jax.random.split(jax.random.key(0), steps))[1]
