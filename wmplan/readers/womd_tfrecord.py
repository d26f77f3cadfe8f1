"""Waymo Open Motion as Waymo publishes it: `Scenario` protocol buffers in TFRecord files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.errors import InputError
from wmplan.readers.assembly import (
    WAYMO_LIGHTS,
    RawLight,
    RawTracks,
    make_lights,
    make_map,
    make_tracks,
    recentre,
    time_step,
)
from wmplan.readers.checks import fail
from wmplan.readers.files import bare_name, list_files
from wmplan.readers.protobuf import Value, WireError, doubles, fields, signed, varints
from wmplan.readers.tfrecord import read_records
from wmplan.scene import Feature, Kind, Log

T = TypeVar("T")

KINDS = (Kind.OTHER, Kind.VEHICLE, Kind.PEDESTRIAN, Kind.CYCLIST, Kind.OTHER)
"""Kind by `Track.ObjectType`: unset, vehicle, pedestrian, cyclist, other."""
FEATURES = {
    3: Feature.LANE, 4: Feature.ROAD_LINE, 5: Feature.ROAD_EDGE, 7: Feature.STOP_SIGN, 8: Feature.CROSSWALK,
    9: Feature.SPEED_BUMP,
}  # fmt: skip
"""Kind by field number of `MapFeature`. Driveways (10) are left out: a map's `Feature.DRIVABLE` areas are all that is
drivable, these are only patches beside it."""
POINTS = {
    Feature.LANE: 8, Feature.ROAD_LINE: 2, Feature.ROAD_EDGE: 2, Feature.STOP_SIGN: 2, Feature.CROSSWALK: 1,
    Feature.SPEED_BUMP: 1,
}  # fmt: skip
"""Field number of the points inside each kind of feature."""
BIKE_LANE = 3
"""`LaneCenter.LaneType` of lanes that no car may follow: left out."""
STATE = {2: 0, 3: 1, 8: 2, 9: 3, 10: 4, 5: 5, 6: 6}
"""Column by field number of `ObjectState`: x, y, heading, vx, vy, length, width (the z and height are not kept)."""
VALID = 11
"""Field number of `ObjectState.valid`."""


class WomdTFRecordReader:
    """Reads every scenario of a file, one at a time: a shard of 500 needs the memory of one.

    A record may also hold a `tf.Example`, the padded form of the same data with the map cut to sampled points: it is
    refused by name, since Waymo publishes the same scenes as `Scenario`.
    """

    name = "womd_tfrecord"

    def paths(self, source: Path) -> list[Path]:
        """Files `*.tfrecord` and shards `*.tfrecord-00000-of-01000`, plain or compressed."""
        return list_files(source, lambda path: re.search(r"\.tfrecords?(-\d+-of-\d+)?$", bare_name(path)) is not None)

    def read(self, path: Path) -> Iterator[Log]:
        """The scenarios of the file.

        Raises:
            InputError: if a record is damaged or no `Scenario`, or a field is missing, not finite or absurd. Scenarios
                before it have been given by then.
        """
        for index, data in enumerate(read_records(path)):
            where = f"{path.name}: record {index}"
            if _is_example(data):
                fail(where, "is a tf.Example (padded features)", "a Scenario proto (Waymo's `scenario` files)")
            try:
                yield _log(data, path, where)
            except WireError as error:
                raise InputError(f"{where}: is no Scenario proto ({error}), expected one") from error


def _log(data: bytes, path: Path, where: str) -> Log:
    """One scenario."""
    message = _Message(data)
    scenario = message.text(5)
    if not scenario:
        fail(f"{where}: scenario_id", "is missing", "a string")
    where = f"{where}: scene {scenario}"
    times = np.array([time for value in message.all(1) for time in doubles(value)])
    dt_s = time_step(times, f"{where}: timestamps_seconds")
    steps = len(times)
    raw = _tracks([_Message.of(value) for value in message.all(2)], steps, where)
    ego, present = message.whole(6), message.whole(10)
    if ego is None or not 0 <= ego < len(raw.ids) or not raw.valid[ego].any():
        fail(f"{where}: sdc_track_index", f"is {ego}", f"a valid track among {len(raw.ids)}")
    if present is not None and not 0 <= present < steps:
        fail(f"{where}: current_time_index", f"is {present}", f"0 to {steps - 1}")
    features, links = _map([_Message.of(value) for value in message.all(8)], where)
    log = Log(
        log_id=f"{WomdTFRecordReader.name}-{scenario}",
        group=scenario,
        dataset="womd",
        file=path.name,
        dt_s=dt_s,
        tracks=make_tracks(where, raw, dt_s),
        road_map=make_map(where, features, links),
        lights=make_lights(where, _lights([_Message.of(value) for value in message.all(7)], steps, where), steps),
        recorded_ego=raw.ids[ego],
        present_step=present or None,
    )
    return recentre(log, where)


class _Message:
    """The fields of one message by number; a number that repeats keeps every value."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[Value]] = {}
        for number, value in fields(data):
            self._fields.setdefault(number, []).append(value)

    @staticmethod
    def of(value: Value) -> _Message:
        """A message inside a message."""
        if not isinstance(value, bytes):
            raise WireError("a number where a message belongs")
        return _Message(value)

    def all(self, number: int) -> list[Value]:
        """Every value of the field, in order."""
        return self._fields.get(number, [])

    def last(self, number: int, kind: type[T]) -> T | None:
        """The value of a field that does not repeat (the last one counts), None where it is absent."""
        value = self._fields.get(number, [None])[-1]
        if value is not None and not isinstance(value, kind):
            raise WireError(f"field {number} is of the wrong type")
        return value

    def whole(self, number: int) -> int | None:
        """A whole number."""
        value = self.last(number, int)
        return None if value is None else signed(value)

    def text(self, number: int) -> str | None:
        """A string."""
        value = self.last(number, bytes)
        try:
            return None if value is None else value.decode()
        except UnicodeDecodeError:
            raise WireError(f"field {number} is no text") from None


