"""What a scene must be to become a road, and who of it takes part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from wmplan.boxes import overlaps
from wmplan.errors import InputError
from wmplan.real_road import RealRoad
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, STEP_S, Future, Scene
from wmplan.simulator.scene_paths import MOST_VERTICES, SHORT_M, Driven

ROW_CLASSES = (32, 64, 128)
"""A road has one of these numbers of rows, so that few sizes are compiled."""
HORIZON_S = 8.0
EGO_ACCEL_MPS2 = 3.0
"""What the ego is assumed to be able to add to its speed all the time, when its reach is worked out."""
LEAST_FUTURE_S = 3.0
"""The ego must be seen so long after t0 without a gap: there must be a truth to compare with."""
SIZE_M = (0.1, 30.0)
"""Boxes shorter, narrower or longer are no road users."""
FASTEST_MPS = 70.0
NEAR_M = 60.0
"""Who cannot come so near to wherever the ego can be within 8 s takes no part."""
TOUCH_M = 0.5
"""Boxes that overlap deeper than this at t0, one of which moves, are no recording of a moment; labels do touch by some
decimetres."""
FARTHEST_M = 1.0
"""No route is farther from what the log shows than this, save those that are too short to have a direction."""


@dataclass(frozen=True)
class LeftOut:
    """Who is in the recording but not on the road: seen only after t0; seen before and after, but not at t0; of a size
    that no road user has; too far to matter."""

    later: int
    hidden: int
    size: int
    far: int

    @property
    def total(self) -> int:
        return self.later + self.hidden + self.size + self.far


def check_scene(scene: Scene, future: Future) -> None:
    where = f"scene {scene.scene_id}"
    if future.scene_id != scene.scene_id:
        raise InputError(f"{where}: the future is of scene {future.scene_id}, expected its own")
    if not scene.ego.valid[0, -1]:
        raise InputError(f"{where}: ego {scene.ego_id} is not valid at t0, expected it to be")
    gaps = np.flatnonzero(~future.ego.valid[0])
    shown = (int(gaps[0]) if len(gaps) else FUTURE_STEPS) * STEP_S
    if shown < LEAST_FUTURE_S - 1e-6:
        raise InputError(f"{where}: future shows the ego for {shown:.1f} s, expected at least {LEAST_FUTURE_S} s")
    for name, tracks in (("ego", scene.ego), ("agents", scene.agents), ("ego", future.ego), ("agents", future.agents)):
        bad = np.argwhere(tracks.valid & ~np.isfinite(tracks.states).all(axis=-1))
        if len(bad):
            raise InputError(f"{where}: {name}.states of {tracks.ids[bad[0, 0]]} are not finite, expected numbers")
    if not RealRoad(scene.road_map).known:
        raise InputError(f"{where}: road_map has no lanes, edges or drivable areas, expected some")
    if not SIZE_M[0] <= float(scene.ego.sizes[0].min()) <= float(scene.ego.sizes[0].max()) <= SIZE_M[1]:
        size = " x ".join(f"{metres:g}" for metres in scene.ego.sizes[0])
        raise InputError(f"{where}: ego is {size} m, expected {SIZE_M[0]} to {SIZE_M[1]} m")


def taking_part(scene: Scene, future: Future) -> tuple[Int[ndarray, "N"], LeftOut]:
    """Rows of the agents that are on the road."""
    agents, count = scene.agents, len(scene.agents)
    if future.agents.ids[:count] != agents.ids:
        raise InputError(f"scene {scene.scene_id}: the future's agents are others, expected the scene's to come first")
    now = agents.valid[:, -1]
    sizes = agents.sizes
    sane = (sizes >= SIZE_M[0]).all(axis=1) & (sizes <= SIZE_M[1]).all(axis=1)
    speed = max(float(np.hypot(*scene.ego.states[0, -1, 3:5])), 0.0)
    reach = speed * HORIZON_S + 0.5 * EGO_ACCEL_MPS2 * HORIZON_S**2
    theirs = np.hypot(agents.states[:, -1, 3], agents.states[:, -1, 4]) * HORIZON_S
    theirs = theirs + 0.5 * EGO_ACCEL_MPS2 * HORIZON_S**2
    far = now & sane & (np.hypot(agents.states[:, -1, 0], agents.states[:, -1, 1]) > reach + theirs + NEAR_M)
    rows = np.flatnonzero(now & sane & ~far)
    if len(rows) + 1 > ROW_CLASSES[-1]:
        raise InputError(
            f"scene {scene.scene_id}: {len(rows) + 1} road users with the ego, expected at most {ROW_CLASSES[-1]}"
        )
    hidden = ~now & future.agents.valid[:count].any(axis=1)
    later = len(future.agents) - count
    return rows, LeftOut(later, int(hidden.sum()), int((now & ~sane).sum()), int(far.sum()))


def joined(scene: Scene, future: Future, row: int) -> tuple[Float[ndarray, "T 5"], Bool[ndarray, "T"]]:
    """History and future of one agent."""
    states = np.concatenate([scene.agents.states[row], future.agents.states[row]]).astype(np.float64)
    valid = np.concatenate([scene.agents.valid[row], future.agents.valid[row]])
    shown = np.flatnonzero(valid)
    moved = np.hypot(*np.diff(states[shown, :2], axis=0).T)
    jumps = np.flatnonzero(moved > FASTEST_MPS * STEP_S * np.diff(shown))
    if len(jumps):
        at, metres = (shown[jumps[0] + 1] - HISTORY_STEPS) * STEP_S, moved[jumps[0]]
        raise InputError(
            f"scene {scene.scene_id}: {scene.agents.ids[row]} moves by {metres:.1f} m until t0 {at:+.1f} s, expected "
            f"at most {FASTEST_MPS:g} m/s"
        )
    return states, valid


def check_overlaps(scene: Scene, rows: Int[ndarray, "N"], stands: Bool[ndarray, "N+1"]) -> None:
    boxes = boxes_now(scene, rows)
    boxes[:, 3:] = np.maximum(boxes[:, 3:] - TOUCH_M, 0.05)
    near = np.hypot(boxes[:, None, 0] - boxes[None, :, 0], boxes[:, None, 1] - boxes[None, :, 1]) < 30.0
    first, second = np.nonzero(np.triu(near & ~(stands[:, None] & stands[None]), 1))
    deep = np.flatnonzero(overlaps(boxes[first], boxes[second]))
    if len(deep):
        names = [scene.ego_id, *(scene.agents.ids[row] for row in rows)]
        pair = f"{names[first[deep[0]]]} and {names[second[deep[0]]]}"
        raise InputError(f"scene {scene.scene_id}: {pair} overlap at t0, expected at most {TOUCH_M} m of it")


def check_deviation(scene: Scene, rows: Int[ndarray, "N"], ways: list[Driven], deviation: list[float]) -> None:
    for row, way, away in zip(rows, ways, deviation[1:]):
        if away > FARTHEST_M and way.arc[-1] >= SHORT_M:
            raise InputError(
                f"scene {scene.scene_id}: path of {scene.agents.ids[row]} is {away:.2f} m off its route of "
                f"{MOST_VERTICES} vertices, expected at most {FARTHEST_M} m"
            )


def boxes_now(scene: Scene, rows: Int[ndarray, "N"]) -> Float[ndarray, "N+1 5"]:
    own = np.concatenate([scene.ego.states[0, -1, :3], scene.ego.sizes[0]])
    others = np.concatenate([scene.agents.states[rows, -1, :3], scene.agents.sizes[rows]], axis=1)
    return np.concatenate([own[None], others]).astype(np.float64)
