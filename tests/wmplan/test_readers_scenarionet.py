"""ScenarioNet pickles: every layout that is known, nuScenes' faults, hostile and damaged files."""

from __future__ import annotations

import collections
import copy
import gzip
import lzma
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wmplan.errors import InputError
from wmplan.readers.nuscenes_ego import REAR_AXLE_TO_CENTRE_M
from wmplan.readers.safe_pickle import first_key, load_pickle
from wmplan.readers.scenarionet import ScenarioNetReader
from wmplan.scene import Feature, Kind, Light, Log

READER = ScenarioNetReader()
STEPS = 30


def track(kind: str, x: float, y: float, speed: float, heading: float = 0.0, layout: str = "size") -> dict[str, Any]:
    """A road user on a straight line, its size in one of three layouts; zeros in the two first steps, invalid."""
    time = 0.1 * np.arange(STEPS)
    valid = np.arange(STEPS) >= 2
    position = np.stack([x + speed * time * np.cos(heading), y + speed * time * np.sin(heading), 0 * time], axis=1)
    velocity = np.tile(speed * np.array([np.cos(heading), np.sin(heading)]), (STEPS, 1))
    state: dict[str, Any] = {
        "position": np.where(valid[:, None], position, 0.0).astype(np.float32),
        "velocity": np.where(valid[:, None], velocity, 0.0).astype(np.float32),
        "heading": np.where(valid, heading + 4 * np.pi, 0.0),
        "valid": valid,
    }
    box = np.where(valid[:, None], (4.6, 1.9, 1.5), 0.0)
    if layout == "size":
        state["size"] = box.astype(np.float32)
    for column, name in enumerate(("length", "width", "height") if layout != "size" else ()):
        state[name] = box[:, column] if layout == "flat" else box[:, column : column + 1]
    return {"type": kind, "state": state, "metadata": {"object_id": "x"}}


def scene(layout: str = "size") -> dict[str, Any]:
    """Waymo through ScenarioNet: two vehicles, a cone, lanes with links, a light."""
    return {
        "id": "s1",
        "version": "v1.2",
        "length": STEPS,
        "tracks": {
            "5": track("VEHICLE", 6000.0, 3000.0, 10.0, layout=layout),
            "7": track("PEDESTRIAN", 6010.0, 3004.0, 1.5, heading=2.0, layout=layout),
            "8": track("TRAFFIC_CONE", 6020.0, 3004.0, 0.0, layout=layout),
        },
        "dynamic_map_states": {},
        "map_features": {
            "1": {"type": "LANE_SURFACE_STREET", "polyline": line(5990, 6030), "exit_lanes": [2], "entry_lanes": []},
            "2": {"type": "LANE_FREEWAY", "polyline": line(6030, 6090), "exit_lanes": ["77"], "entry_lanes": ["1"]},
            "3": {"type": "LANE_BIKE_LANE", "polyline": line(5990, 6030), "exit_lanes": []},
            "4": {"type": "ROAD_EDGE_BOUNDARY", "polyline": line(5990, 6090, 2995)},
            "5": {"type": "ROAD_LINE_SOLID_SINGLE_WHITE", "polyline": line(5990, 6090, 2998).tolist()},
            "6": {"type": "STOP_SIGN", "position": np.array([6029.0, 2996.0, 0.0]), "lane": [1]},
            "9": {"type": "CROSSWALK", "polygon": corners(6030)},
            "10": {"type": "CROSS_WALK", "polyline": corners(6080)},
            "11": {"type": "SPEED_BUMP", "polyline": corners(6050)},
            "12": {"type": "SPEED_BUMP", "polygon": corners(6060)},
            "13": {"type": "DRIVEWAY", "polygon": corners(6070)},
            "14": {"type": "UNKNOWN", "polyline": line(5990, 6090)},
        },
        "metadata": {"dataset": "waymo", "sdc_id": "5", "ts": np.arange(STEPS) * 0.1, "current_time_index": 0},
    }


