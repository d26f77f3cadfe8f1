"""Real logs, read whole: what must hold of any recording of traffic, whatever its format.

Units, frames, swapped columns and shifted steps each break one of these relations.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from wmplan.errors import InputError
from wmplan.readers import READERS, detect, reader
from wmplan.scene import Feature, Kind, Light, Log

SETS = {
    "womd_json": ("womd_json", 71, "womd"),
    "womd_tfrecord": ("womd_tfrecord", 1, "womd"),
    "womd_scenarionet_pkl": ("scenarionet", 10, "womd"),
    "nuscenes_mini_scenarionet": ("scenarionet", 4, "nuscenes"),
}


@cache
def logs_of(folder: Path) -> tuple[Log, ...]:
    """Every log of one set; the `tf.Example` file beside the scenario is refused and left out."""
    found = reader(SETS[folder.name][0])
    return tuple(log for path in found.paths(folder) if "example" not in path.name for log in found.read(path))


@pytest.fixture(params=list(SETS))
def logs(request: pytest.FixtureRequest, real_data: Path) -> tuple[Log, ...]:
    folder = real_data / request.param
    if not folder.is_dir():
        pytest.skip(f"{request.param} is not there")
    return logs_of(folder)


def moving(log: Log, speed: float, kind: Kind = Kind.VEHICLE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Displacement over dt, mean velocity and heading of every step of this kind of road user above `speed`."""
    states, valid = log.tracks.states, log.tracks.valid
    over = np.diff(states[..., :2], axis=1) / log.dt_s
    mean = (states[:, 1:, 3:5] + states[:, :-1, 3:5]) / 2
    pick = (
        valid[:, 1:]
        & valid[:, :-1]
        & (log.tracks.kinds == kind)[:, None]
        & (np.hypot(*over.transpose(2, 0, 1)) > speed)
    )
    return over[pick], mean[pick], states[:, :-1, 2][pick]


def test_every_scene_is_read_once(logs: tuple[Log, ...], request: pytest.FixtureRequest) -> None:
    _, count, dataset = SETS[request.node.callspec.params["logs"]]
    assert len(logs) == count
    assert len({log.log_id for log in logs}) == count
    assert {log.dataset for log in logs} == {dataset}
    assert all(log.dt_s == pytest.approx(0.1, abs=1e-4) for log in logs)


def test_displacement_is_velocity_times_time(logs: tuple[Log, ...]) -> None:
    for log in logs:
        over, mean, _ = moving(log, 2.0)
        if len(over) > 100:
            error = np.hypot(*(over - mean).T)
            assert np.median(error) < 0.3, log.log_id
            assert np.percentile(error, 75) < 1.0, log.log_id


def test_fast_vehicles_head_where_they_go(logs: tuple[Log, ...]) -> None:
    """Catches degrees taken for radians, and the reverse: every file is judged alone."""
    judged = 0
    for log in logs:
        over, _, heading = moving(log, 4.0)
        if len(over) > 20:
            off = np.abs(np.angle(np.exp(1j * (heading - np.arctan2(over[:, 1], over[:, 0])))))
            assert np.median(off) < 0.1, log.log_id
            judged += 1
    assert judged > 0.8 * len(logs)


def test_numbers_are_plausible(logs: tuple[Log, ...]) -> None:
    for log in logs:
        tracks = log.tracks
        assert np.isfinite(tracks.states).all()
        assert (tracks.states[~tracks.valid] == 0).all()
        assert tracks.valid.any(axis=1).all()
        assert (np.abs(tracks.states[..., 2]) <= np.pi).all()
        assert np.hypot(*tracks.states[..., 3:5].transpose(2, 0, 1)).max() < 70
        assert np.abs(tracks.states[..., :2]).max() < 1000
        length, width = tracks.sizes.T
        assert (length > 0.05).all()
        assert length.max() < 30
        vehicles = tracks.kinds == Kind.VEHICLE
        assert np.median(length[vehicles]) > np.median(width[vehicles]) * 1.8
        assert 3.5 < np.median(length[vehicles]) < 6.0
        assert 1.5 < np.median(width[vehicles]) < 2.6


def test_the_ego_is_the_recording_car(logs: tuple[Log, ...]) -> None:
    """It is seen throughout, begins at the origin, has the size of the car, and drives on the lanes of its map."""
    size = {"womd": (5.286, 2.332), "nuscenes": (4.08, 1.73)}
    close = []
    for log in logs:
        row = log.tracks.ids.index(log.recorded_ego or "")
        assert tuple(log.tracks.sizes[row]) == pytest.approx(size[log.dataset], abs=0.01), log.log_id
        valid = log.tracks.valid[row]
        assert valid.all() if log.dataset == "womd" else valid.sum() == len(valid) - 10
        assert np.abs(log.tracks.states[row, 0, :2]).max() <= 0.5
        lanes = np.concatenate(log.road_map.of_kind(Feature.LANE))
        path = log.tracks.states[row, valid, :2]
        close.append(np.min(np.linalg.norm(path[::5, None] - lanes[None], axis=-1), axis=1).max())
    assert np.median(close) < 1.5
    assert np.max(close) < 6.0


