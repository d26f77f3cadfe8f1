"""Scenes that go on: in the world they were taken from, or on a road of their own; never in another world unnoticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wmplan.errors import InputError
from wmplan.executed import executed as driven
from wmplan.plans import Plans
from wmplan.simulator.live import LiveScene, live
from wmplan.simulator.reader import SimulatorReader
from wmplan.start import start_of
from wmplan.windows import WindowConfig, cut

STEPS = 30


@pytest.fixture(scope="module")
def log():
    reader = SimulatorReader()
    return next(reader.read(reader.paths(Path("simulator:n=6,seed=3"))[5]))


@pytest.fixture(scope="module")
def moment(log):
    """A scene, its future, and the scene as a road."""
    scene, future = next(cut(log, WindowConfig()))
    return scene, future, live(scene, future)


def some_plans(speed: float, count: int) -> Plans:
    controls = np.zeros((count, STEPS, 2))
    controls[:, :, 0] = np.linspace(-6.0, 3.0, count)[:, None]
    controls[:, :, 1] = np.linspace(-0.02, 0.02, count)[::-1, None]
    return Plans.from_controls(controls, speed)


def test_with_the_logged_action_the_log_goes_on(moment):
    scene, future, alive = moment
    plan = driven(scene, future, start_of(scene), STEPS).plan
    done = alive.execute(plan)
    assert np.hypot(*(done.ego[0, -1, :2] - future.ego.states[0, STEPS - 1, :2])) < 0.2
    for row, name in enumerate(future.agents.ids):
        if future.agents.valid[row, STEPS - 1]:
            at = np.array([done.x[-1, 0, int(name)], done.y[-1, 0, int(name)]])
            assert np.hypot(*(at - future.agents.states[row, STEPS - 1, :2])) < 0.2, name


def test_judging_in_halves_is_judging_at_once(moment):
    scene, _, alive = moment
    start = start_of(scene)
    plans = some_plans(start.speed, 75)
    halves = alive.outcomes(plans, start, 20.0)
    whole = alive.judge(alive.execute(plans), start, 20.0)
    assert halves.columns == whole.columns
    assert np.array_equal(halves.values, whole.values, equal_nan=True)
    assert len(np.unique(whole.column("pdms"))) > 5, "plans that differ"


def test_a_scene_around_somebody_else_does_not_move_the_simulators_ego(log):
    """Told to stand, the car that the scene is about brakes: not the one that happened to be the log's ego."""
    others = (pair for pair in cut(log, WindowConfig(ego="any")) if pair[0].ego_id != "ego")
    scene, future = next(pair for pair in others if start_of(pair[0]).speed > 3.0)
    alive = live(scene, future)
    assert isinstance(alive, LiveScene)
    start = start_of(scene)
    plans = some_plans(start.speed, 2)
    done = alive.execute(plans)
    assert np.abs(done.ego[:, 0, :3]).max() < 0.05, "row 0 is the car at the scene's origin"
    assert np.abs(done.ego[:, -1, :2] - plans.states[:, -1, :2]).max() < 0.05


def test_a_scene_of_another_simulator_is_refused(moment):
    scene, future, _ = moment
    states = scene.agents.states.copy()
    states[0, -1, 0] += 0.5
    with pytest.raises(InputError, match=r"up to 0\.50 m from where the simulator has them.*made again"):
        live(replace(scene, agents=replace(scene.agents, states=states)), future)
