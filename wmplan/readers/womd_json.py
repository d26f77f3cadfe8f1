"""Waymo Open Motion scenes as JSON, the form that GPUDrive and Nocturne write and read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.frames import wrap_angle
from wmplan.readers.assembly import (
    WAYMO_LIGHT_NAMES,
    WAYMO_LIGHTS,
    RawLight,
    RawTracks,
    make_lights,
    make_map,
    make_tracks,
    recentre,
)
from wmplan.readers.checks import brief, fail, flags, need, numbers
from wmplan.readers.files import bare_name, first_bytes, list_files, read_bytes
from wmplan.scene import Feature, Kind, Log

DT_S = 0.1
"""Time step; the format names none."""
DEGREES_ABOVE = 7.0
"""Headings beyond this are degrees: no converter lets radians grow past one turn."""
KINDS = {
    "vehicle": Kind.VEHICLE, "pedestrian": Kind.PEDESTRIAN, "cyclist": Kind.CYCLIST,
    "other": Kind.OTHER, "unset": Kind.OTHER,
}  # fmt: skip
FEATURES = {
    "lane": Feature.LANE, "road_edge": Feature.ROAD_EDGE, "road_line": Feature.ROAD_LINE,
    "stop_sign": Feature.STOP_SIGN, "crosswalk": Feature.CROSSWALK, "speed_bump": Feature.SPEED_BUMP,
    "driveway": None,
}  # fmt: skip
"""Driveways are left out: a map's `Feature.DRIVABLE` areas are all that is drivable, these only patches beside it."""
BIKE_LANE = 3
"""`map_element_id` of a bicycle lane, where a file has these numbers. No car may follow it: left out."""
KEYS = (b"name", b"scenario_id", b"objects", b"roads", b"tl_states", b"metadata")
"""What an object of this format begins with; other JSON files (the maps of Argoverse) do not."""


class WomdJsonReader:
    """Reads one scene a file. The name of the scene is `scenario_id`, or the file's where it has none.

    The recording car is `metadata.sdc_track_index`, else the last object, if that is a vehicle valid throughout.
    `goalPosition` is where the object will end, `vbd_trajectory` a model's prediction of where: neither is read.
    Lanes have no links in this format.
    """

    name = "womd_json"

    def paths(self, source: Path) -> list[Path]:
        """Files `*.json`, `*.json.xz`, `*.json.gz` whose first key is one of the format's."""
        return list_files(source, _is_scene)

    def read(self, path: Path) -> Iterator[Log]:
        """The one scene of the file.

        Raises:
            InputError: if the file is damaged, or a field is missing, mistyped, not finite or absurd.
        """
        where = path.name
        text = read_bytes(path)
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: is not JSON ({error}), expected one object") from error
        if not isinstance(data, dict):
            fail(f"{where}: the top level", f"is {brief(data)}", "an object")
        scenario = data.get("scenario_id")
        if scenario is not None and not isinstance(scenario, str):
            fail(f"{where}: scenario_id", f"is {brief(scenario)}", "a string")
        scenario = scenario or bare_name(path).removesuffix(".json")
        where = f"{where}: scene {scenario}"

        raw = _tracks(need(data, "objects", list, where), where)
        steps = raw.valid.shape[1]
        log = Log(
            log_id=f"{self.name}-{scenario}",
            group=scenario,
            dataset="womd",
            file=path.name,
            dt_s=DT_S,
            tracks=make_tracks(where, raw, DT_S),
            road_map=make_map(where, _features(need(data, "roads", list, where), where), []),
            lights=make_lights(where, _lights(data.get("tl_states") or {}, steps, where), steps),
            recorded_ego=_ego(data, raw, where),
        )
        yield recentre(log, where)


def _is_scene(path: Path) -> bool:
    """Whether the file looks like a scene. One that cannot be judged counts as one, so that it fails by name."""
    if not bare_name(path).endswith(".json"):
        return False
    head = (first_bytes(path, 256) or b"").lstrip()
    key = re.match(rb'\{\s*"([^"]*)"', head)
    return key is None or key[1] in KEYS


def _tracks(objects: list[Any], where: str) -> RawTracks:
    """The objects as arrays, headings in radians."""
    if not objects:
        fail(f"{where}: objects", "is empty", "at least one object")
    names = tuple(f"objects[{i}]" for i in range(len(objects)))
    places = [f"{where}: {name}" for name in names]
    for item, place in zip(objects, places):
        if not isinstance(item, dict):
            fail(place, f"is {brief(item)}", "an object")
    steps = len(need(objects[0], "valid", list, places[0]))
    pairs = list(zip(objects, places))
    valid = np.stack([flags(need(o, "valid", list, at), steps, f"{at}.valid") for o, at in pairs])
    xy = np.stack([_points(need(o, "position", list, at), steps, f"{at}.position") for o, at in pairs])
    velocity = np.stack([_points(need(o, "velocity", list, at), steps, f"{at}.velocity") for o, at in pairs])
    heading = np.stack([numbers(need(o, "heading", list, at), (steps,), f"{at}.heading") for o, at in pairs])
    kinds = [_kind(need(o, "type", str, at), at) for o, at in pairs]
    degrees = in_degrees(heading, velocity, valid & (np.array(kinds) == Kind.VEHICLE)[:, None], valid)
    return RawTracks(
        ids=tuple(str(o.get("id", i)) for i, o in enumerate(objects)),
        names=names,
        kinds=np.array(kinds, dtype=np.int8),
        sizes=np.array([[_scalar(o, "length", at), _scalar(o, "width", at)] for o, at in pairs]),
        xy=xy,
        yaw=np.where(valid, np.deg2rad(heading), 0.0) if degrees else heading,
        velocity=velocity,
        valid=valid,
    )


