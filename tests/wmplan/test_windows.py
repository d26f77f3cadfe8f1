"""Scenes cut from logs: nothing after t0 gets in, nothing is extrapolated, the future is what followed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmplan.readers import reader
from wmplan.resample import resample
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, Kind, Log, RoadMap
from wmplan.testing.logs import driving_log
from wmplan.windows import WindowConfig, cut, runs

ANY = WindowConfig(ego="any", stride_s=1.0)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every array and number in nested dataclasses, by name."""
    if is_dataclass(value):
        for item in fields(value):
            yield from leaves(getattr(value, item.name), f"{name}.{item.name}")
    else:
        yield name, value.tobytes() if isinstance(value, np.ndarray) else value


def scrambled(log: Log, after: int, seed: int = 1) -> Log:
    """The log with every state, light and validity of the other tracks after a native step replaced by noise."""
    rng = np.random.default_rng(seed)
    states, valid, lights = log.tracks.states.copy(), log.tracks.valid.copy(), log.lights.states.copy()
    states[:, after + 1 :] = rng.normal(scale=50, size=states[:, after + 1 :].shape)
    ego = log.tracks.ids.index(str(log.recorded_ego))
    keep = valid[ego].copy()
    valid[:, after + 1 :] = rng.random(valid[:, after + 1 :].shape) < 0.5
    valid[ego] = keep  # without a future, the ego's scene would not exist
    lights[:, after + 1 :] = rng.integers(0, 4, lights[:, after + 1 :].shape)
    return replace(
        log, tracks=replace(log.tracks, states=states, valid=valid), lights=replace(log.lights, states=lights)
    )


@pytest.mark.parametrize("dt_s", [0.05, 0.1, 0.1002, 0.25, 0.5005])
def test_nothing_after_t0_is_in_a_scene(dt_s: float) -> None:
    log = driving_log(steps=round(12 / dt_s), dt_s=dt_s)
    config = WindowConfig(stride_s=2.0)
    scenes = list(cut(log, config))
    assert len(scenes) >= 3
    for scene, future in scenes:
        t0 = round(scene.t0_s / dt_s)
        again = {s.scene_id: (s, f) for s, f in cut(scrambled(log, t0), config)}[scene.scene_id]
        assert dict(leaves(again[0])) == dict(leaves(scene))
        assert dict(leaves(again[1])) != dict(leaves(future))


def test_nothing_after_t0_is_in_a_real_scene(real_data: Path) -> None:
    found = reader("womd_json")
    for path in found.paths(real_data / "womd_json")[:3]:
        for log in found.read(path):
            ((scene, _),) = cut(log, WindowConfig())
            ((again, _),) = cut(scrambled(log, round(scene.t0_s / log.dt_s)), WindowConfig())
            assert dict(leaves(again)) == dict(leaves(scene))


@pytest.mark.parametrize("dt_s", [0.05, 0.1, 0.5005])
def test_scene_and_future_are_the_log_seen_from_the_ego(dt_s: float) -> None:
    """Back in the log's frame, at sampled times, they are the log."""
    log = driving_log(steps=round(14 / dt_s), dt_s=dt_s)
    for scene, future in cut(log, WindowConfig(ego="any", stride_s=2.0)):
        for tracks, first in ((scene.agents, -HISTORY_STEPS), (future.agents, 1), (scene.ego, -HISTORY_STEPS)):
            xy = scene.anchor.to_outer(tracks.states[..., :2].astype(np.float64))
            steps = (scene.t0_s + 0.1 * (first + np.arange(tracks.valid.shape[1]))) / dt_s
            on = np.abs(steps - np.round(steps)) < 1e-4
            for row, name in enumerate(tracks.ids):
                source = log.tracks.states[log.tracks.ids.index(name)]
                pick = np.flatnonzero(on & tracks.valid[row])
                assert xy[row, pick] == pytest.approx(source[np.round(steps[pick]).astype(int), :2], abs=1e-3)
        assert scene.ego.states[0, -1, :3] == pytest.approx(0, abs=1e-6)
        assert future.agents.ids[: len(scene.agents)] == scene.agents.ids


def test_a_straight_line_is_resampled_exactly_and_a_turn_the_short_way() -> None:
    log = driving_log(dt_s=0.5, steps=40)
    states = log.tracks.states.copy()
    states[0, :, 0] = 4.0 * np.arange(40)
    states[0, :, 2] = np.where(np.arange(40) % 2, 3.1, -3.1)  # crosses pi, back and forth
    found = resample(replace(log.tracks, states=states), 0.5, 20, np.arange(-20, 81))
    assert found.states[0, :, 0] == pytest.approx(80 + 0.8 * np.arange(-20, 81))
    assert (np.abs(found.states[0, :, 2]) >= 3.1 - 1e-9).all()


@given(st.lists(st.booleans(), min_size=12, max_size=12), st.sampled_from([0.1, 0.2, 0.5]))
@settings(max_examples=60, deadline=None)
def test_nothing_is_extrapolated_and_no_gap_is_bridged(seen: list[bool], dt_s: float) -> None:
    log = driving_log(steps=12, dt_s=dt_s, cars=1)
    valid = np.tile(np.array(seen), (2, 1))
    states = np.where(valid[..., None], log.tracks.states, np.nan)
    found = resample(replace(log.tracks, states=states, valid=valid), dt_s, 5, np.arange(-30, 60))
    for offset, ok in zip(range(-30, 60), found.valid[0]):
        place = 5 + offset * 0.1 / dt_s
        around = {int(np.floor(place + 1e-6)), int(np.ceil(place - 1e-6))}
        assert ok == all(0 <= step < 12 and seen[step] for step in around)
    assert np.isfinite(found.states).all()


