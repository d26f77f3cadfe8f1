"""Waymo JSON: scenes written here in degrees and in radians, with filler, with the future in them, and damaged."""

from __future__ import annotations

import copy
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wmplan.errors import InputError
from wmplan.readers.womd_json import WomdJsonReader
from wmplan.scene import Feature, Kind, Light, Log

READER = WomdJsonReader()
STEPS = 15
FILLER = -10000.0


def mover(kind: str, start: tuple[float, float], course: float, speed: float, gone: range = range(0)) -> dict[str, Any]:
    """A road user on a straight line, heading in degrees beyond one turn; filler in the steps `gone`."""
    along = np.array([np.cos(course), np.sin(course)])
    seen = [step not in gone for step in range(STEPS)]
    places = [np.array(start) + along * speed * 0.1 * step for step in range(STEPS)]
    return {
        "position": [
            {"x": float(p[0]), "y": float(p[1])} if s else {"x": FILLER, "y": FILLER} for p, s in zip(places, seen)
        ],
        "width": 2.0,
        "length": 4.5,
        "heading": [float(np.rad2deg(course)) + 360.0 if s else FILLER for s in seen],
        "velocity": [dict(zip("xy", (along * speed).tolist())) if s else {"x": FILLER, "y": FILLER} for s in seen],
        "valid": seen,
        "goalPosition": {"x": 7777.0, "y": 7777.0},
        "type": kind,
    }


def scene() -> dict[str, Any]:
    """Three road users and a map in Waymo's coordinates; the last object is the ego."""
    return {
        "name": "x",
        "objects": [
            mover("vehicle", (9000.0, -3000.0), 1.2, 12.0),
            mover("pedestrian", (9010.0, -3010.0), -2.0, 1.3, gone=range(3, 6)),
            mover("vehicle", (9020.0, -3000.0), 0.5, 8.0),
        ],
        "roads": [
            {"geometry": [{"x": 9000.0 + i, "y": -3000.0} for i in range(5)], "type": "lane"},
            {"geometry": [{"x": 9000.0, "y": -3005.0}, {"x": 9100.0, "y": -3005.0}], "type": "road_edge"},
            {"geometry": [{"x": 9000.0, "y": -3001.0}, {"x": 9100.0, "y": -3001.0}], "type": "road_line"},
            {"geometry": [{"x": 9050.0, "y": -3002.0}], "type": "stop_sign"},
            *(
                {"geometry": corners(9050.0, k), "type": t}
                for k, t in enumerate(("crosswalk", "speed_bump", "driveway"))
            ),
            {"geometry": [{"x": 9000.0, "y": -3000.0}], "type": "lane"},
        ],
        "tl_states": {},
    }


def corners(x: float, shift: float) -> list[dict[str, float]]:
    return [{"x": x + dx, "y": -3000.0 + shift + dy} for dx, dy in ((0, 0), (4, 0), (4, 9), (0, 9))]


def radians(data: dict[str, Any]) -> dict[str, Any]:
    """The same scene with headings in radians in one turn."""
    data = copy.deepcopy(data)
    for item in data["objects"]:
        item["heading"] = [float(np.angle(np.exp(1j * np.deg2rad(h)))) if h > FILLER else h for h in item["heading"]]
    return data


def read(folder: Path, data: Any, name: str = "s.json") -> Log:
    path = folder / name
    text = data if isinstance(data, str) else json.dumps(data)
    path.write_bytes(lzma.compress(text.encode()) if name.endswith(".xz") else text.encode())
    (log,) = READER.read(path)
    return log


def test_a_scene_is_what_was_written(tmp_path: Path) -> None:
    log = read(tmp_path, scene(), "tfrecord-1_2.json.xz")
    assert (log.log_id, log.group, log.file) == ("womd_json-tfrecord-1_2", "tfrecord-1_2", "tfrecord-1_2.json.xz")
    assert (log.dt_s, log.dataset, log.recorded_ego, log.present_step) == (0.1, "womd", "2", None)
    assert log.tracks.kinds.tolist() == [Kind.VEHICLE, Kind.PEDESTRIAN, Kind.VEHICLE]
    assert log.tracks.sizes.tolist() == 3 * [[4.5, 2.0]]
    assert log.tracks.states[2, 0].tolist() == pytest.approx([0, 0, 0.5, 8 * np.cos(0.5), 8 * np.sin(0.5)])
    assert log.tracks.states[0, -1, :2].tolist() == pytest.approx([-20 + 16.8 * np.cos(1.2), 16.8 * np.sin(1.2)])
    assert log.tracks.valid[1].tolist() == [step not in (3, 4, 5) for step in range(STEPS)]
    assert (log.tracks.states[1, 3:6] == 0).all()


