"""The executed plan follows the recorded path; labels say what followed."""

import numpy as np
import pytest

from wmplan import bicycle
from wmplan.executed import executed, executed_plan
from wmplan.frames import Pose
from wmplan.labels import hard_braking_within, min_ttc_within, outcome_labels
from wmplan.plans import ROUTE_POINTS, Start
from wmplan.readers.womd_json import WomdJsonReader
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, Future, Kind, Lights, RoadMap, Scene, Tracks
from wmplan.start import start_of
from wmplan.windows import WindowConfig, cut


def start(speed: float) -> Start:
    route = np.stack([np.arange(ROUTE_POINTS) * 1.5, np.zeros(ROUTE_POINTS)], axis=1).astype(np.float32)
    return Start(speed, 0.0, 0.0, 4.8, 2.0, 12.0, route)


def tracks(states: np.ndarray, name: str = "a") -> Tracks:
    n, t = states.shape[:2]
    return Tracks(
        tuple(f"{name}{i}" for i in range(n)),
        np.full(n, Kind.VEHICLE, dtype=np.int8),
        np.tile(np.array([4.8, 2.0], dtype=np.float32), (n, 1)),
        states.astype(np.float32),
        np.ones((n, t), dtype=bool),
    )


def rolled(controls: np.ndarray, speed: float) -> np.ndarray:
    """Logged states x, y, yaw, vx, vy of controls, without the start."""
    states = bicycle.forward(np.array([0.0, 0.0, 0.0, speed]), controls, 0.1)[1:]
    v = states[:, 3]
    return np.column_stack([states[:, :3], v * np.cos(states[:, 2]), v * np.sin(states[:, 2])])


def scene_and_future(
    ego: np.ndarray, others: np.ndarray | None = None, *, reliable: bool = True
) -> tuple[Scene, Future]:
    others = np.zeros((0, FUTURE_STEPS, 5)) if others is None else others
    past = np.zeros((1, HISTORY_STEPS + 1, 5))
    agents = tracks(np.repeat(others[:, :1], HISTORY_STEPS + 1, axis=1))
    scene = Scene(
        scene_id="s", log_id="l", group="g", dataset="hand", ego_id="e", recorded_ego=True, labels_reliable=reliable,
        left_hand=False, native_dt_s=0.1, t0_s=0.0, anchor=Pose(0.0, 0.0, 0.0), ego=tracks(past, "e"), agents=agents,
        road_map=RoadMap.build([]), lights=Lights.none(1), route=np.array([[0, 0], [100, 0]], np.float32),
        route_on_map=False,
    )  # fmt: skip
    return scene, Future("s", tracks(ego[None], "e"), tracks(others), Lights.none(FUTURE_STEPS))


