"""Baselines on hand-built scenes."""

from __future__ import annotations

import numpy as np
import pytest

from wmplan.contracts import Policy
from wmplan.frames import Pose
from wmplan.plans import Start
from wmplan.policies import POLICIES, ConstantVelocity, Idm
from wmplan.scene import HISTORY_STEPS, Feature, Kind, Light, Lights, RoadMap, Scene, Tracks

STRAIGHT = np.stack([1.5 * np.arange(64.0), np.zeros(64)], -1).astype(np.float32)


def tracks(rows: list[tuple[float, float, float, float]]) -> Tracks:
    """Cars of 4.5 x 1.8 m from x, y, yaw, speed at t0."""
    now = np.array(rows, dtype=np.float32).reshape(-1, 4)
    states = np.zeros((len(now), HISTORY_STEPS + 1, 5), dtype=np.float32)
    states[..., :3] = now[:, None, :3]
    states[..., 3] = (now[:, 3] * np.cos(now[:, 2]))[:, None]
    states[..., 4] = (now[:, 3] * np.sin(now[:, 2]))[:, None]
    return Tracks(
        tuple(str(i) for i in range(len(now))),
        np.full(len(now), Kind.VEHICLE, dtype=np.int8),
        np.tile(np.array([4.5, 1.8], dtype=np.float32), (len(now), 1)),
        states,
        np.ones(states.shape[:2], dtype=bool),
    )


def scene(agents=(), lights: Lights | None = None, features=(), speed: float = 10.0) -> Scene:
    return Scene(
        scene_id="s", log_id="l", group="g", dataset="d", ego_id="ego", recorded_ego=True, labels_reliable=True,
        left_hand=False, native_dt_s=0.1, t0_s=2.0, anchor=Pose(0.0, 0.0, 0.0), ego=tracks([(0.0, 0.0, 0.0, speed)]),
        agents=tracks(list(agents)), road_map=RoadMap.build(list(features)), lights=lights or Lights.none(1),
        route=STRAIGHT, route_on_map=True,
    )  # fmt: skip


def start(speed: float = 10.0, target: float = 10.0, route: np.ndarray = STRAIGHT) -> Start:
    return Start(speed, 0.0, 0.0, 4.5, 1.8, target, route)


def red(x: float, y: float = 0.0, lane: str = "", state: Light = Light.RED) -> Lights:
    return Lights(np.array([[x, y]], dtype=np.float32), (lane,), np.array([[state]], dtype=np.int8))


def driven(agents=(), lights=None, features=(), speed=10.0, target=10.0, route=STRAIGHT) -> np.ndarray:
    """The states of IDM's plan."""
    return Idm().plan(scene(agents, lights, features, speed), start(speed, target, route), 0).states[0]


def test_registered_baselines_are_policies():
    assert set(POLICIES) == {"constant_velocity", "idm"}
    for name, policy in POLICIES.items():
        assert isinstance(policy, Policy)
        assert policy.name == name
        plans = policy.plan(scene(), start(), 1)
        assert plans.horizon_s == pytest.approx(3.0)
        assert plans.controls.tobytes() == policy.plan(scene(), start(), 2).controls.tobytes()


def test_constant_velocity_goes_straight_on():
    states = ConstantVelocity().plan(scene([(15.0, 0.0, 0.0, 0.0)]), start(7.0), 0).states[0]
    assert states[-1] == pytest.approx([21.0, 0.0, 0.0, 7.0], abs=1e-4)


def test_idm_keeps_its_speed_on_an_empty_road_and_reaches_for_the_target():
    assert driven()[-1, 3] == pytest.approx(10.0, abs=0.05)
    assert 12.0 < driven(target=20.0)[-1, 3] < 15.0


def test_idm_stops_behind_a_standing_car_and_ignores_the_next_lane():
    stopped = driven([(22.0, 0.0, 0.0, 0.0)])
    assert stopped[:, 0].max() + 2.25 < 22.0 - 2.25
    assert stopped[-1, 3] < 3.0
    assert np.array_equal(driven([(22.0, 3.5, 0.0, 0.0)]), driven())
    assert np.array_equal(driven([(-12.0, 0.0, 0.0, 15.0)]), driven())


def test_idm_sees_a_car_across_its_way_and_one_that_reaches_in():
    across = driven([(20.0, 0.5, np.pi / 2.0, 0.0)])
    assert across[:, 0].max() + 2.25 < 20.0 - 0.9
    reaching = driven([(20.0, 2.9, np.pi / 2.0, 0.0)])
    assert np.abs(reaching - across).max() < 0.05


def test_idm_follows_a_moving_leader_more_gently_than_a_standing_one():
    ends = [driven([(20.0, 0.0, 0.0, v)])[-1, 0] for v in (0.0, 4.0, 8.0, 12.0)]
    assert np.all(np.diff(ends) > 0.3)


def test_idm_expects_its_leader_to_drive_on():
    """Behind a car of its own speed, with the gap that IDM likes, it keeps that speed."""
    gap = (2.0 + 1.5 * 10.0) / np.sqrt(1.0 - (10.0 / 20.0) ** 4)
    states = driven([(gap + 4.5, 0.0, 0.0, 10.0)], target=20.0)
    assert np.abs(states[:, 3] - 10.0).max() < 0.05


@pytest.mark.parametrize("gap", [20.0, 35.0])
def test_idm_stops_for_red_and_only_for_red(gap):
    line = 2.25 + gap
    assert driven(lights=red(line))[:, 0].max() + 2.25 < line
    assert driven(lights=red(line))[-1, 0] < driven()[-1, 0] - 1.0
    for state in (Light.GREEN, Light.UNKNOWN):
        assert np.array_equal(driven(lights=red(line, state=state)), driven())


def test_idm_ignores_lights_behind_beside_and_of_another_way():
    assert np.array_equal(driven(lights=red(-5.0)), driven())
    assert np.array_equal(driven(lights=red(1.0)), driven()), "its front is past the line"
    assert np.array_equal(driven(lights=red(25.0, 3.5)), driven())
    angle = np.linspace(0.0, np.pi / 2.0, 12)
    left = np.stack([25.0 + 12.0 * np.sin(angle), 12.0 - 12.0 * np.cos(angle)], -1)
    ahead = np.array([[25.0, 0.0], [35.0, 0.0], [50.0, 0.0]])
    lanes = [(Feature.LANE, "left", left), (Feature.LANE, "ahead", ahead)]
    assert np.array_equal(driven(lights=red(25.0, lane="left"), features=lanes), driven())
    assert not np.array_equal(driven(lights=red(25.0, lane="ahead"), features=lanes), driven())


def test_idm_keeps_to_a_bend_and_slows_for_it():
    radius = 25.0
    angle = 1.5 * np.arange(64.0) / radius
    bend = np.stack([radius * np.sin(angle), radius - radius * np.cos(angle)], -1).astype(np.float32)
    states = driven(route=bend, speed=7.0, target=14.0)
    assert np.abs(np.hypot(states[:, 0], states[:, 1] - radius) - radius).max() < 0.6
    assert states[-1, 3] ** 2 / radius < 2.9
    assert driven(speed=7.0, target=14.0)[-1, 3] > states[-1, 3] + 1.0
    mirrored = driven(route=bend * np.array([1.0, -1.0], np.float32), speed=7.0, target=14.0)
    assert np.allclose(mirrored[:, 1], -states[:, 1], atol=1e-3)
