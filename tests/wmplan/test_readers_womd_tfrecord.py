"""Waymo TFRecord: files written here by hand (framing, checksums, wire format), damaged in every way."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wmplan.errors import InputError
from wmplan.readers.protobuf import WireError, fields, signed, varints
from wmplan.readers.tfrecord import masked_crc, read_records
from wmplan.readers.womd_tfrecord import WomdTFRecordReader
from wmplan.scene import Feature, Kind, Light, Log

READER = WomdTFRecordReader()
STEPS = 12


def crc32c(data: bytes) -> int:
    """CRC-32C, bit by bit, from its definition (reflected polynomial 0x82F63B78)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One record of a TFRecord file."""

    def mask(part: bytes) -> bytes:
        crc = crc32c(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + mask(length) + data + mask(data)


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: int | float | bytes, kind: str = "") -> bytes:
    """One field; floats are doubles unless `kind` is "f"."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return (
            varint(number << 3 | 5) + struct.pack("<f", value)
            if kind
            else varint(number << 3 | 1) + struct.pack("<d", value)
        )
    return varint(number << 3) + varint(value)


def point(x: float, y: float) -> bytes:
    return field(1, x) + field(2, y) + field(3, -20.0)


def state(x: float, y: float, heading: float, vx: float, vy: float, valid: bool = True) -> bytes:
    place = field(2, x) + field(3, y) + field(4, 1.0)
    box = field(5, 4.5, "f") + field(6, 1.9, "f") + field(7, 1.6, "f")
    return place + box + field(8, heading, "f") + field(9, vx, "f") + field(10, vy, "f") + field(11, int(valid))


def track(name: int, kind: int, y: float, speed: float, gone: range = range(0)) -> bytes:
    """A road user driving along x; in steps `gone` it is invalid and its numbers are filler."""
    out = field(1, name) + field(2, kind)
    for step in range(STEPS):
        seen = step not in gone
        x = 8000.0 + speed * 0.1 * step if seen else -1.0
        out += field(3, state(x, y if seen else -1.0, 0.0 if speed >= 0 else np.pi * 2.5, speed, 0.0, seen))
    return out


def lane(name: int, xs: list[float], entry: bytes = b"", leave: bytes = b"", kind: int = 2) -> bytes:
    body = field(2, kind) + b"".join(field(8, point(x, 2000.0)) for x in xs)
    return field(1, name) + field(3, body + entry + leave)


def scenario(**changes: bytes | None) -> bytes:
    """A scene of two cars and a pedestrian on two lanes with a light; `changes` replace a part, None leaves it out."""
    parts: dict[str, bytes | None] = {
        "id": field(5, b"abc123"),
        "times": b"".join(field(1, 0.1 * step) for step in range(STEPS)),
        "tracks": field(2, track(7, 1, 2000.0, 10.0))
        + field(2, track(-3, 2, 2005.0, -1.5, gone=range(4, 6)))
        + field(2, track(9, 1, 2000.0, 8.0, gone=range(STEPS))),
        "ego": field(6, 0),
        "lights": b"".join(
            field(7, field(1, field(1, 11) + field(2, 4 if step < 5 else 6) + field(3, point(8050.0, 2000.0))))
            if step < 8
            else field(7, b"")
            for step in range(STEPS)
        ),
        "map": field(8, lane(11, [7990.0, 8000.0, 8050.0], leave=field(10, varint(12) + varint(99))))
        + field(8, lane(12, [8050.0, 8100.0], entry=field(9, 11)))
        + field(8, lane(13, [8000.0, 8100.0], kind=3))
        + field(8, field(1, 20) + field(5, field(2, point(8000.0, 1990.0)) + field(2, point(8100.0, 1990.0))))
        + field(8, field(1, 21) + field(7, field(1, 11) + field(2, point(8049.0, 1996.0))))
        + field(8, field(1, 22) + field(8, b"".join(field(1, point(*p)) for p in square(8052.0, 1995.0))))
        + field(8, field(1, 23) + field(10, b"".join(field(1, point(*p)) for p in square(8062.0, 1995.0)))),
        "present": field(10, 4),
    }
    parts.update(changes)
    return b"".join(part for part in parts.values() if part is not None)


def square(x: float, y: float) -> list[tuple[float, float]]:
    """A closed ring: the first corner is written again at its end."""
    return [(x, y), (x + 4, y), (x + 4, y + 10), (x, y + 10), (x, y)]


def write(path: Path, *records: bytes) -> Path:
    path.write_bytes(b"".join(frame(record) for record in records))
    return path