def test_t0_is_the_present_step_or_leaves_two_seconds_of_history() -> None:
    log = driving_log(steps=91)
    at = lambda log, **kw: [round(s.t0_s, 3) for s, _ in cut(log, WindowConfig(**kw))]  # noqa: E731
    assert at(log) == [2.0]
    assert at(replace(log, present_step=10)) == [1.0]
    assert at(replace(log, present_step=9)) == [2.0]  # less than a second of history
    assert at(log, min_future_s=8.0) == [1.0]  # as much history as the future leaves
    assert at(log, min_future_s=8.1) == []
    assert at(log, stride_s=2.0) == [2.0, 4.0, 6.0]
    assert at(replace(log, recorded_ego=None)) == []


def test_a_gap_splits_a_track_and_only_its_long_moving_parts_count() -> None:
    log = driving_log(steps=200)
    valid = log.tracks.valid.copy()
    valid[1, 65] = False  # 6.5 s, then 13.4 s
    valid[2, 50::50] = False  # nothing of 6 s
    states = log.tracks.states.copy()
    states[3, :, 0] = 7.0  # stands
    log = replace(log, tracks=replace(log.tracks, states=states, valid=valid))
    found = [(s.ego_id, round(s.t0_s, 1)) for s, _ in cut(log, WindowConfig(ego="any", stride_s=1.0))]
    by_ego = {ego: [t for e, t in found if e == ego] for ego, _ in found}
    assert set(by_ego) == {"car0", "car1"}
    assert by_ego["car1"] == [2.0, 3.0, *np.arange(8.6, 16.7).round(1)]
    single = [(s.ego_id, round(s.t0_s, 1)) for s, _ in cut(log, WindowConfig(ego="any"))]
    assert single == [("car0", 2.0), ("car1", 2.0)]


def test_agents_are_those_seen_near_before_t0_and_later_ones_follow() -> None:
    log = driving_log(steps=120, cars=5)
    valid = log.tracks.valid.copy()
    valid[1, :30] = False  # comes into view after t0 = 2 s
    states = log.tracks.states.copy()
    states[2, :, 0] += 500.0  # always far
    log = replace(log, tracks=replace(log.tracks, valid=valid, states=states))
    ((scene, future),) = cut(log, WindowConfig())
    assert scene.agents.ids == ("car3", "car4", "walker")
    assert future.agents.ids == ("car3", "car4", "walker", "car1")
    ((few, _),) = cut(log, WindowConfig(max_agents=1))
    nearest = np.hypot(*scene.agents.states[:, :, :2].transpose(2, 0, 1)).min(axis=1).argmin()
    assert few.agents.ids == (scene.agents.ids[nearest],)
    assert scene.agents.kinds[2] == Kind.PEDESTRIAN


def test_lights_are_those_of_t0_and_unknown_beyond_the_log() -> None:
    log = driving_log(steps=60)
    ((scene, future),) = cut(log, WindowConfig())
    assert scene.lights.states.tolist() == [[1]]
    assert scene.anchor.to_outer(scene.lights.points.astype(float))[0] == pytest.approx([60, 0], abs=1e-4)
    assert future.lights.states[0].tolist() == [1] * 9 + [3] * 30 + [0] * 41
    dark = replace(
        log, lights=replace(log.lights, states=np.where(np.arange(60) < 21, 0, log.lights.states).astype("i1"))
    )
    ((scene, future),) = cut(dark, WindowConfig())
    assert scene.lights.lanes == ()  # seen only later: not known at t0
    assert future.lights.lanes == ("0-0",)


def test_ids_are_unique_and_safe_as_file_names() -> None:
    log = driving_log("a/b c", steps=100)
    other = replace(log, log_id="a_b c")
    ids = [s.scene_id for one in (log, other) for s, _ in cut(one, ANY)]
    assert len(set(ids)) == len(ids) > 20
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") for name in ids)
    assert next(cut(driving_log("x"), WindowConfig()))[0].scene_id == "drawn-x-car0-0020"


def test_an_empty_map_gives_a_scene_with_a_straight_route() -> None:
    ((scene, _),) = cut(replace(driving_log(), road_map=RoadMap.build([])), WindowConfig())
    assert not scene.route_on_map
    assert scene.route.tolist() == [[0, 0], [100, 0]]


def test_runs_are_the_stretches_without_a_gap() -> None:
    assert runs(np.array([0, 1, 1, 0, 1, 0, 0, 1], dtype=bool)) == [(1, 2), (4, 4), (7, 7)]
    assert runs(np.zeros(3, dtype=bool)) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("ego", "every"), ("stride_s", 0.05), ("stride_s", -1.0), ("min_future_s", 0.0), ("radius_m", float("nan"))],
)
def test_a_window_that_cannot_be_is_named(field: str, value: Any) -> None:
    with pytest.raises(Exception, match=f"WindowConfig.{field}|ego") as error:
        WindowConfig(**{field: value})
    assert field in str(error.value)


def test_future_has_its_fixed_length() -> None:
    ((scene, future),) = cut(driving_log(steps=60), WindowConfig())
    assert future.ego.valid.shape == (1, FUTURE_STEPS)
    assert future.ego.valid[0].tolist() == [True] * 39 + [False] * 41
    assert scene.ego.valid.all()
