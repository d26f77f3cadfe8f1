"""Scenes cut out of a recording, and what followed each of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from wmplan.frames import Pose
from wmplan.mapcrop import crop
from wmplan.resample import lights_at, resample
from wmplan.route import route_of
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, STEP_S, Driven, Future, Kind, Light, Lights, Log, Scene, Tracks

HISTORY_S = HISTORY_STEPS * STEP_S


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """Which moments of a log become scenes, and what they keep."""

    ego: Literal["recorded", "any"] = "recorded"
    """whose scenes: `recorded` = the recording car; `any` = also every vehicle with a long enough track"""
    stride_s: float = 0.0
    """seconds between scenes of one ego in one log; 0 = a single scene per log and ego"""
    min_history_s: float = 1.0
    """seconds of gap-free ego history a scene needs before t0 (2 s are kept where the log has them)"""
    min_future_s: float = 3.0
    """seconds of gap-free ego future a scene needs after t0 (8 s are kept where the log has them)"""
    min_track_s: float = 6.0
    """with ego=any: shortest gap-free track that may be an ego, seconds"""
    min_ego_path_m: float = 10.0
    """with ego=any: least distance driven in that track, metres"""
    radius_m: float = 80.0
    """agents enter a scene that were within this distance of the ego's place at t0, metres"""
    max_agents: int = 256
    """at most so many agents in a scene, the nearest"""
    map_radius_m: float = 150.0
    """map features within this distance of the ego's place at t0 belong to the scene, metres"""

    def __post_init__(self) -> None:
        if self.ego not in ("recorded", "any"):
            raise ValueError(f"WindowConfig.ego is {self.ego!r}, expected 'recorded' or 'any'")
        for name in ("min_history_s", "min_future_s", "radius_m", "map_radius_m"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"WindowConfig.{name} is {getattr(self, name)}, expected a finite number above 0")
        for name in ("min_track_s", "min_ego_path_m", "max_agents"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"WindowConfig.{name} is {getattr(self, name)}, expected a finite number from 0 up")
        if self.stride_s != 0 and not STEP_S <= self.stride_s < np.inf:
            raise ValueError(f"WindowConfig.stride_s is {self.stride_s}, expected 0 or at least {STEP_S}")


def cut(log: Log, config: WindowConfig) -> Iterator[tuple[Scene, Future]]:
    """The scenes of a log in order of ego and time, each with its future.

    t0 is always a native sample. Where the log names its present step and the ego's history allows, that is the first
    t0; otherwise the first with two seconds of history, or as much as leaves the future that is asked for. A scene
    holds nothing recorded after its t0; that it exists at all tells that its ego was seen for `min_future_s` more.
    """
    for ego in _egos(log, config):
        for t0 in moments(log, ego, config):
            yield _scene(log, ego, t0, config)


def moments(log: Log, ego: int, config: WindowConfig) -> list[int]:
    """Native steps of the log that are a t0 of this ego."""
    recorded = log.tracks.ids[ego] == log.recorded_ego
    history, wanted, future = (_steps(s, log.dt_s) for s in (config.min_history_s, HISTORY_S, config.min_future_s))
    per_run = []
    for first, last in runs(log.tracks.valid[ego]):
        if not recorded and not _qualifies(log, ego, first, last, config):
            continue
        earliest, latest = first + history, last - future
        if earliest > latest:
            continue
        start = min(first + max(wanted, history), latest)
        if log.present_step is not None and earliest <= log.present_step <= latest:
            start = log.present_step
        stride = max(1, round(config.stride_s / log.dt_s))
        per_run.append([start] if config.stride_s == 0 else list(range(start, latest + 1, stride)))
    if config.stride_s == 0 and per_run:
        return next((run for run in per_run if run[0] == log.present_step), per_run[0])
    return [t0 for run in per_run for t0 in run]