def test_braking_of_the_ego_is_physical(logs: tuple[Log, ...]) -> None:
    """nuScenes poses jump backwards in the last second: differentiated, that is -300 m/s2; elsewhere they jitter."""
    for log in logs:
        row = log.tracks.ids.index(log.recorded_ego or "")
        speed = np.hypot(*log.tracks.states[row, log.tracks.valid[row], 3:5].T)
        limit = 12.0 if log.dataset == "womd" else 40.0
        assert np.abs(np.diff(speed) / log.dt_s).max() < limit, log.log_id


def test_lanes_follow_each_other(logs: tuple[Log, ...]) -> None:
    """A lane begins where the one before ends; Waymo's own maps hold a few that do not (at most 2 in 500)."""
    gaps = [
        np.linalg.norm(log.road_map.feature(a)[-1] - log.road_map.feature(b)[0])
        for log in logs
        for a, b in log.road_map.successors.tolist()
    ]
    if gaps:
        assert np.mean(np.array(gaps) < 0.1) > 0.995


def test_lights_stand_on_their_lanes(logs: tuple[Log, ...]) -> None:
    for log in logs:
        assert log.lights.states.shape == (len(log.lights.lanes), log.tracks.valid.shape[1])
        for point, lane in zip(log.lights.points, log.lights.lanes):
            if lane in log.road_map.ids:
                line = log.road_map.feature(log.road_map.ids.index(lane))
                assert np.min(np.linalg.norm(line - point, axis=1)) < 2.0


def test_crossing_traffic_obeys_the_lights(real_data: Path) -> None:
    """Red and green are not swapped: cars within 4 m of a stop point drive faster at green than at red."""
    speeds: dict[int, list[float]] = {Light.RED: [], Light.GREEN: []}
    for log in logs_of(real_data / "womd_scenarionet_pkl"):
        cars = log.tracks.states[log.tracks.kinds == Kind.VEHICLE]
        valid = log.tracks.valid[log.tracks.kinds == Kind.VEHICLE]
        for point, lane, states in zip(log.lights.points, log.lights.lanes, log.lights.states):
            near = valid & (np.linalg.norm(cars[..., :2] - point, axis=-1) < 4.0)
            line = log.road_map.feature(log.road_map.ids.index(lane)) if lane in log.road_map.ids else None
            if line is None:
                continue
            along = np.arctan2(*(line[min(3, len(line) - 1)] - line[0])[::-1])
            near &= np.cos(cars[..., 2] - along) > 0.8
            for state in (Light.RED, Light.GREEN):
                speeds[state] += np.hypot(*cars[near & (states == state)[None]][:, 3:5].T).tolist()
    assert len(speeds[Light.RED]) > 100
    assert len(speeds[Light.GREEN]) > 100
    assert np.median(speeds[Light.RED]) < 1.0 < 4.0 < np.median(speeds[Light.GREEN])


def test_scenes_know_where_traffic_keeps_left(real_data: Path) -> None:
    left = {log.group for log in logs_of(real_data / "nuscenes_mini_scenarionet") if log.left_hand}
    assert left == {"scene-0061", "scene-0796", "scene-1077"}
    assert not any(log.labels_reliable for log in logs_of(real_data / "nuscenes_mini_scenarionet"))
    assert not any(log.left_hand or not log.labels_reliable for log in logs_of(real_data / "womd_scenarionet_pkl"))


def test_the_same_record_has_the_waymo_present(real_data: Path) -> None:
    (log,) = logs_of(real_data / "womd_tfrecord")
    assert (log.log_id, log.group, log.present_step) == ("womd_tfrecord-637f20cafde22ff8", "637f20cafde22ff8", 10)
    assert len(log.tracks) == 83
    assert {Feature(k) for k in log.road_map.kinds} >= {
        Feature.LANE,
        Feature.ROAD_EDGE,
        Feature.STOP_SIGN,
        Feature.CROSSWALK,
    }


def test_a_padded_example_is_refused_by_name(real_data: Path) -> None:
    path = real_data / "womd_tfrecord" / "motion_data_one_example.tfrecord"
    with pytest.raises(InputError, match=r"motion_data_one_example.tfrecord: record 0 is a tf.Example .*Scenario"):
        next(iter(READERS["womd_tfrecord"].read(path)))


def test_each_file_is_claimed_by_its_reader_alone(real_data: Path) -> None:
    """The maps of Argoverse are JSON, too, and L5's index is a pickle."""
    mine = ("womd_json", "womd_tfrecord", "scenarionet")
    for name in mine:
        folders = {path.relative_to(real_data).parts[0] for path in READERS[name].paths(real_data)}
        assert folders == {folder for folder, (owner, _, _) in SETS.items() if owner == name}
    for folder, (owner, _, _) in SETS.items():
        found = detect(sorted((real_data / folder).iterdir())[0])
        assert found is not None
        assert found.name == owner
