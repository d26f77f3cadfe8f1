"""What a driving log holds: recordings (`Log`), moments of them (`Scene`), and what followed (`Future`, sealed)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int8
from numpy import ndarray

from wmplan.frames import Pose, wrap_angle

STEP_S = 0.1
"""Canonical time step of scenes, futures and plans, seconds."""
HISTORY_STEPS = 20
"""Steps before t0 that a scene keeps: 2 s, so `HISTORY_STEPS + 1` states end at t0."""
FUTURE_STEPS = 80
"""Steps after t0 that the sealed future keeps: 8 s, masked where the log ends earlier."""


class Kind(IntEnum):
    """Kind of a road user. `OTHER` is anything solid that is not a road user (cone, barrier, parked trailer)."""

    VEHICLE = 0
    PEDESTRIAN = 1
    CYCLIST = 2
    OTHER = 3


class Feature(IntEnum):
    """Kind of a map feature. The last four are closed polygons, `STOP_SIGN` is one point, the rest are polylines."""

    LANE = 0
    ROAD_EDGE = 1
    ROAD_LINE = 2
    STOP_SIGN = 3
    LANE_AREA = 4
    DRIVABLE = 5
    CROSSWALK = 6
    SPEED_BUMP = 7


class Light(IntEnum):
    """State of a traffic light, arrows folded into the round lights."""

    UNKNOWN = 0
    RED = 1
    YELLOW = 2
    GREEN = 3


@dataclass(frozen=True)
class Tracks:
    """Road users over time: centre of the box, heading, velocity.

    `states[..., :]` is x, y (m), yaw (rad), vx, vy (m/s, in the frame of the positions). Where `valid` is False the
    numbers mean nothing. Sizes are length and width in metres.
    """

    ids: tuple[str, ...]
    kinds: Int8[ndarray, "A"]
    sizes: Float32[ndarray, "A 2"]
    states: Float[ndarray, "A T 5"]
    valid: Bool[ndarray, "A T"]

    def __post_init__(self) -> None:
        n = len(self.ids)
        for name in ("kinds", "sizes", "states", "valid"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"Tracks.{name} has {len(getattr(self, name))} rows, expected {n} (one an id)")

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: Int[ndarray, "N"] | list[int]) -> Tracks:
        """These rows, in this order."""
        rows = np.asarray(rows, dtype=int)
        return Tracks(
            tuple(self.ids[i] for i in rows), self.kinds[rows], self.sizes[rows], self.states[rows], self.valid[rows]
        )

    def steps(self, start: int, stop: int) -> Tracks:
        """The same road users at steps `start` to `stop - 1`."""
        return Tracks(self.ids, self.kinds, self.sizes, self.states[:, start:stop], self.valid[:, start:stop])

    def seen_from(self, pose: Pose) -> Tracks:
        """The same tracks in the frame of `pose`."""
        states = np.empty(self.states.shape, dtype=np.float32)
        states[..., 0:2] = pose.to_local(self.states[..., 0:2])
        states[..., 2] = wrap_angle(self.states[..., 2] - pose.yaw)
        states[..., 3:5] = pose.rotate_to_local(self.states[..., 3:5])
        states[~self.valid] = 0.0
        return Tracks(self.ids, self.kinds, self.sizes, states, self.valid)


@dataclass(frozen=True)
class RoadMap:
    """Map features as one array of points; feature `i` owns `points[offsets[i]:offsets[i + 1]]`.

    `successors[j] = (i, k)`: lane feature `k` follows lane feature `i`; empty where the log has no links.
    """

    kinds: Int8[ndarray, "F"]
    ids: tuple[str, ...]
    offsets: Int[ndarray, "F+1"]
    points: Float[ndarray, "P 2"]
    successors: Int[ndarray, "L 2"]

    def feature(self, i: int) -> Float[ndarray, "_N 2"]:
        """Points of feature `i`."""
        return self.points[self.offsets[i] : self.offsets[i + 1]]

    def of_kind(self, *kinds: Feature) -> list[Float[ndarray, "_N 2"]]:
        """Points of every feature of these kinds, in the order of the map."""
        return [self.feature(int(i)) for i in np.flatnonzero(np.isin(self.kinds, kinds))]

    def seen_from(self, pose: Pose) -> RoadMap:
        """The same map in the frame of `pose`."""
        points = pose.to_local(self.points).astype(np.float32)
        return RoadMap(self.kinds, self.ids, self.offsets, points, self.successors)

    @staticmethod
    def build(
        features: list[tuple[Feature, str, Float[ndarray, "_N 2"]]], links: Sequence[tuple[str, str]] = ()
    ) -> RoadMap:
        """A map from (kind, id, points) and (lane id, id of the lane that follows); unknown link ids are dropped."""
        sizes = [len(points) for _, _, points in features]
        lanes = {name: i for i, (kind, name, _) in enumerate(features) if kind == Feature.LANE}
        pairs = [(lanes[a], lanes[b]) for a, b in links if a in lanes and b in lanes]
        return RoadMap(
            kinds=np.array([kind for kind, _, _ in features], dtype=np.int8),
            ids=tuple(name for _, name, _ in features),
            offsets=np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
            points=np.concatenate([p for _, _, p in features]) if features else np.zeros((0, 2)),
            successors=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        )


@dataclass(frozen=True)
class Lights:
    """Traffic lights: the point where traffic stops for each, the lane it rules ("" where unknown), its state."""

    points: Float[ndarray, "L 2"]
    lanes: tuple[str, ...]
    states: Int8[ndarray, "L T"]

    @staticmethod
    def none(steps: int) -> Lights:
        """No lights."""
        return Lights(np.zeros((0, 2), np.float32), (), np.zeros((0, steps), np.int8))


@dataclass(frozen=True)
class Driven:
    """How likely it was that the recorded ego was driven as it was: what importance sampling needs.

    A decision, acceleration (m/s2) and curvature (1/m), is made at each of `steps`, from the state of that step, and
    holds until the next. `log_density` is the logarithm of its density (per m/s2 and per 1/m) given everything before
    it, whoever was at the wheel; the sum over decisions is that of the drive. `component` names who was, of those that
    might have been, at the end. Steps count from the log's beginning in a `Log`, from t0 in a `Future`.
    """

    component: str
    steps: Int[ndarray, "N"]
    actions: Float32[ndarray, "N 2"]
    log_density: Float[ndarray, "N"]


@dataclass(frozen=True)
class Log:
    """One recording, as a reader gives it: world frame in float64, recentred near the origin, at its true rate.

    `group` names what shares traffic with it (scenes of a group must stay on one side of a split). `recorded_ego` is
    the id of the recording car's track, None where there is none. `recorded` is False for trajectories that were
    synthesised. `labels_reliable` is False where accelerations cannot be trusted (interpolated boxes, raw speeds), so
    that no hard-braking outcome may be read from it. `present_step` is the log's own t0, where the format names one.
    `driven` has the propensities of the recorded ego's actions, where they are known.
    """

    log_id: str
    group: str
    dataset: str
    file: str
    dt_s: float
    tracks: Tracks
    road_map: RoadMap
    lights: Lights
    recorded_ego: str | None
    recorded: bool = True
    labels_reliable: bool = True
    left_hand: bool = False
    present_step: int | None = None
    driven: Driven | None = None


@dataclass(frozen=True)
class Scene:
    """One moment of a log, as a planner may see it: everything up to t0, in the scene frame; nothing after.

    `ego` has one row. `ego` and `agents` have `HISTORY_STEPS + 1` steps of `STEP_S`, the last is t0. `lights` has one
    step, t0. `route` runs from beside the ego along the lanes it can follow (straight ahead where the map has none, and
    then `route_on_map` is False); it is built from the map and the present alone, never from what the ego did next.
    `anchor` is the scene frame's pose in the log's world frame.
    """

    scene_id: str
    log_id: str
    group: str
    dataset: str
    ego_id: str
    recorded_ego: bool
    labels_reliable: bool
    left_hand: bool
    native_dt_s: float
    t0_s: float
    anchor: Pose
    ego: Tracks
    agents: Tracks
    road_map: RoadMap
    lights: Lights
    route: Float32[ndarray, "R 2"]
    route_on_map: bool


@dataclass(frozen=True)
class Future:
    """What really followed a scene, in its scene frame: `FUTURE_STEPS` steps after t0. Sealed from planners.

    `agents` begins with the agents of the scene in their order; those that came into view later follow. `driven` has
    the propensities of what the ego did, where they are known.
    """

    scene_id: str
    ego: Tracks
    agents: Tracks
    lights: Lights
    driven: Driven | None = None