def smooth_controls(rng: np.random.Generator) -> np.ndarray:
    t = np.linspace(0.0, 8.0, FUTURE_STEPS)
    accel = rng.uniform(-1.5, 1.5) * np.cos(t * rng.uniform(0.3, 1.0))
    curvature = rng.uniform(-0.05, 0.05) * np.sin(t * rng.uniform(0.3, 1.0))
    return np.stack([accel, curvature], axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_a_clean_log_is_followed_closely(seed):
    controls = smooth_controls(np.random.default_rng(seed))
    scene, future = scene_and_future(rolled(controls, 9.0))
    found = executed(scene, future, start(9.0), 30)
    assert found.deviation_m < 0.08
    np.testing.assert_allclose(found.plan.controls[0, 2:-3, 0], controls[2:27, 0], atol=0.25)


def test_noise_on_positions_does_not_become_acceleration():
    rng = np.random.default_rng(0)
    states = rolled(np.zeros((FUTURE_STEPS, 2)), 10.0)
    states[:, :2] += rng.normal(0.0, 0.1, (FUTURE_STEPS, 2))
    states[:, 3] += rng.normal(0.0, 0.3, FUTURE_STEPS)
    scene, future = scene_and_future(states)
    found = executed(scene, future, start(10.0), 30)
    naive = np.diff(np.concatenate([[10.0], states[:30, 3]])) / 0.1
    assert np.abs(found.plan.controls[0, :, 0]).max() < 0.25 * np.abs(naive).max()
    assert found.deviation_m < 0.5


def test_stopping_and_standing():
    controls = np.zeros((FUTURE_STEPS, 2))
    controls[:, 0] = -4.0
    scene, future = scene_and_future(rolled(controls, 6.0))
    found = executed(scene, future, start(6.0), 30)
    assert found.deviation_m < 0.15
    assert found.plan.states[0, -1, 3] < 0.2


def test_a_log_that_ends_early_says_when():
    scene, future = scene_and_future(rolled(np.zeros((FUTURE_STEPS, 2)), 5.0))
    future.ego.valid[0, 17:] = False
    found = executed(scene, future, start(5.0), 30)
    assert found.plan is None
    assert found.reason == "the log does not show the ego at t0 + 1.8 s"
    assert executed_plan(scene, future, start(5.0), 30) is None
    assert executed_plan(scene, future, start(5.0), 17) is not None


def test_real_logs_are_followed(real_data):
    reader = WomdJsonReader()
    deviations = []
    for path in reader.paths(real_data / "womd_json")[:6]:
        for log in reader.read(path):
            for scene, future in cut(log, WindowConfig(ego="any")):
                found = executed(scene, future, start_of(scene), 30)
                if found.plan is not None:
                    deviations.append(found.deviation_m)
    assert len(deviations) >= 10
    assert np.median(deviations) < 0.15
    assert np.quantile(deviations, 0.9) < 0.6


@pytest.mark.parametrize(("decel", "hard"), [(2.9, False), (3.1, True)])
def test_hard_braking_at_its_threshold(decel, hard):
    controls = np.zeros((FUTURE_STEPS, 2))
    controls[10:25, 0] = -decel
    scene, future = scene_and_future(rolled(controls, 15.0))
    assert hard_braking_within(future).value is hard
    assert outcome_labels(scene, future).hard_braking.valid
    assert not hard_braking_within(future, 1.0).value  # it begins after 1 s


def test_labels_of_a_log_that_cannot_be_trusted_are_void():
    scene, future = scene_and_future(rolled(np.zeros((FUTURE_STEPS, 2)), 15.0), reliable=False)
    assert not outcome_labels(scene, future).hard_braking.valid
    future.ego.valid[0, 5] = False
    assert not hard_braking_within(future).valid
    assert not min_ttc_within(future)[1]


@pytest.mark.parametrize(("gap", "expected"), [(15.05, 1.5), (14.95, 1.5), (13.95, 1.4), (60.0, 3.0)])
def test_time_to_collision_with_a_leader(gap, expected):
    # Closing at 10 m/s over the window of one step: contact after gap / 10, rounded up to 0.1 s.
    times = 0.1 * np.arange(1, FUTURE_STEPS + 1)
    ego = rolled(np.zeros((FUTURE_STEPS, 2)), 15.0)
    lead = np.column_stack(
        [ego[0, 0] + 4.8 + gap + 5.0 * (times - 0.1), *np.zeros((2, FUTURE_STEPS)), np.full(FUTURE_STEPS, 5.0),
         np.zeros(FUTURE_STEPS)]
    )  # fmt: skip
    _, future = scene_and_future(ego, lead[None])
    ttc, valid = min_ttc_within(future, 0.1)
    assert valid
    assert ttc == pytest.approx(np.ceil(gap / 10.0 * 10.0 - 1e-6) / 10.0 if gap < 30.0 else expected)


def test_a_follower_is_not_ahead():
    times = 0.1 * np.arange(1, FUTURE_STEPS + 1)
    ego = rolled(np.zeros((FUTURE_STEPS, 2)), 5.0)
    behind = np.column_stack(
        [-15.0 + 12.0 * times, *np.zeros((2, FUTURE_STEPS)), np.full(FUTURE_STEPS, 12.0), np.zeros(FUTURE_STEPS)]
    )
    _, future = scene_and_future(ego, behind[None])
    assert min_ttc_within(future, 0.5) == (3.0, True)