def read(path: Path) -> list[Log]:
    return list(READER.read(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "a.tfrecord", scenario())


def test_the_checksum_is_that_of_the_format() -> None:
    """The CRC-32C of "123456789" is E3069283 (RFC 3720); the mask rotates it right by 15 bits and adds a constant."""
    assert crc32c(b"123456789") == 0xE3069283
    rotated = int(f"{0xE3069283:032b}"[-15:] + f"{0xE3069283:032b}"[:-15], 2)
    assert masked_crc(b"123456789") == (rotated + 0xA282EAD8) % 2**32


def test_a_scene_is_what_was_written(path: Path) -> None:
    (log,) = read(path)
    assert (log.log_id, log.group, log.dataset, log.file) == ("womd_tfrecord-abc123", "abc123", "womd", "a.tfrecord")
    assert (log.dt_s, log.recorded_ego, log.present_step) == (0.1, "7", 4)
    assert log.tracks.ids == ("7", "-3")  # the third is never valid
    assert log.tracks.kinds.tolist() == [Kind.VEHICLE, Kind.PEDESTRIAN]
    assert log.tracks.sizes[0].tolist() == pytest.approx([4.5, 1.9])
    assert log.tracks.states[0, :, 0] == pytest.approx(np.arange(STEPS))  # recentred on the ego's first place
    assert log.tracks.states[0, :, 3] == pytest.approx(10.0)
    assert log.tracks.states[1, 0].tolist() == pytest.approx([0.0, 5.0, np.pi / 2, -1.5, 0.0])
    assert log.tracks.valid[1].tolist() == [step not in (4, 5) for step in range(STEPS)]


def test_map_and_lights_are_what_was_written(path: Path) -> None:
    (log,) = read(path)
    kinds = dict(zip(log.road_map.ids, log.road_map.kinds.tolist()))
    assert kinds == {
        "11": Feature.LANE, "12": Feature.LANE, "20": Feature.ROAD_EDGE, "21": Feature.STOP_SIGN,
        "22": Feature.CROSSWALK,
    }  # fmt: skip
    assert log.road_map.feature(0).tolist() == [[-10, 0], [0, 0], [50, 0]]
    assert log.road_map.successors.tolist() == [[0, 1]]  # written at both lanes, kept once; lane 99 is not there
    (crosswalk,) = log.road_map.of_kind(Feature.CROSSWALK)
    assert crosswalk.tolist() == [[52, -5], [56, -5], [56, 5], [52, 5]]
    assert log.lights.lanes == ("11",)
    assert log.lights.points.tolist() == [[50, 0]]
    assert log.lights.states[0].tolist() == 5 * [Light.RED] + 3 * [Light.GREEN] + 4 * [Light.UNKNOWN]


@pytest.mark.parametrize(
    ("number", "state"),
    list(enumerate([Light.UNKNOWN, *2 * [Light.RED, Light.YELLOW, Light.GREEN], Light.UNKNOWN, Light.UNKNOWN])),
)
def test_every_light_has_its_colour(tmp_path: Path, number: int, state: Light) -> None:
    lights = field(7, field(1, field(1, 11) + field(2, number) + field(3, point(8050.0, 2000.0))))
    (log,) = read(write(tmp_path / "a.tfrecord", scenario(lights=lights)))
    assert log.lights.states[0, 0] == state


def test_numbers_may_be_packed(tmp_path: Path, path: Path) -> None:
    times = field(1, struct.pack(f"<{STEPS}d", *(0.1 * step for step in range(STEPS))))
    (packed,) = read(write(tmp_path / "b.tfrecord", scenario(times=times)))
    (plain,) = read(path)
    assert packed.dt_s == plain.dt_s
    assert (packed.tracks.states == plain.tracks.states).all()


def test_many_scenes_in_a_file_and_compression(tmp_path: Path) -> None:
    records = [scenario(id=field(5, f"s{i}".encode())) for i in range(3)]
    plain = write(tmp_path / "x.tfrecord-00000-of-00001", *records)
    assert [log.group for log in read(plain)] == ["s0", "s1", "s2"]
    for suffix, compress in ((".gz", gzip.compress), (".xz", lzma.compress)):
        packed = tmp_path / f"{plain.name}{suffix}"
        packed.write_bytes(compress(plain.read_bytes()))
        assert [log.group for log in read(packed)] == ["s0", "s1", "s2"]
        packed.write_bytes(packed.read_bytes()[:-9])
        with pytest.raises(InputError, match=packed.name):
            read(packed)
    assert [p.name for p in READER.paths(tmp_path)] == [f"{plain.name}{end}" for end in ("", ".gz", ".xz")]


def test_a_later_fault_keeps_the_scenes_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecord", scenario(), scenario(id=field(5, b"second")))
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    logs = READER.read(path)
    assert next(logs).group == "abc123"
    with pytest.raises(InputError, match=r"a.tfrecord: record 1: data have CRC .*, expected"):
        next(logs)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_damaged_byte_is_found(tmp_path: Path, at: float, flip: int) -> None:
    data = bytearray(frame(TINY))
    data[int(at * len(data))] ^= flip
    path = tmp_path / "a.tfrecord"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tfrecord: record 0: "):
        list(read_records(path))


def test_any_truncation_is_found(tmp_path: Path) -> None:
    data = frame(TINY)
    path = tmp_path / "a.tfrecord"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"record 0: (length|data) ends after|holds no record"):
            list(read_records(path))