def in_degrees(
    heading: Float[ndarray, "A T"],
    velocity: Float[ndarray, "A T 2"],
    vehicle: Bool[ndarray, "A T"],
    valid: Bool[ndarray, "A T"],
) -> bool:
    """Whether these headings are degrees: a file never says.

    Degrees, if the largest is beyond `DEGREES_ABOVE`; unless moving vehicles say clearly otherwise (a road due east has
    small headings in degrees, too): the median angle between heading and velocity is under 0.2 rad in one unit and over
    0.5 rad in the other.
    """
    largest = np.max(np.abs(heading[valid]), initial=0.0)
    by_size = bool(largest > DEGREES_ABOVE)
    moving = vehicle & (np.hypot(velocity[..., 0], velocity[..., 1]) > 2.0)
    if moving.sum() < 10 or not np.isfinite(heading[moving]).all() or not np.isfinite(velocity[moving]).all():
        return by_size
    course = np.arctan2(velocity[moving][:, 1], velocity[moving][:, 0])
    error_rad, error_deg = (
        float(np.median(np.abs(wrap_angle(angle - course)))) for angle in (heading[moving], np.deg2rad(heading[moving]))
    )
    if min(error_rad, error_deg) < 0.2 and max(error_rad, error_deg) > 0.5:
        return error_deg < error_rad
    return by_size


def _ego(data: dict[str, Any], raw: RawTracks, where: str) -> str | None:
    """Id of the recording car."""
    metadata = data.get("metadata") or {}
    if not isinstance(metadata, dict):
        fail(f"{where}: metadata", f"is {brief(metadata)}", "an object")
    if metadata.get("sdc_track_index") is not None:
        index = need(metadata, "sdc_track_index", int, f"{where}: metadata")
        if not 0 <= index < len(raw.ids) or not raw.valid[index].any():
            fail(f"{where}: metadata.sdc_track_index", f"is {index}", f"a valid track among {len(raw.ids)} objects")
        return raw.ids[index]
    last = len(raw.ids) - 1
    return raw.ids[last] if raw.kinds[last] == Kind.VEHICLE and raw.valid[last].all() else None


def _features(roads: list[Any], where: str) -> list[tuple[Feature, str, Float[ndarray, "_N 2"]]]:
    """The roads as map features."""
    features = []
    for i, road in enumerate(roads):
        at = f"{where}: roads[{i}]"
        if not isinstance(road, dict):
            fail(at, f"is {brief(road)}", "an object")
        kind = need(road, "type", str, at)
        if kind not in FEATURES:
            fail(f"{at}.type", f"is {kind!r}", "one of " + ", ".join(FEATURES))
        geometry = road.get("geometry")
        if isinstance(geometry, dict):  # some converters write the one point of a stop sign bare
            geometry = [geometry]
        points = _points(need({"geometry": geometry}, "geometry", list, at), None, f"{at}.geometry")
        feature = FEATURES[kind]
        if feature is not None and (feature != Feature.LANE or road.get("map_element_id") != BIKE_LANE):
            features.append((feature, str(road.get("id", i)), points))
    return features


def _lights(states: Any, steps: int, where: str) -> list[RawLight]:
    """The lights: a lane's id, and lists over the times at which the light was seen."""
    if not isinstance(states, dict):
        fail(f"{where}: tl_states", f"is {brief(states)}", "an object")
    lights = []
    for lane, light in states.items():
        at = f"{where}: tl_states[{lane}]"
        if not isinstance(light, dict):
            fail(at, f"is {brief(light)}", "an object")
        words = need(light, "state", list, at)
        times = numbers(light.get("time_index", list(range(len(words)))), (len(words),), f"{at}.time_index")
        xy = np.stack([numbers(need(light, k, list, at), (len(words),), f"{at}.{k}") for k in ("x", "y")], axis=-1)
        row = np.zeros(steps, dtype=np.int8)
        for word, time in zip(words, times):
            if word not in WAYMO_LIGHT_NAMES:
                fail(f"{at}.state", f"holds {brief(word)}", "one of " + ", ".join(WAYMO_LIGHT_NAMES))
            if time not in range(steps):
                fail(f"{at}.time_index", f"holds {time:g}", f"whole numbers from 0 to {steps - 1}")
            row[int(time)] = WAYMO_LIGHTS[WAYMO_LIGHT_NAMES.index(word)]
        if words:
            lights.append(RawLight(str(lane), xy[0], row))
    return lights


def _points(points: list[Any], length: int | None, where: str) -> Float[ndarray, "N 2"]:
    """x and y of a list of objects."""
    try:
        columns = [[p["x"] for p in points], [p["y"] for p in points]]
    except (KeyError, TypeError, IndexError):
        i = next(i for i, p in enumerate(points) if not (isinstance(p, dict) and "x" in p and "y" in p))
        fail(f"{where}[{i}]", f"is {brief(points[i])}", "an object with x and y")
    return np.stack([numbers(column, (length,), f"{where}.{axis}") for column, axis in zip(columns, "xy")], axis=-1)


def _kind(word: str, where: str) -> Kind:
    """Kind of an object."""
    if word not in KINDS:
        fail(f"{where}.type", f"is {word!r}", "one of " + ", ".join(KINDS))
    return KINDS[word]


def _scalar(item: dict[str, Any], key: str, where: str) -> float:
    """One number of an object."""
    return float(numbers(item.get(key), (), f"{where}.{key}"))
