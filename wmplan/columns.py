"""The columns of the canonical store: how scenes, maps and futures become rows, and rows become them again.

Numbers with a name of their own are Arrow columns. Arrays are binary columns that hold the array's bytes,
little-endian, C order, in the type and shape that the schemas' metadata name; a reader in any language needs
`numpy.frombuffer` or its like and nothing else. A binary column is copied out without parsing, which is what makes a
scene cheap to fetch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import ndarray

from wmplan.frames import Pose
from wmplan.mapcrop import crop
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, Driven, Future, Lights, Log, RoadMap, Scene, Tracks

SCHEMA_VERSION = 2
"""Raised whenever a column or its meaning changes; a store of another version is refused."""

_TRACKS = (("kinds", "i1", "A"), ("sizes", "f4", "A 2"), ("states", "f4", "A T 5"), ("valid", "?", "A T"))


def _tracks(prefix: str, steps: int) -> list[pa.Field]:
    shape = {"A": "A", "A 2": "A 2", "A T 5": f"A {steps} 5", "A T": f"A {steps}"}
    arrays = [_array(f"{prefix}_{name}", kind, shape[axes]) for name, kind, axes in _TRACKS]
    return [pa.field(f"{prefix}_ids", pa.list_(pa.string())), *arrays]


def _lights(steps: int) -> list[pa.Field]:
    return [
        pa.field("light_lanes", pa.list_(pa.string())),
        _array("light_points", "f4", "L 2"),
        _array("light_states", "i1", f"L {steps}"),
    ]


def _array(name: str, kind: str, shape: str) -> pa.Field:
    return pa.field(name, pa.binary(), metadata={"dtype": kind, "shape": shape})


INDEX = (
    pa.field("scene_id", pa.string()),
    pa.field("log_id", pa.string()),
    pa.field("group", pa.string()),
    pa.field("dataset", pa.string()),
    pa.field("split", pa.string()),
    pa.field("ego_id", pa.string()),
    pa.field("recorded_ego", pa.bool_()),
    pa.field("recorded", pa.bool_()),
    pa.field("labels_reliable", pa.bool_()),
    pa.field("left_hand", pa.bool_()),
    pa.field("native_dt_s", pa.float64()),
    pa.field("t0_s", pa.float64()),
    pa.field("speed_mps", pa.float32()),
    pa.field("agents", pa.int32()),
    pa.field("lanes", pa.int32()),
    pa.field("route_on_map", pa.bool_()),
    pa.field("file", pa.string()),
)
"""What `SceneStore.index` shows: one number or word a scene. `recorded` is False for synthesised trajectories."""
SCENES = pa.schema(
    [
        *INDEX,
        pa.field("anchor_x", pa.float64()),
        pa.field("anchor_y", pa.float64()),
        pa.field("anchor_yaw", pa.float64()),
        pa.field("map_radius_m", pa.float64()),
        *_tracks("ego", HISTORY_STEPS + 1),
        *_tracks("agent", HISTORY_STEPS + 1),
        *_lights(1),
        _array("route", "f4", "R 2"),
    ]
)
MAPS = pa.schema(
    [
        pa.field("log_id", pa.string()),
        pa.field("feature_ids", pa.list_(pa.string())),
        _array("kinds", "i1", "F"),
        _array("offsets", "i8", "F+1"),
        _array("points", "f8", "P 2"),
        _array("successors", "i8", "L 2"),
    ]
)
"""One row a log: its whole map in the log's own frame. A scene's map is the part around its anchor."""
FUTURES = pa.schema(
    [
        pa.field("scene_id", pa.string()),
        *_tracks("ego", FUTURE_STEPS),
        *_tracks("agent", FUTURE_STEPS),
        *_lights(FUTURE_STEPS),
        pa.field("driven_component", pa.string()),
        _array("driven_steps", "i4", "D"),
        _array("driven_actions", "f4", "D 2"),
        _array("driven_log_density", "f8", "D"),
    ]
)
"""`driven_component` is null, and there are no decisions, where propensities are not known."""
Row = Mapping[str, Any]


def scene_row(scene: Scene, log: Log, split: str, map_radius_m: float) -> Row:
    """The scene as a row of `SCENES`."""
    speed = float(np.hypot(*scene.ego.states[0, -1, 3:5].astype(np.float64)))
    return {
        "scene_id": scene.scene_id,
        "log_id": scene.log_id,
        "group": scene.group,
        "dataset": scene.dataset,
        "split": split,
        "ego_id": scene.ego_id,
        "recorded_ego": scene.recorded_ego,
        "recorded": log.recorded,
        "labels_reliable": scene.labels_reliable,
        "left_hand": scene.left_hand,
        "native_dt_s": scene.native_dt_s,
        "t0_s": scene.t0_s,
        "speed_mps": speed,
        "agents": len(scene.agents),
        "lanes": int((scene.road_map.kinds == 0).sum()),
        "route_on_map": scene.route_on_map,
        "file": log.file,
        "anchor_x": scene.anchor.x,
        "anchor_y": scene.anchor.y,
        "anchor_yaw": scene.anchor.yaw,
        "map_radius_m": map_radius_m,
        **_tracks_row("ego", scene.ego),
        **_tracks_row("agent", scene.agents),
        **_lights_row(scene.lights),
        "route": _bytes(scene.route, "f4"),
    }


def scene_of(row: Row, road_map: RoadMap) -> Scene:
    """The scene of a row of `SCENES`; `road_map` is its log's."""
    anchor = Pose(row["anchor_x"], row["anchor_y"], row["anchor_yaw"])
    return Scene(
        scene_id=row["scene_id"],
        log_id=row["log_id"],
        group=row["group"],
        dataset=row["dataset"],
        ego_id=row["ego_id"],
        recorded_ego=row["recorded_ego"],
        labels_reliable=row["labels_reliable"],
        left_hand=row["left_hand"],
        native_dt_s=row["native_dt_s"],
        t0_s=row["t0_s"],
        anchor=anchor,
        ego=_tracks_of(row, "ego", HISTORY_STEPS + 1),
        agents=_tracks_of(row, "agent", HISTORY_STEPS + 1),
        road_map=crop(road_map, anchor, row["map_radius_m"]).seen_from(anchor),
        lights=_lights_of(row, 1),
        route=_numbers(row["route"], "f4", -1, 2),
        route_on_map=row["route_on_map"],
    )