def line(start: float, stop: float, y: float = 3000) -> np.ndarray:
    return np.array([[start, y, -5.0], [(start + stop) / 2, y, -5.0], [stop, y, -5.0]], dtype=np.float32)


def corners(x: float) -> np.ndarray:
    return np.array([[x, 2995, 0], [x + 4, 2995, 0], [x + 4, 3005, 0], [x, 3005, 0]], dtype=np.float64)


def nuscenes(steps: int = STEPS, heading: float = 0.7, map_name: str = "singapore-onenorth") -> dict[str, Any]:
    """nuScenes through ScenarioNet: float masks, swapped sizes, wrong ego velocity, a jump back near the end."""
    data = scene(layout="column")
    ego = track("VEHICLE", 400.0, 1100.0, 8.0, heading=heading, layout="column")
    state = ego["state"]
    state["valid"] = np.ones(steps)
    along = 0.8 * np.arange(steps) - 1.5 * (np.arange(steps) == steps - 4)
    state["position"] = np.stack([400 + along * np.cos(heading), 1100 + along * np.sin(heading), 0 * along], axis=1)
    state["heading"] = np.full(steps, heading)
    state["length"], state["width"] = np.full((steps, 1), 1.73), np.full((steps, 1), 4.08)
    state["velocity"] += 2.3
    data["tracks"] = {"ego": ego, "b1": track("TRAFFIC_BARRIER", 420.0, 1100.0, 0.0, layout="column")}
    data["map_features"] = {
        "l": {"type": "LANE_SURFACE_STREET", "polyline": line(380, 480, 1100), "polygon": corners(400)[:, :2].tolist()},
        "c": {"type": "LANE_SURFACE_STREET", "polyline": line(480, 500, 1100), "speed_limit_kmh": 50},
    }
    data["map_features"]["l"]["polygon"] = [(x, y - 1900) for x, y in data["map_features"]["l"]["polygon"]]
    data["metadata"] = {"dataset": "nuscenes", "sdc_id": "ego", "ts": np.arange(steps) * 0.1, "map": map_name}
    return data


def read(folder: Path, data: Any, name: str = "s.pkl") -> Log:
    path = folder / name
    path.write_bytes(pickle.dumps(data))
    (log,) = READER.read(path)
    return log


@pytest.mark.parametrize("layout", ["size", "flat", "column"])
def test_a_scene_is_what_was_written(tmp_path: Path, layout: str) -> None:
    log = read(tmp_path, scene(layout))
    assert (log.log_id, log.group, log.dataset, log.file) == ("scenarionet-s1", "s1", "womd", "s.pkl")
    assert (log.dt_s, log.recorded_ego, log.present_step) == (0.1, "5", None)
    assert (log.recorded, log.labels_reliable, log.left_hand) == (True, True, False)
    assert log.tracks.kinds.tolist() == [Kind.VEHICLE, Kind.PEDESTRIAN, Kind.OTHER]
    assert log.tracks.sizes.tolist() == 3 * [pytest.approx([4.6, 1.9])]
    assert log.tracks.valid.sum(axis=1).tolist() == 3 * [STEPS - 2]
    assert log.tracks.states[0, 2].tolist() == pytest.approx([0, 0, 0, 10, 0], abs=1e-6)
    assert log.tracks.states[1, -1].tolist() == pytest.approx(
        [8 + 4.35 * np.cos(2), 4 + 4.35 * np.sin(2), 2, 1.5 * np.cos(2), 1.5 * np.sin(2)], abs=1e-3
    )


@pytest.mark.parametrize("layout", ["size", "flat", "column"])
def test_sizes_of_unseen_steps_do_not_count(tmp_path: Path, layout: str) -> None:
    """Seen in the last 4 of 30 steps: the others hold zeros, or filler."""
    for filler in (0.0, 50.0):
        data = scene(layout)
        state = data["tracks"]["7"]["state"]
        state["valid"] = np.arange(STEPS) >= STEPS - 4
        for name in ("size", "length", "width"):
            if name in state:
                state[name][: STEPS - 4] = filler
        assert read(tmp_path, data).tracks.sizes[1].tolist() == pytest.approx([4.6, 1.9])


