"""Scenes as roads: the lights are the logged ones and rule those on their lanes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from road_scenes import TIMES, along, at_arc, only_route, scene_with, speed_at

from wmplan.scene import (
    FUTURE_STEPS,
    HISTORY_STEPS,
    Future,
    Light,
    Lights,
    Scene,
)
from wmplan.simulator.scene_road import scene_road
from wmplan.testing.scenes import straight_road


def with_light(pair: tuple[Scene, Future], states: np.ndarray, lane: str = "lane0") -> tuple[Scene, Future]:
    """A light at x = 50 on this lane; states at t0 and after."""
    y = {"lane0": -3.5, "lane1": 0.0, "lane2": 3.5}[lane]
    point = np.array([[50.0, y]], np.float32)
    now, later = states[:1].astype(np.int8), states[1:].astype(np.int8)
    scene = replace(pair[0], lights=Lights(point, (lane,), now[None]))
    return scene, replace(pair[1], lights=Lights(point, (lane,), later[None]))


RED = np.full(FUTURE_STEPS + 1, Light.RED)


def test_a_light_rules_those_on_its_lane_alone() -> None:
    waits = along(30.0, -3.5, 0.8)
    made = scene_road(*with_light(scene_with(waits, along(30.0, 3.5, 8.0), along(60.0, -3.5, 5.0)), RED))
    groups = [route.group for route in made.road.routes]
    assert groups == [-1, 0, -1, -1]  # the ego's lane, its lane, another, beyond the point
    assert made.road.routes[1].stop == pytest.approx(20.0, abs=0.05)
    assert (made.road.signal.states == Light.RED).all()
    assert not made.road.signal.periodic
    assert (made.road.stop_points[0].lane, made.road.stop_points[0].group) == ("lane0", 0)


def test_the_ego_obeys_the_light_of_its_lane() -> None:
    made = scene_road(*with_light(straight_road([]), RED, "lane1"))
    assert made.road.routes[0].group == 0
    assert made.road.routes[0].stop == pytest.approx(50.0, abs=0.05)


def test_who_passed_a_red_light_is_not_ruled_by_it() -> None:
    made = scene_road(*with_light(scene_with(along(30.0, -3.5, 8.0)), RED))
    assert made.road.routes[1].group == -1
    assert made.unruled == 1
    green = np.where(TIMES[HISTORY_STEPS:] < 1.0, Light.RED, Light.GREEN)
    ruled = scene_road(*with_light(scene_with(along(30.0, -3.5, 8.0)), green))
    assert ruled.road.routes[1].group == 0
    assert ruled.unruled == 0


def test_who_halts_beyond_the_point_halts_at_its_line() -> None:
    """Cars stand with their front a little past the recorded point; they must not be taken to have run the light."""
    front = 50.0 + 1.5 - 2.4
    halts = at_arc(front - 6.0, -3.5, lambda t: np.where(t < 2.0, 6.0 * t - 1.5 * np.maximum(t, 0.0) ** 2, 6.0))
    made = scene_road(*with_light(scene_with(halts), RED))
    route = made.road.routes[1]
    assert route.group == 0
    assert 0.0 < route.stop - (6.0 + 2.4) < 0.6


def test_lights_hold_until_known_again_and_unknown_ones_rule_nobody() -> None:
    states = RED.copy()
    states[20:30] = Light.UNKNOWN
    states[60:] = Light.UNKNOWN
    waits = scene_with(along(30.0, -3.5, 0.8))
    assert (scene_road(*with_light(waits, states)).road.signal.states == Light.RED).all()
    late = RED.copy()
    late[:15] = Light.UNKNOWN
    signal = scene_road(*with_light(waits, late)).road.signal
    assert (signal.states[0, :15] == Light.UNKNOWN).all()
    assert (signal.states[0, 15:] == Light.RED).all()
    never = scene_road(*with_light(waits, np.zeros_like(RED)))
    assert never.road.routes[1].group == -1
    assert len(never.road.signal.states) == 0


def test_who_is_held_by_a_light_wants_to_go_on() -> None:
    def brakes(t: np.ndarray) -> np.ndarray:
        return 12.0 * np.minimum(t, 4.0) - 1.5 * np.clip(t, 0.0, 4.0) ** 2

    scene, future = scene_with(at_arc(22.0, -3.5, brakes))
    assert speed_at(only_route(with_light((scene, future), RED)), 22.0) == pytest.approx(12.0, abs=0.5)