def _tracks(tracks: list[_Message], steps: int, where: str) -> RawTracks:
    """`Scenario.tracks` as arrays."""
    if not tracks:
        fail(f"{where}: tracks", "is empty", "at least one track")
    states = np.zeros((len(tracks), steps, len(STATE)))
    valid = np.zeros((len(tracks), steps), dtype=bool)
    for i, track in enumerate(tracks):
        rows = track.all(3)
        if len(rows) != steps:
            fail(f"{where}: tracks[{i}].states", f"has {len(rows)} values", f"{steps} (one a timestamp)")
        for step, row in enumerate(rows):
            if not isinstance(row, bytes):
                raise WireError(f"tracks[{i}].states[{step}] is of the wrong type")
            for number, value in fields(row):
                if number in STATE and isinstance(value, float):
                    states[i, step, STATE[number]] = value
                elif number == VALID:
                    valid[i, step] = value == 1
                elif number in STATE:
                    raise WireError(f"tracks[{i}].states[{step}] field {number} is of the wrong type")
    sizes = np.array([np.median(states[i, at, 5:], axis=0) if at.any() else (0.0, 0.0) for i, at in enumerate(valid)])
    kinds = [track.whole(2) or 0 for track in tracks]
    for i, kind in enumerate(kinds):
        if not 0 <= kind < len(KINDS):
            fail(f"{where}: tracks[{i}].object_type", f"is {kind}", f"0 to {len(KINDS) - 1}")
    return RawTracks(
        ids=tuple(str(track.whole(1)) for track in tracks),
        names=tuple(f"tracks[{i}]" for i in range(len(tracks))),
        kinds=np.array([KINDS[kind] for kind in kinds], dtype=np.int8),
        sizes=sizes,
        xy=states[..., 0:2],
        yaw=states[..., 2],
        velocity=states[..., 3:5],
        valid=valid,
    )


def _map(
    features: list[_Message], where: str
) -> tuple[list[tuple[Feature, str, Float[ndarray, "_N 2"]]], list[tuple[str, str]]]:
    """`Scenario.map_features`, and which lane follows which."""
    found: list[tuple[Feature, str, Float[ndarray, "_N 2"]]] = []
    links: list[tuple[str, str]] = []
    for feature in features:
        name = str(feature.whole(1))
        for number, kind in FEATURES.items():
            data = feature.last(number, bytes)
            if data is None:
                continue
            message = _Message(data)
            if kind == Feature.LANE:
                if message.whole(2) == BIKE_LANE:
                    continue
                links += [(str(signed(lane)), name) for value in message.all(9) for lane in varints(value)]
                links += [(name, str(signed(lane))) for value in message.all(10) for lane in varints(value)]
            found.append((kind, name, _points(message.all(POINTS[kind]))))
    return found, links


def _lights(steps_seen: list[_Message], steps: int, where: str) -> list[RawLight]:
    """`Scenario.dynamic_map_states`, one message a step, turned to one row a lane."""
    if len(steps_seen) > steps:
        fail(f"{where}: dynamic_map_states", f"has {len(steps_seen)} values", f"at most {steps}")
    rows: dict[str, RawLight] = {}
    for step, seen in enumerate(steps_seen):
        for value in seen.all(1):
            light = _Message.of(value)
            lane, state, point = str(light.whole(1)), light.whole(2) or 0, light.last(3, bytes)
            if not 0 <= state < len(WAYMO_LIGHTS):
                fail(f"{where}: dynamic_map_states[{step}]", f"has state {state}", f"0 to {len(WAYMO_LIGHTS) - 1}")
            if lane not in rows:
                place = None if point is None else _points([point])[0]
                rows[lane] = RawLight(lane, place, np.zeros(steps, dtype=np.int8))
            rows[lane].states[step] = WAYMO_LIGHTS[state]
    return list(rows.values())


def _points(values: list[Value]) -> Float[ndarray, "N 2"]:
    """x and y of `MapPoint` messages; a coordinate that is absent is 0, as protocol buffers have it."""
    points = np.zeros((len(values), 2))
    for i, value in enumerate(values):
        if not isinstance(value, bytes):
            raise WireError("a map point is of the wrong type")
        for number, coordinate in fields(value):
            if number in (1, 2):
                points[i, number - 1] = coordinate if isinstance(coordinate, float) else math.nan
    return points


def _is_example(data: bytes) -> bool:
    """Whether the record is a `tf.Example`: one field 1 of bytes that fills it (in a scenario, field 1 are times)."""
    try:
        found = next(fields(data), None)
    except WireError:
        return False
    return found is not None and found[0] == 1 and isinstance(found[1], bytes) and len(found[1]) > len(data) - 12