def runs(valid: Bool[ndarray, "T"]) -> list[tuple[int, int]]:
    """First and last step of every stretch without a gap."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def _egos(log: Log, config: WindowConfig) -> list[int]:
    """Rows of the tracks that may be an ego."""
    recorded = [i for i, name in enumerate(log.tracks.ids) if name == log.recorded_ego]
    if config.ego == "recorded":
        return recorded
    return [i for i in range(len(log.tracks)) if log.tracks.kinds[i] == Kind.VEHICLE or i in recorded]


def _qualifies(log: Log, ego: int, first: int, last: int, config: WindowConfig) -> bool:
    if (last - first) * log.dt_s < config.min_track_s - 0.5 * log.dt_s:
        return False
    path = np.diff(log.tracks.states[ego, first : last + 1, :2], axis=0)
    return float(np.hypot(path[:, 0], path[:, 1]).sum()) >= config.min_ego_path_m


def _steps(seconds: float, dt_s: float) -> int:
    """Fewest native steps that last `seconds`, a thousandth of a step forgiven."""
    return int(np.ceil(seconds / dt_s - 1e-3))


def _scene(log: Log, ego: int, t0: int, config: WindowConfig) -> tuple[Scene, Future]:
    past = resample(log.tracks, log.dt_s, t0, np.arange(-HISTORY_STEPS, 1))
    after = resample(log.tracks, log.dt_s, t0, np.arange(1, FUTURE_STEPS + 1))
    x, y, yaw = past.states[ego, -1, :3].tolist()
    anchor = Pose(x, y, yaw)
    road_map = crop(log.road_map, anchor, config.map_radius_m).seen_from(anchor)
    route, on_map = route_of(road_map)
    agents = _near(past, ego, anchor, config)
    later = _later(after, ego, agents, anchor, config)
    lights = _lights(log.lights, anchor, config.map_radius_m)
    now = lights_at(lights, log.dt_s, t0, np.array([0]))
    shown = np.flatnonzero(now.states[:, 0] != Light.UNKNOWN)  # a light seen only later must not be known now
    scene_id = _scene_id(log, log.tracks.ids[ego], t0)
    scene = Scene(
        scene_id=scene_id,
        log_id=log.log_id,
        group=log.group,
        dataset=log.dataset,
        ego_id=log.tracks.ids[ego],
        recorded_ego=log.tracks.ids[ego] == log.recorded_ego,
        labels_reliable=log.labels_reliable,
        left_hand=log.left_hand,
        native_dt_s=float(log.dt_s),
        t0_s=float(t0 * log.dt_s),
        anchor=anchor,
        ego=past.select([ego]).seen_from(anchor),
        agents=past.select(agents).seen_from(anchor),
        road_map=road_map,
        lights=Lights(now.points[shown], tuple(now.lanes[i] for i in shown), now.states[shown]),
        route=route,
        route_on_map=on_map,
    )
    future = Future(
        scene_id=scene_id,
        ego=after.select([ego]).seen_from(anchor),
        agents=after.select(np.concatenate([agents, later])).seen_from(anchor),
        lights=lights_at(lights, log.dt_s, t0, np.arange(1, FUTURE_STEPS + 1)),
        driven=_driven(log, t0) if scene.recorded_ego else None,
    )
    return scene, future


def _driven(log: Log, t0: int) -> Driven | None:
    """The decisions that were made from t0 on, within the future that a scene keeps."""
    if log.driven is None:
        return None
    after = np.round((log.driven.steps - t0) * log.dt_s / STEP_S).astype(np.int32)
    kept = np.flatnonzero((log.driven.steps >= t0) & (after < FUTURE_STEPS))
    return Driven(log.driven.component, after[kept], log.driven.actions[kept], log.driven.log_density[kept])


def _near(past: Tracks, ego: int, anchor: Pose, config: WindowConfig) -> Int[ndarray, "N"]:
    """Rows of the agents that a scene keeps, in the order of the log."""
    distance = np.hypot(past.states[..., 0] - anchor.x, past.states[..., 1] - anchor.y)
    nearest = np.where(past.valid, distance, np.inf).min(axis=1, initial=np.inf)
    nearest[ego] = np.inf
    rows = np.argsort(nearest, kind="stable")[: config.max_agents]
    return np.sort(rows[nearest[rows] <= config.radius_m])


def _later(after: Tracks, ego: int, known: Int[ndarray, "N"], anchor: Pose, config: WindowConfig) -> Int[ndarray, "M"]:
    """Rows of those that come within the radius of the scene or of the ego only after t0."""
    x, y = after.states[..., 0], after.states[..., 1]
    near = np.hypot(x - anchor.x, y - anchor.y) <= config.radius_m
    near |= (np.hypot(x - x[ego], y - y[ego]) <= config.radius_m) & after.valid[ego]
    seen = (near & after.valid).any(axis=1)
    seen[ego] = False
    seen[known] = False
    return np.flatnonzero(seen)


def _lights(lights: Lights, anchor: Pose, radius_m: float) -> Lights:
    """The lights near the scene, in its frame."""
    points = anchor.to_local(lights.points.astype(np.float64)).astype(np.float32)
    near = np.flatnonzero(np.hypot(points[:, 0], points[:, 1]) <= radius_m)
    return Lights(points[near], tuple(lights.lanes[i] for i in near), lights.states[near])


def _scene_id(log: Log, ego_id: str, t0: int) -> str:
    """`<dataset>-<log>-<ego>-<t0 in tenths of a second>`, safe as a file name; a digest keeps changed names unique."""
    raw = f"{log.dataset}-{log.log_id}-{ego_id}-{round(t0 * log.dt_s * 10):04d}"
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", raw)
    if safe == raw and len(raw) <= 120:
        return raw
    digest = hashlib.blake2b(f"{log.dataset}\x1f{log.log_id}\x1f{ego_id}".encode(), digest_size=4).hexdigest()
    return f"{safe[:100]}-{digest}-{round(t0 * log.dt_s * 10):04d}"
