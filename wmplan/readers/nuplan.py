"""nuPlan databases: SQLite files, read without nuplan-devkit, one log a `scene` of the database.

No genuine database was at hand: the reader follows nuPlan's documented schema (nuplan-devkit's ORM) and is tested on
databases made in that schema. Its maps are separate files (`.gpkg`) that are not read: logs have an empty map, hence no
lights with a place and a route straight ahead. Terms that need a map say nothing about these scenes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from wmplan.readers.assembly import RawTracks, make_tracks, recentre, time_step
from wmplan.readers.checks import check_numbers, fail
from wmplan.readers.files import list_files
from wmplan.scene import Kind, Lights, Log, RoadMap

KINDS = {"vehicle": Kind.VEHICLE, "bicycle": Kind.CYCLIST, "pedestrian": Kind.PEDESTRIAN}
"""Kind by category; cones, barriers, signs and generic objects are solid things that are no road users."""
EGO_ID = "ego"
EGO_SIZE = (5.176, 2.297)
"""Length and width of nuPlan's cars (Chrysler Pacifica), metres."""
REAR_AXLE_TO_CENTRE_M = 1.461
"""Poses are of the rear axle; the box's centre is this far ahead."""
UTM_M = 1.0e7
"""Global coordinates beyond this are damage."""
NEEDED = {
    "log": ("token", "logfile", "location"),
    "scene": ("token", "log_token", "name"),
    "lidar_pc": ("token", "scene_token", "ego_pose_token", "timestamp"),
    "ego_pose": ("token", "x", "y", "qw", "qx", "qy", "qz", "vx", "vy", "angular_rate_z"),
    "lidar_box": ("lidar_pc_token", "track_token", "x", "y", "vx", "vy", "yaw", "length", "width"),
    "track": ("token", "category_token"),
    "category": ("token", "name"),
}
"""Tables and columns that are read."""
MAGIC = b"SQLite format 3\x00"


class NuPlanReader:
    """Reads every scene of a database as a log: about 20 s at 20 Hz, the ego is the recording car.

    All scenes of a database share a drive and are one group. Memory holds one scene.
    """

    name = "nuplan"

    def paths(self, source: Path) -> list[Path]:
        """Files `*.db`. What turns out to be no nuPlan database fails by name."""
        return list_files(source, lambda path: path.suffix == ".db")

    def read(self, path: Path) -> Iterator[Log]:
        """The scenes of a database, in the order of time.

        Raises:
            InputError: no SQLite file, not nuPlan's tables, damaged, or a value missing, mistyped or absurd.
        """
        where = path.name
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                fail(f"{where}:", "is no SQLite file", "a nuPlan database")
        try:
            # Immutable: nothing is locked and no journal is written beside the log.
            with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as database:
                _check(database, where)
                for row in _rows(database, SCENES, ()):
                    yield _log(database, row, where, path)
        except sqlite3.Error as error:
            fail(f"{where}:", f"cannot be read ({error})", "an undamaged nuPlan database")


SCENES = """
    SELECT scene.token, scene.name, log.logfile, log.location FROM scene
    JOIN log ON log.token = scene.log_token
    JOIN lidar_pc ON lidar_pc.scene_token = scene.token
    GROUP BY scene.token ORDER BY MIN(lidar_pc.timestamp), scene.token
"""
POSES = """
    SELECT lidar_pc.token, lidar_pc.timestamp, e.x, e.y, e.qw, e.qx, e.qy, e.qz, e.vx, e.vy, e.angular_rate_z
    FROM lidar_pc LEFT JOIN ego_pose e ON e.token = lidar_pc.ego_pose_token
    WHERE lidar_pc.scene_token = ? ORDER BY lidar_pc.timestamp
"""
BOXES = """
    SELECT lidar_box.lidar_pc_token, lidar_box.track_token, category.name,
           lidar_box.x, lidar_box.y, lidar_box.yaw, lidar_box.vx, lidar_box.vy, lidar_box.length, lidar_box.width
    FROM lidar_pc JOIN lidar_box ON lidar_box.lidar_pc_token = lidar_pc.token
    LEFT JOIN track ON track.token = lidar_box.track_token LEFT JOIN category ON category.token = track.category_token
    WHERE lidar_pc.scene_token = ? ORDER BY lidar_pc.timestamp, lidar_box.track_token
"""


def _check(database: sqlite3.Connection, where: str) -> None:
    """Nothing, where all tables and columns are there."""
    tables = {row[0] for row in _rows(database, "SELECT name FROM sqlite_master WHERE type = 'table'", ())}
    missing = [table for table in NEEDED if table not in tables]
    if missing:
        fail(f"{where}:", f"has no table {missing[0]!r}", "a nuPlan database with " + ", ".join(NEEDED))
    for table, columns in NEEDED.items():
        found = {row[1] for row in _rows(database, f"PRAGMA table_info({table})", ())}
        absent = [column for column in columns if column not in found]
        if absent:
            fail(f"{where}: table {table}", f"has no column {absent[0]!r}", "nuPlan's schema")


