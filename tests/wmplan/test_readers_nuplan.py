"""nuPlan databases, made here in the documented schema: genuine ones are not at hand."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from wmplan.errors import InputError
from wmplan.readers.nuplan import EGO_SIZE, NuPlanReader
from wmplan.scene import Kind
from wmplan.testing.readers import check_reader
from wmplan.windows import WindowConfig, cut

READER = NuPlanReader()
EAST, NORTH = 664_000.0, 3_997_000.0
SCHEMA = """
CREATE TABLE log (token BLOB PRIMARY KEY, vehicle_name TEXT, date TEXT, timestamp INTEGER, logfile TEXT,
  location TEXT, map_version TEXT);
CREATE TABLE scene (token BLOB PRIMARY KEY, log_token BLOB, name TEXT, goal_ego_pose_token BLOB, roadblock_ids TEXT);
CREATE TABLE ego_pose (token BLOB PRIMARY KEY, timestamp INTEGER, x REAL, y REAL, z REAL,
  qw REAL, qx REAL, qy REAL, qz REAL,
  vx REAL, vy REAL, vz REAL, acceleration_x REAL, acceleration_y REAL, acceleration_z REAL,
  angular_rate_x REAL, angular_rate_y REAL, angular_rate_z REAL, epsg INTEGER, log_token BLOB);
CREATE TABLE lidar_pc (token BLOB PRIMARY KEY, next_token BLOB, prev_token BLOB, ego_pose_token BLOB, lidar_token BLOB,
  scene_token BLOB, filename TEXT, timestamp INTEGER);
CREATE TABLE lidar_box (token BLOB PRIMARY KEY, lidar_pc_token BLOB, track_token BLOB, next_token BLOB, prev_token BLOB,
  x REAL, y REAL, z REAL, width REAL, length REAL, height REAL, vx REAL, vy REAL, vz REAL, yaw REAL, confidence REAL);