def test_map_is_what_was_written(tmp_path: Path) -> None:
    log = read(tmp_path, scene())
    kinds = [Feature.LANE, Feature.ROAD_EDGE, Feature.ROAD_LINE, Feature.STOP_SIGN]
    kinds += [Feature.CROSSWALK, Feature.SPEED_BUMP]
    assert log.road_map.kinds.tolist() == kinds  # neither the driveway nor the lane of one point
    assert log.road_map.feature(0).tolist() == [[-20 + i, 0] for i in range(5)]
    assert log.road_map.feature(4).tolist() == [[30, 0], [34, 0], [34, 9], [30, 9]]
    assert log.lights.states.shape == (0, STEPS)


def test_degrees_and_radians_are_one_scene(tmp_path: Path) -> None:
    degrees, turns = read(tmp_path, scene()), read(tmp_path, radians(scene()))
    assert degrees.tracks.states == pytest.approx(turns.tracks.states, abs=1e-9)


def test_a_road_due_east_is_still_in_degrees(tmp_path: Path) -> None:
    """Every heading is within 7 degrees, so that size alone would say radians: motion tells."""
    data = scene()
    data["objects"] = [mover("vehicle", (9000.0, -3000.0 + 4 * i), 0.02 + 0.02 * i, 10.0) for i in range(3)]
    for item in data["objects"]:
        item["heading"] = [h - 360.0 for h in item["heading"]]
    log = read(tmp_path, data)
    assert log.tracks.states[:, 0, 2] == pytest.approx([0.02, 0.04, 0.06])


def test_the_largest_heading_decides_when_nothing_moves(tmp_path: Path) -> None:
    data = scene()
    data["objects"] = [mover("vehicle", (9000.0, -3000.0 + 4 * i), 0.3, 0.0) for i in range(3)]
    assert read(tmp_path, data).tracks.states[:, 0, 2] == pytest.approx(0.3)
    assert read(tmp_path, radians(data)).tracks.states[:, 0, 2] == pytest.approx(0.3)


def test_filler_headings_do_not_make_degrees(tmp_path: Path) -> None:
    """-10000 stands in invalid steps of files in radians, too, and so may any number."""
    data = radians(scene())
    data["objects"][1]["heading"][4] = 50.0
    assert read(tmp_path, data).tracks.states[2, :, 2] == pytest.approx(0.5)


def test_the_future_in_the_file_is_not_read(tmp_path: Path) -> None:
    """`goalPosition` is the last recorded place, `vbd_trajectory` a model's prediction."""
    data = scene()
    before = read(tmp_path, data)
    for item in data["objects"]:
        item["goalPosition"] = {"x": "nonsense"}
        item["vbd_trajectory"] = None
    after = read(tmp_path, data)
    assert (before.tracks.states == after.tracks.states).all()
    assert before.log_id == after.log_id


def test_the_named_ego_goes_before_the_last_object(tmp_path: Path) -> None:
    data = scene() | {"scenario_id": "abc", "metadata": {"sdc_track_index": 0}}
    data["objects"] = [item | {"id": 100 + i} for i, item in enumerate(data["objects"])]
    log = read(tmp_path, data)
    assert (log.log_id, log.group, log.recorded_ego) == ("womd_json-abc", "abc", "100")
    assert log.tracks.states[0, 0, :2].tolist() == [0, 0]


def test_a_last_object_that_is_no_recording_car_is_no_ego(tmp_path: Path) -> None:
    """The recording car is a vehicle, and sees itself throughout."""
    data = scene()
    data["objects"].append(data["objects"].pop(1))
    assert read(tmp_path, data).recorded_ego is None
    data["objects"][2] = mover("vehicle", (9020.0, -3000.0), 0.5, 8.0, gone=range(1))
    assert read(tmp_path, data).recorded_ego is None
    data["objects"][2] = mover("vehicle", (9020.0, -3000.0), 0.5, 8.0)
    assert read(tmp_path, data).recorded_ego == "2"


