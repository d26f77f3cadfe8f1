"""The rules that every log reader keeps, as a suite that anyone can run over a reader of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy import ndarray

from wmplan.contracts import LogReader
from wmplan.scene import Feature, Kind, Light, Log

FARTHEST_M = 100_000.0
"""A recentred recording lies within this distance of its origin."""
LARGEST_M = 100.0
"""No road user is longer or wider."""
VELOCITY_SLACK_MPS = 2.0
"""A step's displacement over its time may differ this much, and a fifth of the speed, from the mean velocity."""
OUTLIERS = 0.05
"""Share of steps that may differ more: real boxes jump when a detector changes its mind."""


def check_reader(reader: LogReader, source: Path) -> None:
    """Nothing, if the reader lists its files in order, finds at least one recording in `source`, and keeps the rules.

    Raises:
        AssertionError: naming the first rule that is broken, with file and field.
    """
    assert isinstance(reader, LogReader), f"{type(reader).__name__} lacks a member of the LogReader protocol"
    assert reader.name, "the reader has no name"
    paths = reader.paths(source)
    assert paths, f"{source}: no file of format {reader.name} found"
    assert paths == sorted(set(paths)), f"{source}: paths are not sorted and unique"
    seen: set[str] = set()
    for path in paths:
        for first, second in zip(reader.read(path), reader.read(path), strict=True):
            check_log(first)
            same = (first.log_id, first.tracks.ids) == (second.log_id, second.tracks.ids)
            same = same and np.array_equal(first.tracks.states, second.tracks.states, equal_nan=True)
            assert same, f"{path}: read twice, other content"
            assert first.log_id not in seen, f"{path}: log id {first.log_id} appears twice"
            seen.add(first.log_id)
    assert seen, f"{source}: {len(paths)} files, no recording in them"


def check_log(log: Log) -> None:
    """Nothing, if a recording is sound.

    Ids are unique; where a state is valid it is finite, its yaw in (-pi, pi], and it moves as its velocity says; sizes
    and the time step are positive; map and lights are finite and refer to what exists.

    Raises:
        AssertionError: naming log and field.
    """
    name = f"{log.file}: log {log.log_id}"
    for field in ("log_id", "group", "dataset"):
        assert getattr(log, field), f"{name}: {field} is empty"
    assert np.isfinite(log.dt_s), f"{name}: dt_s is {log.dt_s}"
    assert 0.0 < log.dt_s <= 1.0, f"{name}: dt_s is {log.dt_s}, expected seconds in (0, 1]"
    _check_tracks(log, name)
    _check_motion(log, name)
    _check_map(log, name)
    steps = log.tracks.valid.shape[1]
    if log.recorded_ego is not None:
        assert log.recorded_ego in log.tracks.ids, f"{name}: recorded_ego {log.recorded_ego} is no track"
        assert log.tracks.valid[log.tracks.ids.index(log.recorded_ego)].any(), f"{name}: the recorded ego is never seen"
    if log.present_step is not None:
        assert 0 <= log.present_step < steps, f"{name}: present_step is {log.present_step}, expected 0 to {steps - 1}"
    lights = log.lights
    count = len(lights.lanes)
    assert lights.points.shape == (count, 2), f"{name}: lights.points has shape {lights.points.shape}"
    assert lights.states.shape == (count, steps), f"{name}: lights.states has shape {lights.states.shape}"
    assert np.isfinite(lights.points).all(), f"{name}: a light's place is not finite"
    assert np.isin(lights.states, list(Light)).all(), f"{name}: a light has an unknown state"


def _check_tracks(log: Log, name: str) -> None:
    tracks = log.tracks
    assert len(tracks) > 0, f"{name}: no tracks"
    assert len(set(tracks.ids)) == len(tracks), f"{name}: a track id appears twice"
    assert tracks.states.shape == (*tracks.valid.shape, 5), f"{name}: states {tracks.states.shape}, valid {tracks.valid.shape}"  # fmt: skip  # noqa: E501
    assert np.isin(tracks.kinds, list(Kind)).all(), f"{name}: a track has an unknown kind"
    seen = tracks.valid.any(1)
    sizes = tracks.sizes[seen]
    good = np.isfinite(sizes).all() and (sizes > 0).all() and (sizes < LARGEST_M).all()
    assert good, f"{name}: a size is not in (0, {LARGEST_M}) m"
    states = tracks.states[tracks.valid]
    assert np.isfinite(states).all(), f"{name}: a valid state is not finite"
    if len(states):
        yaw = states[:, 2]
        slack = 1e-6  # float32 pi is a little above pi
        assert yaw.min() > -np.pi - slack, f"{name}: yaw {yaw.min()}, expected (-pi, pi]"
        assert yaw.max() <= np.pi + slack, f"{name}: yaw {yaw.max()}, expected (-pi, pi]"
        far = float(np.abs(states[:, :2]).max())
        assert far < FARTHEST_M, f"{name}: a position is {far:.0f} m from the origin, expected a recentred recording"


def _check_motion(log: Log, name: str) -> None:
    states, valid = log.tracks.states.astype(np.float64), log.tracks.valid
    both: ndarray = valid[:, 1:] & valid[:, :-1]
    if not both.any():
        return
    displaced = (states[:, 1:, :2] - states[:, :-1, :2])[both] / log.dt_s
    mean = 0.5 * (states[:, 1:, 3:5] + states[:, :-1, 3:5])[both]
    speed = np.hypot(mean[:, 0], mean[:, 1])
    off = np.hypot(*(displaced - mean).T) > VELOCITY_SLACK_MPS + 0.2 * speed
    share = float(off.mean())
    assert share <= OUTLIERS, f"{name}: {share:.1%} of steps do not move as their velocity says (frame, unit or dt?)"


def _check_map(log: Log, name: str) -> None:
    road = log.road_map
    features = len(road.kinds)
    assert len(road.ids) == features, f"{name}: {len(road.ids)} map ids, expected {features}"
    assert road.offsets.shape == (features + 1,), f"{name}: map offsets {road.offsets.shape}, expected {features + 1}"
    rising = (np.diff(road.offsets) >= 0).all()
    assert rising, f"{name}: map offsets fall"
    assert road.offsets[0] == 0, f"{name}: map offsets start at {road.offsets[0]}, expected 0"
    assert road.offsets[-1] == len(road.points), (
        f"{name}: map offsets end at {road.offsets[-1]}, not {len(road.points)}"
    )
    assert np.isfinite(road.points).all(), f"{name}: a map point is not finite"
    assert np.isin(road.kinds, list(Feature)).all(), f"{name}: a map feature has an unknown kind"
    linked = road.successors.ravel()
    known = ((linked >= 0) & (linked < features)).all()
    assert known, f"{name}: a successor is no feature"
    assert (road.kinds[linked] == Feature.LANE).all(), f"{name}: a successor is no lane"