CREATE TABLE track (token BLOB PRIMARY KEY, category_token BLOB, width REAL, length REAL, height REAL);
CREATE TABLE category (token BLOB PRIMARY KEY, name TEXT, description TEXT);
CREATE TABLE scenario_tag (token BLOB PRIMARY KEY, lidar_pc_token BLOB, type TEXT, agent_track_token BLOB);
CREATE TABLE traffic_light_status (token BLOB PRIMARY KEY, lidar_pc_token BLOB, lane_connector_id INTEGER, status TEXT);
"""
TURN, SPEED = 0.2, 8.0
CATEGORIES = ("vehicle", "pedestrian", "bicycle", "traffic_cone")


def token(kind: int, *numbers: int) -> bytes:
    return bytes([kind, *(b for n in numbers for b in n.to_bytes(3, "big"))]).ljust(8, b"\0")[:8]


def database(path: Path, scenes: int = 2, steps: int = 200, start: int = 0) -> Path:
    """A drive on a circle at 20 Hz; a car 10 m to the east, and one road user each of the other categories, stand."""
    with sqlite3.connect(path) as db:
        db.executescript(SCHEMA)
        db.execute("INSERT INTO log VALUES (?,?,?,?,?,?,?)", (b"L" * 8, "v", "d", 0, "2021.drive", "sg-one-north", "m"))
        db.executemany("INSERT INTO category VALUES (?,?,?)", [(token(9, i), n, "") for i, n in enumerate(CATEGORIES)])
        db.executemany("INSERT INTO track VALUES (?,?,2,4,1)", [(token(8, i), token(9, i)) for i in range(4)])
        for scene in range(scenes):
            db.execute("INSERT INTO scene VALUES (?,?,?,NULL,'')", (token(1, scene), b"L" * 8, f"scene-{scene}"))
            for step in range(steps):
                i = scene * steps + step
                t, yaw = 0.05 * i, TURN * 0.05 * i
                x, y = EAST + SPEED / TURN * np.sin(yaw), NORTH + SPEED / TURN * (1 - np.cos(yaw))
                pose = (token(2, i), start + 50_000 * i, x, y, 0, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2), SPEED, 0, 0)
                db.execute(
                    f"INSERT INTO ego_pose VALUES ({','.join('?' * 20)})", (*pose, 0, 0, 0, 0, 0, TURN, 32618, b"L" * 8)
                )
                pc = (token(3, i), None, None, token(2, i), None, token(1, scene), "", start + 50_000 * i)
                db.execute("INSERT INTO lidar_pc VALUES (?,?,?,?,?,?,?,?)", pc)
                for track in range(4):
                    if track == 1 and step % 2:
                        continue
                    speed = 3.0 if track == 0 else 0.0
                    place = (EAST + 10 + speed * t, NORTH - 4 * track, 0, 2.0, 4.0, 1.0, speed, 0, 0, 0.0, 1.0)
                    box = (token(4, i, track), token(3, i), token(8, track), None, None, *place)
                    db.execute(f"INSERT INTO lidar_box VALUES ({','.join('?' * 16)})", box)
    db.close()
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return database(tmp_path_factory.mktemp("nuplan") / "drive.db")


def test_the_suite_of_all_readers(good: Path) -> None:
    check_reader(READER, good.parent)


def test_a_scene_of_the_database_is_a_log(good: Path) -> None:
    first, second = READER.read(good)
    assert first.group == second.group
    assert first.log_id != second.log_id
    assert (first.dt_s, first.dataset, first.left_hand, first.recorded_ego) == (0.05, "nuplan", True, "ego")
    assert first.tracks.kinds.tolist() == [Kind.VEHICLE, Kind.VEHICLE, Kind.PEDESTRIAN, Kind.CYCLIST, Kind.OTHER]
    assert first.tracks.valid.sum(axis=1).tolist() == [200, 200, 100, 200, 200]
    assert first.tracks.sizes[0] == pytest.approx(EGO_SIZE)
    assert first.tracks.sizes[1] == pytest.approx([4, 2])
    assert len(first.road_map.kinds) == 0


def test_the_ego_is_the_centre_of_its_box(good: Path) -> None:
    """On a circle the centre is further out than the rear axle, and faster, in the direction it moves."""
    log = next(READER.read(good))
    states = log.tracks.states[0]
    axle = states[:, :2] - 1.461 * np.stack([np.cos(states[:, 2]), np.sin(states[:, 2])], axis=1)
    middle = axle[0] + np.array([0.0, SPEED / TURN])
    assert np.hypot(*(axle - middle).T) == pytest.approx(np.full(200, SPEED / TURN), abs=1e-6)
    radius = np.hypot(SPEED / TURN, 1.461)
    assert np.hypot(states[:, 3], states[:, 4]) == pytest.approx(np.full(200, TURN * radius), abs=1e-6)
    moved = np.diff(states[:, :2], axis=0) / 0.05
    assert moved == pytest.approx((states[1:, 3:5] + states[:-1, 3:5]) / 2, abs=1e-3)


def test_positions_keep_their_distances(good: Path) -> None:
    log = next(READER.read(good))
    away = log.tracks.states[1, 0, :2] - log.tracks.states[0, 0, :2]
    assert away == pytest.approx([10 - 1.461, 0], abs=1e-6)


def test_scenes_can_be_cut(good: Path) -> None:
    scenes = [scene for log in READER.read(good) for scene, _ in cut(log, WindowConfig(ego="any"))]
    assert [scene.ego_id for scene in scenes if scene.recorded_ego] == ["ego", "ego"]
    assert len(scenes) == 4
    assert not any(scene.route_on_map for scene in scenes)


def run(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DROP TABLE lidar_box", "has no table 'lidar_box', expected a nuPlan database"),
        ("ALTER TABLE ego_pose DROP COLUMN qz", "table ego_pose has no column 'qz'"),
        ("UPDATE ego_pose SET x = 'east' WHERE timestamp = 100000", "scene-0: ego_pose: row 2 holds 'east'"),
        ("UPDATE ego_pose SET vx = 1e9", "ego_pose.velocity.* is .*, expected a finite number of at most 200 m/s"),
        ("UPDATE lidar_box SET x = NULL", "lidar_box: row 0 holds None, expected numbers"),
        ("UPDATE ego_pose SET x = 1e12", "expected a finite number of at most 1e.07 m"),
        ("UPDATE lidar_pc SET timestamp = timestamp + 900000 WHERE timestamp > 3000000", "expected even steps"),
        ("DELETE FROM ego_pose WHERE timestamp = 100000", "row 2 holds None"),
        ("DELETE FROM category", "has no category"),
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, statement: str, words: str) -> None:
    path = database(tmp_path / "x.db", 1, 80)
    run(path, statement)
    with pytest.raises(InputError, match=words) as error:
        list(READER.read(path))
    assert str(error.value).startswith("x.db")
    assert "\n" not in str(error.value)


def test_other_databases_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "bookmarks.db", "CREATE TABLE bookmarks (x)")
    (tmp_path / "thumbs.db").write_bytes(b"not SQLite at all")
    assert [path.name for path in READER.paths(tmp_path)] == ["bookmarks.db", "thumbs.db"]
    with pytest.raises(InputError, match=r"bookmarks.db: has no table 'log', expected a nuPlan database"):
        list(READER.read(tmp_path / "bookmarks.db"))
    with pytest.raises(InputError, match=r"thumbs.db: is no SQLite file"):
        list(READER.read(tmp_path / "thumbs.db"))


def test_a_file_cut_short_is_told_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    path = database(tmp_path / "x.db", 1, 80)
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(InputError, match=r"x.db"):
        list(READER.read(path))
    assert [file.name for file in tmp_path.iterdir()] == ["x.db"]