def test_map_is_what_was_written(tmp_path: Path) -> None:
    """Lane ids are numbers in links and strings as keys; bicycle lanes, driveways and unknown features are no road."""
    road = read(tmp_path, scene()).road_map
    assert dict(zip(road.ids, road.kinds.tolist())) == {
        "1": Feature.LANE, "2": Feature.LANE, "4": Feature.ROAD_EDGE, "5": Feature.ROAD_LINE, "6": Feature.STOP_SIGN,
        "9": Feature.CROSSWALK, "10": Feature.CROSSWALK, "11": Feature.SPEED_BUMP, "12": Feature.SPEED_BUMP,
    }  # fmt: skip
    assert road.successors.tolist() == [[0, 1]]
    assert road.feature(0).tolist() == [[-12, 0], [8, 0], [28, 0]]
    assert road.feature(road.ids.index("6")).tolist() == [[27, -4]]


def test_both_layouts_of_lights_are_one(tmp_path: Path) -> None:
    words = [None, "LANE_STATE_STOP", "LANE_STATE_ARROW_STOP", "LANE_STATE_CAUTION", "LANE_STATE_GO"]
    numbers = [0, 4, 1, 5, 6]
    rest = STEPS - len(words)
    data = scene()
    data["dynamic_map_states"] = {
        "1": {"type": "TRAFFIC_LIGHT", "state": {"object_state": words + rest * [None]}, "lane": 1,
              "stop_point": np.array([6030.0, 3000.0, 0.0], dtype=np.float32)}
    }  # fmt: skip
    names = read(tmp_path, data)
    seen = np.array(numbers + rest * [0])
    points = np.where(seen[:, None] > 0, (6030.0, 3000.0, 0.0), 0.0)
    data["dynamic_map_states"] = {
        "1": {"type": "TRAFFIC_LIGHT", "state": {"object_state": seen, "stop_point": points, "lane": np.sign(seen)}}
    }
    integers = read(tmp_path, data)
    for log in (names, integers):
        assert log.lights.lanes == ("1",)
        assert log.lights.points.tolist() == [[28, 0]]
        expected = [Light.UNKNOWN, Light.RED, Light.RED, Light.YELLOW, Light.GREEN]
        assert log.lights.states[0].tolist() == expected + rest * [Light.UNKNOWN]


def test_nuscenes_egos_are_put_right(tmp_path: Path) -> None:
    log = read(tmp_path, nuscenes())
    row = log.tracks.ids.index("ego")
    assert log.tracks.sizes[row].tolist() == pytest.approx([4.08, 1.73])
    assert log.tracks.valid[row].tolist() == (STEPS - 10) * [True] + 10 * [False]
    speed = np.hypot(*log.tracks.states[row, : STEPS - 10, 3:5].T)
    assert speed == pytest.approx(8.0)  # not the file's, which is off by 2.3 m/s, and no jump
    barrier = log.tracks.states[log.tracks.ids.index("b1"), 5, :2]
    to_barrier = barrier - log.tracks.states[row, 0, :2]
    shift = REAR_AXLE_TO_CENTRE_M * np.array([np.cos(0.7), np.sin(0.7)])
    assert to_barrier == pytest.approx(np.array([20.0, 0.0]) - shift, abs=1e-4)
    assert 1.2 < REAR_AXLE_TO_CENTRE_M < 1.6
    assert (log.dataset, log.labels_reliable, log.left_hand) == ("nuscenes", False, True)


def test_nuscenes_lanes_have_areas(tmp_path: Path) -> None:
    road = read(tmp_path, nuscenes()).road_map
    assert road.kinds.tolist() == [Feature.LANE_AREA, Feature.LANE, Feature.LANE]
    assert road.ids == ("l", "l", "c")


