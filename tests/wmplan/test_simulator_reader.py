"""The simulator as a source of logs: any log by itself, whatever else is asked for."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmplan.contracts import LogReader
from wmplan.errors import InputError
from wmplan.scene import Feature, Kind, Light, Log
from wmplan.simulator import maps
from wmplan.simulator.reader import SimulatorReader, resume
from wmplan.simulator.recording import CHUNK, LOG_STEPS
from wmplan.simulator.source import Source
from wmplan.simulator.traffic import rollout


@pytest.fixture(scope="module")
def logs() -> list[Log]:
    reader = SimulatorReader()
    return [log for path in reader.paths(Path("simulator:n=16,seed=3")) for log in reader.read(path)]


def assert_same(a: Log, b: Log) -> None:
    assert (a.log_id, a.tracks.ids, a.road_map.ids, a.lights.lanes) == (
        b.log_id,
        b.tracks.ids,
        b.road_map.ids,
        b.lights.lanes,
    )
    for name in ("kinds", "sizes", "states", "valid"):
        assert np.array_equal(getattr(a.tracks, name), getattr(b.tracks, name))
    assert np.array_equal(a.road_map.points, b.road_map.points)
    assert np.array_equal(a.lights.states, b.lights.states)


def test_it_is_a_reader_of_its_own_source_only():
    reader = SimulatorReader()
    assert isinstance(reader, LogReader)
    assert reader.paths(Path("logs/simulator")) == []
    assert len(reader.paths(Path("simulator"))) == Source().n
    assert len(set(reader.paths(Path("simulator:n=40,seed=1,map=straight")))) == 40


def test_a_log_is_the_same_however_many_are_asked_for(logs):
    few, many = SimulatorReader(), SimulatorReader()
    alone = few.paths(Path("simulator:n=6,seed=3"))
    assert alone == many.paths(Path(f"simulator:n={3 * CHUNK},seed=3,map=mixed"))[:6]
    (fifth,) = few.read(alone[5])
    assert_same(fifth, logs[5])
    (first,) = few.read(alone[0])
    assert_same(first, logs[0])


def test_a_log_goes_on_from_any_step_as_it_was_logged(logs):
    """Here where the ego explores; the other behaviours are in test_simulate_command."""
    step, number = 60, 5
    road, network, state = resume(logs[number].log_id, step)
    assert road.road_map.ids == logs[number].road_map.ids
    chunk, row = Source(16, 3).world(number)
    actions = chunk.recorded.actions[step : LOG_STEPS - 1, row]
    worlds = jax.tree.map(lambda leaf: leaf[None], state)
    _, seen = jax.jit(rollout)(network, worlds, jnp.asarray(actions)[None])
    states, valid = logs[number].tracks.states, logs[number].tracks.valid
    rows = [0 if name == "ego" else int(name) for name in logs[number].tracks.ids]
    for axis, name in enumerate(("x", "y")):
        after = np.asarray(getattr(seen, name), np.float64)[:, 0].T[rows]
        there = valid[:, step:]
        np.testing.assert_array_equal(after[there], states[:, step:, axis][there])


@pytest.mark.parametrize(
    ("name", "step", "said"),
    [("sim-mixed-3-5", 121, "step 121, expected 0 to 120"), ("womd-1", 0, "expected the id of a simulated log")],
)
def test_what_cannot_go_on_is_named(name, step, said):
    with pytest.raises(InputError, match=said):
        resume(name, step)


def test_other_seeds_are_other_logs(logs):
    reader = SimulatorReader()
    (other,) = reader.read(reader.paths(Path("simulator:n=1,seed=4"))[0])
    assert not np.array_equal(other.tracks.states[0], logs[0].tracks.states[0])
    assert len({log.tracks.states.tobytes() for log in logs}) == len(logs)


def test_logs_hold_what_a_scene_needs(logs):
    for log in logs:
        tracks = log.tracks
        steps = tracks.states.shape[1]
        assert (steps - 1) * log.dt_s == pytest.approx(12.0)
        assert tracks.ids[0] == log.recorded_ego == "ego"
        assert tracks.valid[0].all()
        assert 4 <= len(tracks) <= 32
        assert len(set(tracks.ids)) == len(tracks)
        assert log.lights.states.shape[1] == steps
        assert log.road_map.of_kind(Feature.LANE)
        moved = np.diff(tracks.states[..., :2], axis=1) / log.dt_s
        mean = 0.5 * (tracks.states[:, 1:, 3:] + tracks.states[:, :-1, 3:])
        both = (tracks.valid[:, 1:] & tracks.valid[:, :-1])[..., None]
        assert np.abs(np.where(both, moved - mean, 0.0)).max() < 1.0, "velocities are those of the positions"
    assert any((log.tracks.kinds == Kind.PEDESTRIAN).any() for log in logs)
    assert any((log.lights.states == Light.GREEN).any() for log in logs)


def test_the_ego_starts_on_a_lane(logs):
    for log in logs:
        lanes = np.concatenate(log.road_map.of_kind(Feature.LANE))
        assert np.linalg.norm(lanes - log.tracks.states[0, 0, :2], axis=1).min() < 2.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("simulator:n=many", "n is 'many', expected a whole number"),
        ("simulator:n=-1", "n is '-1', expected a whole number"),
        ("simulator:seeds=1", "field 'seeds', expected one of behaviour, map, n, seed"),
        (
            "simulator:behaviour=drunk",
            "behaviour is 'drunk', expected explore, mixture, mixture_per_log, constant_velocity",
        ),
        ("simulator:map=town", "map is 'town', expected straight, merge, crossing, t_junction, roundabout or mixed"),
    ],
)
def test_a_bad_source_is_named(text, said):
    with pytest.raises(InputError, match=said):
        SimulatorReader().paths(Path(text))


def test_a_path_of_another_format_is_refused():
    with pytest.raises(InputError, match="expected simulator:seed=S,map=M,log=I"):
        next(SimulatorReader().read(Path("scene.json")))


def test_every_map_can_be_asked_for():
    assert set(maps.MAPS) == {"straight", "merge", "crossing", "t_junction", "roundabout"}
    for name in maps.MAPS:
        assert Source.parse(f"simulator:map={name},n=3") == Source(3, 0, name)
