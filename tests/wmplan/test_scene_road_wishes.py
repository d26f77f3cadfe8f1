"""Scenes as roads: the speed is the one that was wanted, not the one that traffic allowed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from road_scenes import along, at_arc, only_route, scene_with, speed_at

from wmplan.scene import (
    Kind,
)
from wmplan.simulator.paths import TURN_ACCEL_MPS2
from wmplan.simulator.scene_road import scene_road
from wmplan.simulator.scene_wishes import USUAL_MPS


def test_who_brakes_for_a_leader_still_wants_to_go_on() -> None:
    def brakes(t: np.ndarray) -> np.ndarray:
        later = np.clip(t, 0.0, 4.0)
        return 12.0 * np.minimum(t, 0.0) + 12.0 * later - 1.5 * later**2

    free = only_route(scene_with(at_arc(20.0, -3.5, brakes)))
    leader = along(20.0 + 24.0 + 7.0, -3.5, 0.0)
    held = only_route(scene_with(at_arc(20.0, -3.5, brakes), leader))
    assert speed_at(free, 22.0) < 6.0  # nothing explains it: this is what it wants
    assert speed_at(held, 22.0) == pytest.approx(12.0, abs=0.5)


def test_who_was_held_up_all_the_time_wants_the_usual_speed() -> None:
    creeps = at_arc(20.0, -3.5, lambda t: 0.5 * (t + 2.0))
    leader = at_arc(27.0, -3.5, lambda t: 0.5 * (t + 2.0))
    made = scene_road(*scene_with(creeps, leader))
    assert speed_at(made.road.routes[1], 1.0) == pytest.approx(USUAL_MPS[Kind.VEHICLE])
    faster = scene_road(*scene_with(creeps, leader, along(0.0, 3.5, 13.0)))
    assert speed_at(faster.road.routes[1], 1.0) == pytest.approx(13.0, abs=0.3)


def test_who_speeds_up_wants_the_speed_it_reaches() -> None:
    starts = at_arc(20.0, -3.5, lambda t: 0.75 * np.maximum(t, 0.0) ** 2)
    route = only_route(scene_with(starts))
    assert speed_at(route, 1.0) == pytest.approx(12.0, abs=0.7)


def test_nobody_wants_to_turn_faster_than_a_bend_allows() -> None:
    """The ego's route is the map's alone, so its speeds there come from the bend, not from what was driven."""
    scene, future = scene_with(along(20.0, -3.5, 12.0), ego_speed=15.0)
    bend = np.linspace(0.0, np.pi / 2, 40)
    arc = np.stack([30.0 + 12.0 * np.sin(bend), 12.0 * (1.0 - np.cos(bend))], axis=-1)
    route = np.concatenate([np.stack([np.arange(30.0), np.zeros(30)], axis=-1), arc]).astype(np.float32)
    made = scene_road(replace(scene, route=route, route_on_map=False), future).road.routes[0]
    assert speed_at(made, 10.0) == pytest.approx(15.0)
    assert speed_at(made, 40.0) == pytest.approx(np.sqrt(TURN_ACCEL_MPS2 * 12.0), rel=0.15)