def test_traffic_keeps_right_in_boston(tmp_path: Path) -> None:
    assert not read(tmp_path, nuscenes(map_name="boston-seaport")).left_hand


def test_the_present_is_read_where_it_is_named(tmp_path: Path) -> None:
    data = scene()
    data["metadata"]["current_time_index"] = np.int64(10)
    assert read(tmp_path, data).present_step == 10


def test_simulated_scenes_are_not_recorded(tmp_path: Path) -> None:
    data = scene()
    data["metadata"]["dataset"] = "metadrive"
    log = read(tmp_path, data)
    assert (log.recorded, log.dataset) == (False, "metadrive")


def test_scenarionets_own_dict_is_read_as_a_dict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickles written by MetaDrive name its class, which need not be installed to read them."""
    name = "metadrive.scenario.scenario_description"
    cls = type("ScenarioDescription", (dict,), {"__module__": name})
    for part in ("metadrive", "metadrive.scenario", name):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    sys.modules[name].ScenarioDescription = cls  # type: ignore[attr-defined]
    path = tmp_path / "s.pkl.xz"
    path.write_bytes(lzma.compress(pickle.dumps(cls(scene()))))
    monkeypatch.undo()
    assert b"ScenarioDescription" in lzma.decompress(path.read_bytes())
    (log,) = READER.read(path)
    assert log.log_id == "scenarionet-s1"


def test_only_scenes_are_listed(tmp_path: Path) -> None:
    whole = pickle.dumps(scene())
    files = {
        "a.pkl": whole,
        "b.pkl.xz": lzma.compress(whole),
        "c.pkl.gz": gzip.compress(whole),
        "d.pkl": whole[:100],
        "e.pkl": b"",
        "f.pkl": pickle.dumps(Hostile(["true"])),
        "other.pkl": pickle.dumps({"dataset_props": {}}),
        "dataset_summary.pkl": whole,
        "dataset_mapping.pkl": whole,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert [p.name for p in READER.paths(tmp_path)] == list(files)[:6]


def test_the_first_key_is_found_in_every_protocol() -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert first_key(pickle.dumps(scene(), protocol)[:256]) == "id"
    assert first_key(b"") is None
    assert first_key(pickle.dumps([1, {"id": 2}])) is None


class Hostile:
    """Runs a command when it is unpickled by anyone careless."""

    def __init__(self, command: list[str], function: Any = os.system) -> None:
        self.command, self.function = command, function

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return self.function, tuple(self.command)


@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__, os.remove, collections.OrderedDict])
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, function: Any) -> None:
    trap = tmp_path / "trap"
    command = {
        os.system: f"touch {trap}",
        eval: f"open({str(trap)!r}, 'w')",
        exec: f"open({str(trap)!r}, 'w')",
        os.remove: str(tmp_path / "kept"),
    }
    (tmp_path / "kept").write_text("x")
    for data in (Hostile([command.get(function, "os")], function), scene() | {"tracks": Hostile(["x"], function)}):
        with pytest.raises(InputError, match=r"s\.pkl: the pickle names \S*\.\w+, expected NumPy arrays"):
            read(tmp_path, data)
    assert not trap.exists()
    assert (tmp_path / "kept").exists()


def test_the_trap_would_have_run(tmp_path: Path) -> None:
    """The hostile file is real: plain unpickling does what it says."""
    trap = tmp_path / "trap"
    pickle.loads(pickle.dumps(Hostile([f"touch {trap}"])))
    assert trap.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nndarray.tofile\n.",
        b"\x80\x04\x8c\x08builtins\x94\x8c\x0bint.__new__\x94\x93\x94.",
        b"Pid\n.",
        b"\x82\x01.",
    ],
)
def test_names_close_to_allowed_ones_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s.pkl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"^s\.pkl: (the pickle names|is not a readable pickle)"):
        load_pickle(path)


def test_arrays_and_numbers_come_through(tmp_path: Path) -> None:
    data = {"a": np.arange(6.0).reshape(2, 3), "b": np.float32(2.5), "c": [None, True, "x"], "d": np.arange(3) > 1}
    path = tmp_path / "s.pkl"
    for protocol in (3, 4):  # NumPy 1 called its module otherwise
        for module in (b"numpy._core", b"numpy.core") if protocol == 3 else (b"numpy._core",):
            path.write_bytes(pickle.dumps(data, protocol).replace(b"numpy._core", module))
            check_arrays(load_pickle(path), data)


def check_arrays(found: Any, data: dict[str, Any]) -> None:
    assert (found["a"] == data["a"]).all()
    assert (found["b"], found["c"], found["d"].tolist()) == (2.5, [None, True, "x"], [False, False, True])


def test_numbers_that_call_themselves_objects_do_not_crash_the_process(tmp_path: Path) -> None:
    """NumPy's own restoring code takes the bytes for addresses and ends the process."""
    path = tmp_path / "s.pkl"
    path.write_bytes(pickle.dumps(np.arange(4.0), 3).replace(b"f8", b"O8"))
    with pytest.raises(InputError, match="is not a readable pickle"):
        load_pickle(path)