def test_lights_are_read_at_their_times(tmp_path: Path) -> None:
    data = scene()
    words = ["stop", "arrow_stop", "caution", "arrow_caution", "go", "arrow_go", "unknown", "flashing_stop"]
    place = {axis: 8 * [value] for axis, value in (("x", 9050.0), ("y", -3000.0), ("z", 1.0))}
    data["tl_states"] = {"77": {"state": words, **place, "time_index": list(range(2, 10))}}
    log = read(tmp_path, data)
    assert log.lights.lanes == ("77",)
    assert log.lights.points.tolist() == [[30, 0]]
    seen = 2 * [Light.RED] + 2 * [Light.YELLOW] + 2 * [Light.GREEN] + 2 * [Light.UNKNOWN]
    assert log.lights.states[0].tolist() == 2 * [Light.UNKNOWN] + seen + 5 * [Light.UNKNOWN]


def test_a_missing_size_is_assumed_by_kind(tmp_path: Path) -> None:
    data = scene()
    for item in data["objects"][:2]:
        item["length"] = item["width"] = 0.0
    sizes = read(tmp_path, data).tracks.sizes
    assert sizes[0, 0] > 2 * sizes[0, 1] > sizes[1, 0] == sizes[1, 1] > 0


def test_only_scenes_are_listed(tmp_path: Path) -> None:
    good = json.dumps(scene())
    files = {
        "a.json": good,
        "b.json": good[:200],
        "c.json": "",
        "d.json": "{}",
        "map.json": '{"lane_segments": {}}',
        "notes.txt": good,
        ".hidden.json": good,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "e.json.xz").write_bytes(b"no xz")
    assert [path.name for path in READER.paths(tmp_path)] == ["a.json", "b.json", "c.json", "d.json", "e.json.xz"]
    assert READER.paths(tmp_path / "map.json") == []
    assert READER.paths(tmp_path / "nowhere") == []


LOST = object()


