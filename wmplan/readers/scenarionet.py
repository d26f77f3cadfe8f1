"""ScenarioNet pickles: scenes of Waymo, nuScenes and others in the one layout that MetaDrive replays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int8
from numpy import ndarray

from wmplan.readers.assembly import (
    WAYMO_LIGHT_NAMES,
    WAYMO_LIGHTS,
    RawLight,
    RawTracks,
    make_lights,
    make_map,
    make_tracks,
    recentre,
    time_step,
)
from wmplan.readers.checks import brief, fail, flags, need, numbers
from wmplan.readers.files import bare_name, first_bytes, list_files
from wmplan.readers.nuscenes_ego import repair_ego
from wmplan.readers.safe_pickle import first_key, load_pickle
from wmplan.scene import Feature, Kind, Light, Log

DATASETS = {"waymo": "womd"}
"""Data sets that wmplan calls by another name than ScenarioNet."""
SYNTHETIC = ("metadrive", "pg")
"""Data sets that were simulated, not recorded."""
KINDS = {
    "VEHICLE": Kind.VEHICLE, "PEDESTRIAN": Kind.PEDESTRIAN, "CYCLIST": Kind.CYCLIST,
    "OTHER": Kind.OTHER, "UNSET": Kind.OTHER, "TRAFFIC_CONE": Kind.OTHER, "TRAFFIC_BARRIER": Kind.OTHER,
    "TRAFFIC_OBJECT": Kind.OTHER,
}  # fmt: skip
FEATURES = (
    ("LANE_", Feature.LANE), ("ROAD_EDGE_", Feature.ROAD_EDGE), ("BOUNDARY_", Feature.ROAD_EDGE),
    ("ROAD_LINE_", Feature.ROAD_LINE), ("CROSSWALK", Feature.CROSSWALK), ("CROSS_WALK", Feature.CROSSWALK),
    ("SPEED_BUMP", Feature.SPEED_BUMP), ("STOP_SIGN", Feature.STOP_SIGN),
)  # fmt: skip
"""Kind by the beginning of the type's name. Other types (UNKNOWN, pavements) are no road and left out, and so
are driveways: a map's `Feature.DRIVABLE` areas are all that is drivable, these are only patches beside it."""
NOT_FOR_CARS = "LANE_BIKE_LANE"
"""Lanes that no car may follow: left out."""
SIGNALS = {f"LANE_STATE_{name.upper()}": Light(int(WAYMO_LIGHTS[i])) for i, name in enumerate(WAYMO_LIGHT_NAMES)} | {
    "TRAFFIC_LIGHT_UNKNOWN": Light.UNKNOWN, "TRAFFIC_LIGHT_RED": Light.RED,
    "TRAFFIC_LIGHT_YELLOW": Light.YELLOW, "TRAFFIC_LIGHT_GREEN": Light.GREEN,
}  # fmt: skip
INDEX_FILES = ("dataset_summary.pkl", "dataset_mapping.pkl")
"""ScenarioNet puts these beside the scenes of a folder; they are lists of files."""
KEYS = ("id", "version", "length", "metadata", "tracks", "dynamic_map_states", "map_features")
"""What the dict of a scene begins with."""
LEFT_HAND = ("singapore", "sg-")
"""How the maps of towns begin where traffic keeps left."""


class ScenarioNetReader:
    """Reads one scene a file, through `safe_pickle`.

    nuScenes is repaired where its conversion is known to be wrong (`nuscenes_ego`), its velocities are differentiated,
    and no label may be read from it: boxes are interpolated between keyframes half a second apart.
    """

    name = "scenarionet"

    def paths(self, source: Path) -> list[Path]:
        """Files `*.pkl`, `*.pkl.xz`, `*.pkl.gz`, but for ScenarioNet's own lists and dicts of other programs."""
        return list_files(source, _is_scene)

    def read(self, path: Path) -> Iterator[Log]:
        """The one scene of the file.

        Raises:
            InputError: if the file is damaged or names code, or a field is missing, mistyped, not finite or absurd.
        """
        data = load_pickle(path)
        if not isinstance(data, dict):
            fail(f"{path.name}: the pickle", f"holds {brief(data)}", "a ScenarioNet description (a dict)")
        scene = need(data, "id", str, f"{path.name}: scene")
        where = f"{path.name}: scene {scene}"
        metadata = need(data, "metadata", dict, where)
        steps = _whole(need(data, "length", object, where), f"{where}.length")
        times = numbers(need(metadata, "ts", object, f"{where}: metadata"), (steps,), f"{where}: metadata.ts")
        dt_s = time_step(times, f"{where}: metadata.ts")
        source = str(metadata.get("dataset", "scenarionet")).lower()
        dataset = DATASETS.get(source, source)

        ego = str(need(metadata, "sdc_id", object, f"{where}: metadata"))
        raw = _tracks(need(data, "tracks", dict, where), steps, dataset != "nuscenes", where)
        if ego not in raw.ids or not raw.valid[raw.ids.index(ego)].any():
            fail(f"{where}: metadata.sdc_id", f"is {ego!r}", f"the id of a valid track among {len(raw.ids)}")
        if dataset == "nuscenes":
            raw = repair_ego(raw, raw.ids.index(ego), dt_s)
        features, links = _map(need(data, "map_features", dict, where), where)
        lights = _lights(need(data, "dynamic_map_states", dict, where), steps, where)
        log = Log(
            log_id=f"{self.name}-{scene}",
            group=scene,
            dataset=dataset,
            file=path.name,
            dt_s=dt_s,
            tracks=make_tracks(where, raw, dt_s),
            road_map=make_map(where, features, links),
            lights=make_lights(where, lights, steps),
            recorded_ego=ego,
            recorded=dataset not in SYNTHETIC,
            labels_reliable=dataset != "nuscenes",
            left_hand=str(metadata.get("map", "")).startswith(LEFT_HAND),
            present_step=_present(metadata, steps, where),
        )
        yield recentre(log, where)


