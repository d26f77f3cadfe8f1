"""Recorded scenes as roads: most become one, with the logged routes, speeds and lights."""

from __future__ import annotations

from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import shapely

from wmplan.errors import InputError
from wmplan.readers import reader
from wmplan.scene import (
    FUTURE_STEPS,
    Future,
    Kind,
    Light,
    Scene,
)
from wmplan.simulator.packing import Sizes, pack
from wmplan.simulator.scene_paths import MOST_VERTICES
from wmplan.simulator.scene_road import LONGEST_M, SceneRoad, scene_road
from wmplan.windows import WindowConfig, cut

SETS = {
    "womd_json": ("womd_json", 4, 0.75),
    "womd_scenarionet_pkl": ("scenarionet", 6, 0.8),
    "nuscenes_mini_scenarionet": ("scenarionet", 2, 0.5),
    "commonroad_sind": ("commonroad", 12, 0.9),
    "commonroad_ngsim": ("commonroad", 2, 1.0),
}
"""Reader, how many scenes are tried, and the least share of them that become roads."""


@cache
def roads_of(folder: Path) -> tuple[list[tuple[Scene, Future, SceneRoad]], list[str]]:
    """One scene a log, as a road, and why the others are none."""
    name, count, _ = SETS[folder.name]
    found, reasons = [], []
    logs = (log for path in reader(name).paths(folder) for log in reader(name).read(path))
    for log in logs:
        config = WindowConfig(ego="recorded" if log.recorded_ego is not None else "any")
        for scene, future in islice(cut(log, config), 1):
            try:
                found.append((scene, future, scene_road(scene, future)))
            except InputError as error:
                reasons.append(str(error))
        if len(found) + len(reasons) >= count:
            break
    return found, reasons


@pytest.fixture(params=list(SETS))
def roads(request: pytest.FixtureRequest, real_data: Path) -> tuple[list[tuple[Scene, Future, SceneRoad]], list[str]]:
    if not (real_data / request.param).is_dir():
        pytest.skip(f"{request.param} is not there")
    return roads_of(real_data / request.param)


def test_most_real_scenes_become_roads(
    roads: tuple[list[tuple[Scene, Future, SceneRoad]], list[str]], request: pytest.FixtureRequest
) -> None:
    found, reasons = roads
    share = len(found) / (len(found) + len(reasons))
    assert share >= SETS[request.node.callspec.params["roads"]][2], reasons


def test_real_routes_are_where_the_log_was(roads: tuple[list[tuple[Scene, Future, SceneRoad]], list[str]]) -> None:
    every = np.concatenate([made.deviation[1:][~made.start.stands[1:]] for _, _, made in roads[0]])
    assert np.median(every) < 0.1
    assert np.percentile(every, 95) < 0.35
    apart, turned = [], []
    for scene, _, made in roads[0]:
        now = scene.agents.states[made.agents, -1]
        apart.append(np.hypot(made.start.x[1:] - now[:, 0], made.start.y[1:] - now[:, 1]))
        fast = (made.start.speed[1:] > 3.0) & (made.start.kind[1:] == Kind.VEHICLE)
        # Half a turn makes no difference to a box.
        turned.append(np.abs(np.sin(made.start.yaw[1:] - now[:, 2]))[fast])
    assert np.percentile(np.concatenate(apart), 98) < 0.25
    assert np.median(np.concatenate(turned)) < 0.05


def test_real_speeds_are_the_logged_ones(roads: tuple[list[tuple[Scene, Future, SceneRoad]], list[str]]) -> None:
    errors, wants = [], []
    for scene, future, made in roads[0]:
        logged = np.hypot(*scene.agents.states[made.agents, -1, 3:5].T)
        moves = ~made.start.stands[1:]
        errors.append((made.start.speed[1:] - logged)[moves])
        for row in np.flatnonzero(moves):
            agent = int(made.agents[row])
            top = np.hypot(*future.agents.states[agent, future.agents.valid[agent], 3:5].T)
            if len(top) > 30 and np.median(top) > 3.0:
                wants.append(made.road.routes[row + 1].speeds.max() / np.percentile(top, 95))
    every = np.abs(np.concatenate(errors))
    assert np.median(every) < 0.3
    assert np.percentile(every, 90) < 1.0
    assert 0.9 < np.median(wants) < 1.25  # wishes are not below what was driven, nor far above it


def test_real_routes_fit_the_tables(roads: tuple[list[tuple[Scene, Future, SceneRoad]], list[str]]) -> None:
    for _, _, made in roads[0]:
        for route, speed in zip(made.road.routes, made.start.speed):
            steps = np.hypot(*np.diff(route.points, axis=0).T)
            assert len(route.points) == len(route.speeds) <= MOST_VERTICES
            assert (steps > 0.0).all()
            assert steps.sum() <= LONGEST_M + 1e-6
            assert steps.sum() >= min(8.0 * speed, LONGEST_M - 1.0)
            assert (route.speeds > 0.3).all()
    pack(roads[0][0][2].road, Sizes(routes=roads[0][0][2].rows, spawns=1, zones=1, moments=FUTURE_STEPS + 1))


def test_real_lights_hold_back_those_who_really_waited(real_data: Path) -> None:
    """Were lights given to the wrong lanes, lines would be passed at red as often as at green."""
    red = green = waited = 0
    for name in ("womd_scenarionet_pkl", "commonroad_sind"):
        if not (real_data / name).is_dir():
            pytest.skip(f"{name} is not there")
        for _, future, made in roads_of(real_data / name)[0]:
            red += made.unruled
            for row, route in enumerate(made.road.routes[1:]):
                if route.group < 0:
                    continue
                agent = int(made.agents[row])
                states, valid = future.agents.states[agent], future.agents.valid[agent]
                line = shapely.LineString(route.points)
                front = (
                    shapely.line_locate_point(line, shapely.points(states[:, :2])) + 0.5 * made.start.length[row + 1]
                )
                light = made.road.signal.states[route.group, 1:]
                past = valid & (front > route.stop + 0.5)
                if past.any():
                    green += light[np.flatnonzero(past)[0]] != Light.RED
                standing = valid & (np.hypot(states[:, 3], states[:, 4]) < 0.3) & (light == Light.RED)
                waited += bool((standing & (route.stop - front < 30.0)).any())
    assert waited >= 10
    assert green >= 5
    assert red <= 0.4 * (red + green)