def changed(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The scene with one value replaced, or taken away."""
    data = copy.deepcopy(data)
    holder = data
    for key in path[:-1]:
        holder = holder[key]
    if value is LOST:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("objects",), LOST, r"scene s.objects is missing, expected a list"),
        (("objects",), {}, r"scene s.objects is a dict of 0, expected a list"),
        (("objects",), [], r"objects is empty"),
        (("objects", 1), 5, r"objects\[1\] is 5, expected an object"),
        (("objects", 1, "valid"), LOST, r"objects\[1\].valid is missing"),
        (("objects", 1, "valid", 3), "no", r"objects\[1\].valid holds 'no', expected booleans"),
        (("objects", 1, "valid", 3), 2, r"objects\[1\].valid holds 2, expected booleans"),
        (("objects", 1, "valid"), [True], r"objects\[1\].valid has shape \(1,\), expected \(15,\)"),
        (("objects", 1, "position"), LOST, r"objects\[1\].position is missing"),
        (
            ("objects", 1, "position", 0),
            [1, 2],
            r"objects\[1\].position\[0\] is a list of 2, expected an object with x",
        ),
        (("objects", 1, "position", 0, "y"), LOST, r"objects\[1\].position\[0\] is a dict of 1"),
        (("objects", 1, "position", 0, "y"), None, r"objects\[1\].position.y holds None at 0, expected numbers"),
        (("objects", 1, "position", 0, "y"), "3", r"objects\[1\].position.y holds '3' at 0, expected numbers"),
        (
            ("objects", 1, "position", 0, "y"),
            float("nan"),
            r"objects\[1\].position\[0\]\[1\] is nan, expected a finite",
        ),
        (("objects", 1, "position", 0, "y"), 3e7, r"objects\[1\].position\[0\]\[1\] is 3e\+07"),
        (("objects", 1, "position", 0, "y"), 3e5, r"distance of track 1 from the ego\[0\]\[1\] is 303000"),
        (("objects", 1, "position"), [], r"objects\[1\].position.x has shape \(0,\), expected shape \(15,\)"),
        (("objects", 1, "heading"), 0.5, r"objects\[1\].heading is 0.5, expected a list"),
        (("objects", 1, "heading", 0), float("inf"), r"objects\[1\].heading\[0\] is inf"),
        (("objects", 1, "heading"), [[0.1]] * STEPS, r"objects\[1\].heading has shape \(15, 1\)"),
        (("objects", 1, "velocity", 7, "x"), 1e4, r"objects\[1\].velocity\[7\]\[0\] is 10000, expected .* 200 m/s"),
        (("objects", 1, "length"), LOST, r"objects\[1\].length holds None, expected numbers"),
        (("objects", 1, "length"), -4.0, r"objects\[1\].size is \[-4.0, 2.0\]"),
        (("objects", 1, "width"), float("nan"), r"objects\[1\].size\[1\] is nan"),
        (("objects", 1, "type"), "tank", r"objects\[1\].type is 'tank', expected one of vehicle, pedestrian"),
        (("objects", 1, "type"), 3, r"objects\[1\].type is 3, expected a string"),
        (("objects", 1, "id"), 0, r"tracks hold the id '0' twice"),
        (("roads",), LOST, r"scene s.roads is missing"),
        (("roads",), [], r"map has 0 features"),
        (("roads", 0), None, r"roads\[0\] is None, expected an object"),
        (("roads", 0, "type"), "canal", r"roads\[0\].type is 'canal'"),
        (("roads", 0, "geometry"), LOST, r"roads\[0\].geometry is None, expected a list"),
        (("roads", 0, "geometry", 2), 4, r"roads\[0\].geometry\[2\] is 4"),
        (("roads", 0, "geometry", 2, "x"), float("nan"), r"map feature 0 \(lane\)\[2\]\[0\] is nan"),
        (("metadata",), {"sdc_track_index": 3}, r"metadata.sdc_track_index is 3, expected a valid track among 3"),
        (("metadata",), {"sdc_track_index": "2"}, r"metadata.sdc_track_index is '2', expected a whole number"),
        (("metadata",), {"sdc_track_index": True}, r"metadata.sdc_track_index is True, expected a whole number"),
        (("metadata",), [1], r"metadata is a list of 1, expected an object"),
        (("scenario_id",), 5, r"scenario_id is 5, expected a string"),
        (("tl_states",), [1], r"tl_states is a list of 1"),
        (("tl_states",), {"7": 1}, r"tl_states\[7\] is 1"),
        (("tl_states",), {"7": {"state": ["blue"], "x": [0.0], "y": [0.0]}}, r"tl_states\[7\].state holds 'blue'"),
        (("tl_states",), {"7": {"state": ["go"], "x": [0.0]}}, r"tl_states\[7\].y is missing"),
        (("tl_states",), {"7": {"state": ["go"], "x": [0.0], "y": [0.0], "time_index": [15]}}, r"time_index holds 15"),
    ],
)
def test_a_bad_field_is_named(tmp_path: Path, place: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^s\.json: .*{message}"):
        read(tmp_path, changed(scene(), place, value))


def test_a_scene_in_which_no_one_is_ever_seen_is_refused(tmp_path: Path) -> None:
    data = scene()
    for item in data["objects"]:
        item["valid"] = STEPS * [False]
    with pytest.raises(InputError, match=r"s\.json: scene s: tracks hold 3 of which none is ever valid"):
        read(tmp_path, data)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '{"objects": ', "\x00", "[" * 100_000])
def test_a_file_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"^s\.json: (is not JSON|the top level is)"):
        read(tmp_path, text)


PACKED = lzma.compress(json.dumps(scene()).encode())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
def test_any_damage_of_a_compressed_file_is_found(tmp_path: Path, at: float, flip: int, cut: bool) -> None:
    data, place = bytearray(PACKED), int(at * len(PACKED))
    data[place] ^= flip
    path = tmp_path / "s.json.xz"
    path.write_bytes(PACKED[:place] if cut else data)
    with pytest.raises(InputError, match=r"^s\.json\.xz: "):
        list(READER.read(path))


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]), st.just({}))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_is_an_error_or_another_scene(tmp_path: Path, data: st.DataObject) -> None:
    """Nothing but `InputError` comes out, and no number that is not finite goes in."""
    whole = scene()
    place: list[Any] = []
    inner: Any = whole
    while isinstance(inner, (dict, list)) and inner and (not place or data.draw(st.integers(0, 3)) > 0):
        place.append(data.draw(st.sampled_from(list(inner) if isinstance(inner, dict) else range(len(inner)))))
        inner = inner[place[-1]]
    text, logs = "s.json: ", []
    try:
        logs = [read(tmp_path, changed(whole, tuple(place), data.draw(LEAVES)))]
    except InputError as error:
        text = str(error)
    assert text.startswith("s.json: ")
    assert "\n" not in text
    assert all(np.isfinite(log.tracks.states).all() and np.isfinite(log.road_map.points).all() for log in logs)