def _is_scene(path: Path) -> bool:
    """Whether the file looks like a scene. One that cannot be judged counts as one, so that it fails by name."""
    if not bare_name(path).endswith(".pkl") or bare_name(path) in INDEX_FILES:
        return False
    key = first_key(first_bytes(path, 256) or b"")
    return key is None or key in KEYS


def _tracks(tracks: dict[Any, Any], steps: int, trusted: bool, where: str) -> RawTracks:
    """The tracks as arrays."""
    if not tracks:
        fail(f"{where}: tracks", "is empty", "at least one track")
    states, kinds = [], []
    names = tuple(f"tracks[{key}]" for key in tracks)
    for track, name in zip(tracks.values(), names):
        if not isinstance(track, dict):
            fail(f"{where}: {name}", f"is {brief(track)}", "a dict")
        kind = need(track, "type", str, f"{where}: {name}")
        if kind not in KINDS:
            fail(f"{where}: {name}.type", f"is {kind!r}", "one of " + ", ".join(KINDS))
        kinds.append(KINDS[kind])
        states.append((need(track, "state", dict, f"{where}: {name}"), f"{where}: {name}.state"))
    valid = np.stack([flags(_column(state, "valid", at), steps, f"{at}.valid") for state, at in states])
    return RawTracks(
        ids=tuple(str(key) for key in tracks),
        names=names,
        kinds=np.array(kinds, dtype=np.int8),
        sizes=np.stack([_size(state, seen, at) for (state, at), seen in zip(states, valid)]),
        xy=np.stack([_plane(_column(state, "position", at), steps, f"{at}.position") for state, at in states]),
        yaw=np.stack([numbers(_column(state, "heading", at), (steps,), f"{at}.heading") for state, at in states]),
        velocity=np.stack([_plane(_column(state, "velocity", at), steps, f"{at}.velocity") for state, at in states]),
        valid=valid,
        trusted=trusted,
    )


def _column(state: dict[str, Any], key: str, where: str) -> ndarray:
    """One field of a state as an array; a column (T, 1) becomes (T,)."""
    values = need(state, key, object, where)
    try:
        array = np.asarray(values)
    except ValueError:
        fail(f"{where}.{key}", "is ragged", "an array")
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _plane(values: ndarray, steps: int, where: str) -> Float[ndarray, "T 2"]:
    """x and y over time, written with or without z."""
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        fail(where, f"has shape {values.shape}", f"({steps}, 2) or ({steps}, 3)")
    return numbers(values, (steps, None), where)[:, :2]


def _size(state: dict[str, Any], seen: Any, where: str) -> Float[ndarray, "2"]:
    """Length and width in any of the three layouts: the median over valid steps that give one; 0 where none does."""
    if "size" in state:
        sizes = _plane(_column(state, "size", where), len(seen), f"{where}.size")
    else:
        columns = [_column(state, key, where) for key in ("length", "width")]
        sizes = np.stack(
            [numbers(c, (len(seen),), f"{where}.{k}") for c, k in zip(columns, ("length", "width"))], axis=1
        )
    known = sizes[seen & ~(sizes == 0).any(axis=1)]
    if not np.isfinite(known).all():
        fail(f"{where}.size", "is not finite where valid", "metres")
    return np.median(known, axis=0) if len(known) else np.zeros(2)