TINY = bytes(range(60))
WHOLE = scenario()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_damage_under_a_right_checksum_is_an_error_or_another_scene(tmp_path: Path, at: float, flip: int) -> None:
    """Whatever a message holds, nothing but `InputError` comes out, and no number that is not finite goes in."""
    data = bytearray(WHOLE)
    data[int(at * len(data))] ^= flip
    path = write(tmp_path / "a.tfrecord", bytes(data))
    message, logs = "a.tfrecord", []
    try:
        logs = read(path)
    except InputError as error:
        message = str(error)
    assert message.startswith("a.tfrecord")
    assert "\n" not in message
    assert all(np.isfinite(log.tracks.states).all() and np.isfinite(log.road_map.points).all() for log in logs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": None}, r"record 0: scenario_id is missing"),
        ({"times": None}, r"scene abc123: timestamps_seconds has 0 values"),
        ({"times": b"".join(field(1, 0.1 * i) for i in range(9))}, r"tracks\[0\].states has 12 values, expected 9"),
        (
            {"times": b"".join(field(1, 0.1 * min(i, 4)) for i in range(STEPS))},
            r"timestamps_seconds\[5\] comes 0 s after",
        ),
        (
            {"times": b"".join(field(1, 0.1 * i + (i > 4)) for i in range(STEPS))},
            r"seconds\[5\] comes 1.1 s after .*0.1 s",
        ),
        ({"ego": None}, r"sdc_track_index is None, expected a valid track among 3"),
        ({"ego": field(6, 3)}, r"sdc_track_index is 3"),
        ({"ego": field(6, -1)}, r"sdc_track_index is -1"),
        ({"ego": field(6, 2)}, r"sdc_track_index is 2, expected a valid track"),
        ({"present": field(10, STEPS)}, r"current_time_index is 12, expected 0 to 11"),
        ({"tracks": None}, r"tracks is empty"),
        ({"map": None}, r"map has 0 features"),
        ({"map": field(8, lane(11, [8000.0]))}, r"map has 1 features and none with any extent"),
        ({"map": field(8, lane(11, [8000.0, np.nan]))}, r"map feature 11 \(lane\)\[1\]\[0\] is nan"),
        ({"map": field(8, lane(11, [8000.0, 1e300]))}, r"map feature 11 \(lane\)\[1\]\[0\] is 1e\+300"),
        ({"map": field(8, lane(11, [8000.0, 90000.0]))}, r"distance of map points"),
        ({"tracks": 2 * field(2, track(7, 1, 2000.0, 10.0))}, r"tracks hold the id '7' twice"),
        ({"tracks": field(2, track(7, 9, 2000.0, 10.0))}, r"tracks\[0\].object_type is 9, expected 0 to 4"),
        ({"tracks": field(2, track(7, 1, np.inf, 10.0))}, r"tracks\[0\].position\[0\]\[1\] is inf, expected a finite"),
        (
            {"tracks": field(2, track(7, 1, -2e6, 10.0))},
            r"tracks\[0\].position\[0\]\[1\] is -2e\+06, expected a finite",
        ),
        ({"tracks": field(2, track(7, 1, 2000.0, 1e4))}, r"tracks\[0\].velocity\[0\]\[0\] is 10000"),
        ({"lights": field(7, field(1, field(1, 11) + field(2, 12)))}, r"dynamic_map_states\[0\] has state 12"),
        ({"tracks": field(2, 5)}, r"is no Scenario proto"),
    ],
)
def test_a_bad_field_is_named(tmp_path: Path, changes: dict[str, bytes | None], message: str) -> None:
    with pytest.raises(InputError, match=rf"^a.tfrecord: .*{message}"):
        read(write(tmp_path / "a.tfrecord", scenario(**changes)))


def test_lanes_that_met_in_a_point_are_linked(tmp_path: Path) -> None:
    """A lane of one point has no geometry; leaving it out must not cut the road."""
    middle = lane(12, [8050.0], entry=field(9, 11), leave=field(10, 13))
    ends = field(8, lane(11, [8000.0, 8050.0])) + field(8, lane(13, [8050.0, 8100.0]))
    (log,) = read(write(tmp_path / "a.tfrecord", scenario(map=ends + field(8, middle))))
    assert log.road_map.ids == ("11", "13")
    assert log.road_map.successors.tolist() == [[0, 1]]


def test_an_example_is_refused_by_name(tmp_path: Path) -> None:
    example = field(1, field(1, field(1, b"scenario/id") + field(2, b"abc")))
    with pytest.raises(InputError, match=r"a.tfrecord: record 0 is a tf.Example .*expected a Scenario proto"):
        read(write(tmp_path / "a.tfrecord", example))


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_survive_the_wire(value: int) -> None:
    ((number, found),) = fields(field(5, value))
    assert isinstance(found, int)
    assert (number, signed(found)) == (5, value)
    assert [signed(v) for v in varints(varint(value) + varint(1))] == [value, 1]


@given(st.binary(max_size=40))
def test_any_bytes_are_fields_or_an_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        assert all(number > 0 for number, _ in fields(data))