def _log(database: sqlite3.Connection, row: tuple[Any, ...], where: str, path: Path) -> Log:
    token, name, logfile, location = row
    scene = f"{name}" if name else _hex(token)
    where = f"{where}: scene {scene}"
    poses = _rows(database, POSES, (token,))
    times = _table([pose[1:2] for pose in poses], f"{where}: lidar_pc.timestamp")[:, 0]
    dt_s = time_step((times - times[0]) * 1e-6, f"{where}: lidar_pc.timestamp")
    step_of = {bytes_of(pose[0]): step for step, pose in enumerate(poses)}
    ego = _ego(_table([pose[2:] for pose in poses], f"{where}: ego_pose"))
    check_numbers(ego[:, :2], f"{where}: ego_pose.x, y", UTM_M, "m")
    origin = np.round(ego[0, :2])  # UTM coordinates are too large for the checks that all readers share
    raw = _raw(ego, _rows(database, BOXES, (token,)), step_of, origin, where)
    log = Log(
        log_id=f"nuplan-{logfile}-{scene}-{_hex(token)[:8]}",
        group=f"nuplan-{logfile}",
        dataset="nuplan",
        file=path.name,
        dt_s=dt_s,
        tracks=make_tracks(where, raw, dt_s),
        road_map=RoadMap.build([]),
        lights=Lights.none(len(poses)),
        recorded_ego=EGO_ID,
        left_hand=str(location).startswith("sg-"),
    )
    return recentre(log, where)


def _ego(poses: Float[ndarray, "T 9"]) -> Float[ndarray, "T 5"]:
    """x, y, yaw, vx, vy of the ego box's centre, global frame, from rear-axle poses and velocities in the car."""
    x, y, qw, qx, qy, qz, forward, leftward, turning = poses.T
    yaw = np.arctan2(2.0 * (qw * qz + qx * qy), 1.0 - 2.0 * (qy**2 + qz**2))
    c, s = np.cos(yaw), np.sin(yaw)
    leftward = leftward + REAR_AXLE_TO_CENTRE_M * turning  # the centre swings around the axle
    centre = (x + REAR_AXLE_TO_CENTRE_M * c, y + REAR_AXLE_TO_CENTRE_M * s)
    return np.stack([*centre, yaw, c * forward - s * leftward, s * forward + c * leftward], axis=1)


def _raw(
    ego: Float[ndarray, "T 5"],
    boxes: list[tuple[Any, ...]],
    step_of: dict[bytes, int],
    origin: Float[ndarray, "2"],
    where: str,
) -> RawTracks:
    """The ego and all boxes as arrays, in metres from `origin`."""
    row_of: dict[bytes, int] = {}
    kinds = [Kind.VEHICLE]
    for box in boxes:
        track = bytes_of(box[1])
        if track not in row_of:
            row_of[track] = len(row_of) + 1
            if box[2] is None:
                fail(f"{where}: track {track.hex()}", "has no category", "one")
            kinds.append(KINDS.get(str(box[2]), Kind.OTHER))
    rows = np.array([row_of[bytes_of(box[1])] for box in boxes], dtype=np.int64)
    steps = np.array([step_of[bytes_of(box[0])] for box in boxes], dtype=np.int64)
    values = _table([box[3:] for box in boxes], f"{where}: lidar_box", columns=7)
    states = np.zeros((len(kinds), len(ego), 7))
    valid = np.zeros((len(kinds), len(ego)), dtype=bool)
    states[0, :, :5], valid[0] = ego, True
    states[rows, steps], valid[rows, steps] = values, True
    sizes = np.zeros((len(kinds), 2))
    sizes[0] = EGO_SIZE
    for row in range(1, len(kinds)):
        sizes[row] = np.median(states[row, valid[row], 5:7], axis=0)
    names = [track.hex() for track in row_of]
    return RawTracks(
        ids=(EGO_ID, *names),
        names=("ego_pose", *(f"track {name}" for name in names)),
        kinds=np.array(kinds, dtype=np.int8),
        sizes=sizes,
        xy=np.where(valid[..., None], states[..., :2] - origin, 0.0),
        yaw=states[..., 2],
        velocity=states[..., 3:5],
        valid=valid,
    )


def _table(rows: list[tuple[Any, ...]], where: str, columns: int | None = None) -> Float[ndarray, "N C"]:
    """The rows as numbers; SQLite keeps any type in any column, so that text or nothing may stand there."""
    for i, row in enumerate(rows):
        for value in row:
            if not isinstance(value, (int, float)):
                fail(f"{where}: row {i}", f"holds {value!r}", "numbers")
    width = columns if columns is not None else len(rows[0]) if rows else 0
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)


def _rows(database: sqlite3.Connection, query: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return database.execute(query, parameters).fetchall()


def bytes_of(token: object) -> bytes:
    """A token as bytes: blobs in nuPlan's own files, hexadecimal text in some converted ones."""
    return token if isinstance(token, bytes) else str(token).encode()


def _hex(token: object) -> str:
    return token.hex() if isinstance(token, bytes) else str(token)