WHOLE = pickle.dumps(scene())


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
def test_any_damage_is_an_error_or_another_scene(tmp_path: Path, at: float, flip: int, cut: bool) -> None:
    place = int(at * len(WHOLE))
    data = bytearray(WHOLE)
    data[place] ^= flip
    path = tmp_path / "s.pkl"
    path.write_bytes(WHOLE[:place] if cut else data)
    text, logs = "s.pkl: ", []
    try:
        logs = list(READER.read(path))
    except InputError as error:
        text = str(error)
    assert text.startswith("s.pkl: ")
    assert "\n" not in text
    assert not (cut and logs)
    assert all(np.isfinite(log.tracks.states).all() and np.isfinite(log.road_map.points).all() for log in logs)


LOST = object()
STATE = ("tracks", "7", "state")


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


LIGHT = {"type": "TRAFFIC_LIGHT", "lane": 1, "stop_point": np.zeros(3), "state": {"object_state": STEPS * [None]}}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("id",), LOST, r"s.pkl: scene.id is missing"),
        (("length",), LOST, r"scene s1.length is missing"),
        (("length",), "30", r"scene s1.length is '30', expected a whole number"),
        (("length",), STEPS + 1, r"metadata.ts has shape \(30,\), expected shape \(31,\)"),
        (("metadata",), None, r"metadata is None, expected an object"),
        (("metadata", "ts"), LOST, r"metadata.ts is missing"),
        (("metadata", "ts"), np.full(STEPS, 3.0), r"metadata.ts\[1\] comes 0 s after"),
        (("metadata", "ts"), np.full(STEPS, np.nan), r"metadata.ts\[0\] is nan"),
        (("metadata", "sdc_id"), LOST, r"metadata.sdc_id is missing"),
        (("metadata", "sdc_id"), "99", r"metadata.sdc_id is '99', expected the id of a valid track among 3"),
        (("metadata", "current_time_index"), STEPS, r"current_time_index is 30, expected 0 to 29"),
        (("metadata", "current_time_index"), "10", r"current_time_index is '10', expected a whole number"),
        (("tracks",), {}, r"tracks is empty"),
        (("tracks", "7"), [], r"tracks\[7\] is a list of 0, expected a dict"),
        (("tracks", "7", "type"), "SHIP", r"tracks\[7\].type is 'SHIP', expected one of VEHICLE"),
        (STATE, LOST, r"tracks\[7\].state is missing"),
        ((*STATE, "position"), LOST, r"tracks\[7\].state.position is missing"),
        ((*STATE, "position"), np.zeros((STEPS, 4)), r"state.position has shape \(30, 4\)"),
        ((*STATE, "position"), np.zeros((9, 3)), r"state.position has shape \(9, 3\), expected shape \(30, any\)"),
        ((*STATE, "position"), np.full((STEPS, 3), np.nan), r"tracks\[7\].position\[2\]\[0\] is nan"),
        ((*STATE, "position"), np.full((STEPS, 3), "1"), r"state.position holds .*, expected numbers"),
        ((*STATE, "position"), np.full((STEPS, 3), 1e9), r"tracks\[7\].position\[2\]\[0\] is 1e\+09"),
        ((*STATE, "velocity"), np.full((STEPS, 2), np.inf), r"tracks\[7\].velocity\[2\]\[0\] is inf"),
        ((*STATE, "heading"), np.zeros((STEPS, 2)), r"state.heading has shape \(30, 2\)"),
        ((*STATE, "heading"), np.full(STEPS, np.nan), r"tracks\[7\].heading\[2\] is nan"),
        ((*STATE, "valid"), np.full(STEPS, 0.5), r"state.valid holds .*0.5.*, expected booleans"),
        ((*STATE, "valid"), np.ones(4), r"state.valid has shape \(4,\)"),
        ((*STATE, "size"), LOST, r"state.length is missing"),
        ((*STATE, "size"), np.full((STEPS, 3), np.nan), r"state.size is not finite where valid"),
        ((*STATE, "size"), np.full((STEPS, 3), 1e4), r"tracks\[7\].size\[0\] is 10000"),
        (("map_features",), LOST, r"map_features is missing"),
        (("map_features",), {}, r"map has 0 features"),
        (("map_features", "1"), 3, r"map_features\[1\] is 3"),
        (("map_features", "1", "type"), None, r"map_features\[1\].type is None, expected a string"),
        (("map_features", "4", "polyline"), LOST, r"map_features\[4\].polygon is missing"),
        (("map_features", "1", "polyline"), np.zeros(5), r"map_features\[1\].polyline has shape \(5,\)"),
        (("map_features", "1", "polyline"), [[1, 2], [3]], r"map_features\[1\].polyline is a ragged list"),
        (("map_features", "1", "polyline"), np.full((3, 2), np.nan), r"map feature 1 \(lane\)\[0\]\[0\] is nan"),
        (("map_features", "1", "exit_lanes"), 5, r"map_features\[1\].exit_lanes is 5, expected a list"),
        (("map_features", "6", "position"), [1.0], r"map_features\[6\].position has shape \(1,\)"),
        (("dynamic_map_states",), LOST, r"dynamic_map_states is missing"),
        (("dynamic_map_states",), {"1": 4}, r"dynamic_map_states\[1\] is 4"),
        (("dynamic_map_states",), {"1": LIGHT | {"stop_point": [np.nan, 0.0]}}, r"traffic light of lane 1\[0\] is nan"),
        (("dynamic_map_states",), {"1": LIGHT | {"stop_point": [0.0]}}, r"stop_point has shape \(1,\)"),
        (("dynamic_map_states",), {"1": LIGHT | {"state": {}}}, r"object_state is missing"),
        (("dynamic_map_states",), {"1": LIGHT | {"state": {"object_state": [None]}}}, r"object_state is a list of 1"),
        (
            ("dynamic_map_states",),
            {"1": LIGHT | {"state": {"object_state": np.full(STEPS, 9)}}},
            r"object_state holds 9, expected numbers from 0 to 8",
        ),
        (
            ("dynamic_map_states",),
            {"1": LIGHT | {"state": {"object_state": STEPS * ["GO"]}}},
            r"object_state holds 'GO', expected one of LANE_STATE_UNKNOWN",
        ),
    ],
)
def test_a_bad_field_is_named(tmp_path: Path, place: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^(?=s\.pkl: ).*{message}"):
        read(tmp_path, changed(scene(), place, value))


@pytest.mark.parametrize("data", [[], 5, None, "x", np.zeros(3)])
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, data: Any) -> None:
    with pytest.raises(InputError, match=r"s\.pkl: the pickle holds .*, expected a ScenarioNet description"):
        read(tmp_path, data)