def map_row(log: Log) -> Row:
    """The map of a log as a row of `MAPS`."""
    road_map = log.road_map
    return {
        "log_id": log.log_id,
        "feature_ids": list(road_map.ids),
        "kinds": _bytes(road_map.kinds, "i1"),
        "offsets": _bytes(road_map.offsets, "i8"),
        "points": _bytes(road_map.points, "f8"),
        "successors": _bytes(road_map.successors, "i8"),
    }


def map_of(row: Row) -> RoadMap:
    """The map of a row of `MAPS`."""
    return RoadMap(
        kinds=_numbers(row["kinds"], "i1", -1),
        ids=tuple(row["feature_ids"]),
        offsets=_numbers(row["offsets"], "i8", -1),
        points=_numbers(row["points"], "f8", -1, 2),
        successors=_numbers(row["successors"], "i8", -1, 2),
    )


def future_row(future: Future) -> Row:
    """What followed a scene, as a row of `FUTURES`."""
    return {
        "scene_id": future.scene_id,
        **_tracks_row("ego", future.ego),
        **_tracks_row("agent", future.agents),
        **_lights_row(future.lights),
        **_driven_row(future.driven),
    }


def future_of(row: Row) -> Future:
    """The future of a row of `FUTURES`."""
    ego, agents = (_tracks_of(row, prefix, FUTURE_STEPS) for prefix in ("ego", "agent"))
    return Future(row["scene_id"], ego, agents, _lights_of(row, FUTURE_STEPS), _driven_of(row))


def row_digest(row: Row, schema: pa.Schema) -> bytes:
    """A digest of a row's content, the same whatever file and compression it ends in."""
    digest = hashlib.blake2b(digest_size=32)
    for name in schema.names:
        value = row[name] if isinstance(row[name], bytes) else repr(row[name]).encode()
        digest.update(len(value).to_bytes(8, "little"))
        digest.update(value)
    return digest.digest()


def _tracks_row(prefix: str, tracks: Tracks) -> Row:
    arrays = {f"{prefix}_{name}": _bytes(getattr(tracks, name), kind) for name, kind, _ in _TRACKS}
    return {f"{prefix}_ids": list(tracks.ids), **arrays}


def _tracks_of(row: Row, prefix: str, steps: int) -> Tracks:
    n = len(row[f"{prefix}_ids"])
    return Tracks(
        ids=tuple(row[f"{prefix}_ids"]),
        kinds=_numbers(row[f"{prefix}_kinds"], "i1", n),
        sizes=_numbers(row[f"{prefix}_sizes"], "f4", n, 2),
        states=_numbers(row[f"{prefix}_states"], "f4", n, steps, 5),
        valid=_numbers(row[f"{prefix}_valid"], "?", n, steps),
    )


def _lights_row(lights: Lights) -> Row:
    return {
        "light_lanes": list(lights.lanes),
        "light_points": _bytes(lights.points, "f4"),
        "light_states": _bytes(lights.states, "i1"),
    }


def _lights_of(row: Row, steps: int) -> Lights:
    n = len(row["light_lanes"])
    points, states = _numbers(row["light_points"], "f4", n, 2), _numbers(row["light_states"], "i1", n, steps)
    return Lights(points, tuple(row["light_lanes"]), states)


def _driven_row(driven: Driven | None) -> Row:
    known = driven or Driven("", np.zeros(0, np.int32), np.zeros((0, 2), np.float32), np.zeros(0))
    return {
        "driven_component": known.component if driven else None,
        "driven_steps": _bytes(known.steps, "i4"),
        "driven_actions": _bytes(known.actions, "f4"),
        "driven_log_density": _bytes(known.log_density, "f8"),
    }


def _driven_of(row: Row) -> Driven | None:
    if row["driven_component"] is None:
        return None
    return Driven(
        component=row["driven_component"],
        steps=_numbers(row["driven_steps"], "i4", -1),
        actions=_numbers(row["driven_actions"], "f4", -1, 2),
        log_density=_numbers(row["driven_log_density"], "f8", -1),
    )


def _bytes(array: ndarray, kind: str) -> bytes:
    return np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<")).tobytes()


def _numbers(buffer: bytes, kind: str, *shape: int) -> ndarray:
    """A fresh, writable array: a view of Arrow's memory would be read-only, which torch refuses."""
    return np.frombuffer(bytearray(buffer), dtype=np.dtype(kind).newbyteorder("<")).reshape(shape)