def _map(
    features: dict[Any, Any], where: str
) -> tuple[list[tuple[Feature, str, Float[ndarray, "_N 2"]]], list[tuple[str, str]]]:
    """Map features, and which lane follows which."""
    found: list[tuple[Feature, str, Float[ndarray, "_N 2"]]] = []
    links: list[tuple[str, str]] = []
    for key, feature in features.items():
        name, at = str(key), f"{where}: map_features[{key}]"
        if not isinstance(feature, dict):
            fail(at, f"is {brief(feature)}", "a dict")
        word = need(feature, "type", str, at)
        kind = next((kind for start, kind in FEATURES if word.startswith(start)), None)
        if kind is None or word == NOT_FOR_CARS:
            continue
        if kind == Feature.STOP_SIGN:
            position = _place(need(feature, "position", object, at), f"{at}.position")
            found.append((kind, name, position[None]))
            continue
        if kind == Feature.LANE:
            links += [(name, lane) for lane in _names(feature, "exit_lanes", at)]
            links += [(lane, name) for lane in _names(feature, "entry_lanes", at)]
            if "polygon" in feature:
                found.append((Feature.LANE_AREA, name, _outline(feature["polygon"], f"{at}.polygon")))
            if "polyline" not in feature:
                continue
        line = "polyline" if "polyline" in feature else "polygon"
        found.append((kind, name, _outline(need(feature, line, object, at), f"{at}.{line}")))
    return found, links


def _names(feature: dict[str, Any], key: str, where: str) -> list[str]:
    """Ids of lanes, written as numbers or strings; absent in maps without links."""
    lanes = feature.get(key)
    if lanes is not None and not isinstance(lanes, (list, tuple, set, ndarray)):
        fail(f"{where}.{key}", f"is {brief(lanes)}", "a list")
    return [] if lanes is None else [str(lane) for lane in lanes]


def _place(values: Any, where: str) -> Float[ndarray, "2"]:
    """x and y of one point, with or without z."""
    point = numbers(values, (None,), where)
    if len(point) not in (2, 3):
        fail(where, f"has shape {point.shape}", "(2,) or (3,)")
    return point[:2]


def _outline(points: Any, where: str) -> Float[ndarray, "N 2"]:
    """Points of a line or an area, as an array or a list, with or without z."""
    array = numbers(points, (None, None), where)
    if array.shape[1] not in (2, 3):
        fail(where, f"has shape {array.shape}", "(any, 2) or (any, 3)")
    return array[:, :2]


def _lights(lights: dict[Any, Any], steps: int, where: str) -> list[RawLight]:
    """Traffic lights in either layout."""
    found = []
    for key, light in lights.items():
        at = f"{where}: dynamic_map_states[{key}]"
        if not isinstance(light, dict):
            fail(at, f"is {brief(light)}", "a dict")
        state = need(light, "state", dict, at)
        words = need(state, "object_state", object, f"{at}.state")
        states = _signals(words, steps, f"{at}.state.object_state")
        if "stop_point" in state:  # an array over time, zeros where unseen
            points = _plane(_column(state, "stop_point", at), steps, f"{at}.state.stop_point")
            points = points[(points != 0).any(axis=1)]
        else:
            point = light.get("stop_point")
            points = np.zeros((0, 2)) if point is None else _place(point, f"{at}.stop_point")[None]
        found.append(RawLight(str(light.get("lane", key)), points[0] if len(points) else None, states))
    return found


def _signals(words: Any, steps: int, where: str) -> Int8[ndarray, "T"]:
    """States over time from Waymo's numbers or from names; None is a step at which the light was not seen."""
    if isinstance(words, ndarray) and words.dtype.kind in "iu":
        numbers(words, (steps,), where)
        if not ((words >= 0) & (words < len(WAYMO_LIGHTS))).all():
            fail(where, f"holds {words[(words < 0) | (words >= len(WAYMO_LIGHTS))][0]}", "numbers from 0 to 8")
        return WAYMO_LIGHTS[words]
    if not isinstance(words, (list, tuple, ndarray)) or len(words) != steps:
        fail(where, f"is {brief(words)}", f"{steps} states")
    for word in words:
        if word is not None and word not in SIGNALS:
            fail(where, f"holds {brief(word)}", "one of " + ", ".join(SIGNALS))
    return np.array([Light.UNKNOWN if word is None else SIGNALS[word] for word in words], dtype=np.int8)


def _present(metadata: dict[str, Any], steps: int, where: str) -> int | None:
    """The scene's own t0; Waymo's 20 s scenes write 0, which names none."""
    if not metadata.get("current_time_index"):
        return None
    present = _whole(metadata["current_time_index"], f"{where}: metadata.current_time_index")
    if not 0 < present < steps:
        fail(f"{where}: metadata.current_time_index", f"is {present}", f"0 to {steps - 1}")
    return present


def _whole(value: Any, where: str) -> int:
    """A whole number, Python's or NumPy's."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        fail(where, f"is {brief(value)}", "a whole number")
    return int(value)
