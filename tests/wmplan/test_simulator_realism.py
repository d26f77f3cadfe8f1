"""Realism: features with known values, likelihoods by hand, and scenes whose outcome is known driven again."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import shapely

from wmplan.boxes import corners
from wmplan.errors import InputError
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, STEP_S, RoadMap
from wmplan.simulator import realism, sim_agents
from wmplan.simulator.sim_agents import ROUNDED, SCALES, Feature, Traces
from wmplan.testing.scenes import Body, straight_road


def traces(x: np.ndarray, y: np.ndarray, yaw: np.ndarray, length: float = 4.0, width: float = 2.0) -> Traces:
    """One rollout of A boxes of one size, always there."""
    count = len(x)
    sizes = np.full(count, length), np.full(count, width)
    return Traces(x[None], y[None], yaw[None], *sizes, np.ones((1, *x.shape), dtype=bool))


def test_distance_between_boxes_is_that_of_their_rounded_shapes() -> None:
    draw = np.random.default_rng(1)
    yaw, other = draw.uniform(-np.pi, np.pi, (2, 300))
    dx, dy = draw.uniform(-8.0, 8.0, (2, 300))
    size, theirs = draw.uniform(0.5, 5.0, (2, 2, 300))
    found = sim_agents.rounded_distance((dx, dy, yaw), other, (size[0], size[1]), (theirs[0], theirs[1]))
    checked = 0
    for i in range(300):
        shapes = []
        for x, y, turned, sides in ((dx[i], dy[i], yaw[i], size[:, i]), (0.0, 0.0, other[i], theirs[:, i])):
            radius = 0.5 * ROUNDED * min(sides)
            inner = np.array([x, y, turned, sides[0] - 2.0 * radius, sides[1] - 2.0 * radius])
            shapes.append(shapely.Polygon(corners(inner)).buffer(radius, quad_segs=64))
        apart = shapes[0].distance(shapes[1])
        if apart > 0.0:
            assert found[i] == pytest.approx(apart, abs=2e-3)
            checked += 1
        else:
            assert found[i] < 2e-3
    assert 50 < checked < 300


def test_depth_of_an_overlap_is_the_shortest_way_out() -> None:
    sides = np.array([4.0]), np.array([2.0])
    for dx, dy, depth in ((0.0, 1.5, 0.5), (3.8, 0.0, 0.2)):
        place = (np.array([dx]), np.array([dy]), np.array([0.0]))
        found = sim_agents.rounded_distance(place, np.array([0.0]), sides, sides)
        assert found[0] == pytest.approx(-depth)


def test_kinematics_of_a_circle() -> None:
    radius, rate = 20.0, 0.4
    t = STEP_S * np.arange(40)
    speed, rise, turn, swing = sim_agents.kinematics(
        radius * np.cos(rate * t), radius * np.sin(rate * t), rate * t + np.pi / 2
    )
    chord = np.sinc(rate * STEP_S / np.pi)
    np.testing.assert_allclose(speed[1:-1], radius * rate * chord, rtol=1e-9)
    np.testing.assert_allclose(turn[1:-1], rate, rtol=1e-9)
    np.testing.assert_allclose(rise[2:-2], 0.0, atol=1e-9)
    np.testing.assert_allclose(swing[2:-2], 0.0, atol=1e-9)
    assert np.isnan(speed[[0, -1]]).all()
    assert np.isnan(rise[[0, 1, -2, -1]]).all()


def test_a_box_that_flips_does_not_turn() -> None:
    still = np.zeros(20)
    yaw = np.where(np.arange(20) < 10, 0.1, 0.1 + np.pi)
    turn = sim_agents.kinematics(still, still, yaw)[2]
    # Half a turn between two looks, halved by the central difference, is a quarter: doubled and wrapped, half a turn.
    assert np.nanmax(np.abs(turn)) <= 0.5 * np.pi / STEP_S + 1e-9
    np.testing.assert_allclose(turn[1:8], 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("lateral", "turned", "follows"),
    [(0.0, 0.0, True), (1.4, 0.5, True), (1.8, 0.0, True), (2.0, 0.2, False), (3.5, 0.0, False), (0.0, 1.4, False)],
)
def test_time_to_collision_with_whom_one_follows(lateral: float, turned: float, follows: bool) -> None:
    t = STEP_S * np.arange(11)
    x = np.stack([10.0 * t, 20.0 + 4.0 * np.cos(turned) * t])
    y = np.stack([0.0 * t, lateral + 4.0 * np.sin(turned) * (t - t[5])])
    found = traces(x, y, np.stack([0.0 * t, turned + 0.0 * t]))
    speed = sim_agents.kinematics(found.x, found.y, found.yaw)[0]
    ttc = sim_agents.time_to_collision(found, speed, np.array([0, 1]), 0)
    gap = 20.0 + 4.0 * np.cos(turned) * t[5] - 10.0 * t[5] - 2.0 - 2.0 * np.cos(turned) - np.sin(turned)
    assert ttc[0, 0, 5] == pytest.approx(gap / 6.0 if follows else sim_agents.TTC_CAP_S, rel=1e-6)
    assert (ttc[0, 1] == sim_agents.TTC_CAP_S).all()


def test_the_nearest_is_found_among_many() -> None:
    draw = np.random.default_rng(5)
    x, y, yaw = draw.uniform(-60.0, 60.0, (40, 6)), draw.uniform(-60.0, 60.0, (40, 6)), draw.uniform(-3.0, 3.0, (40, 6))
    found = traces(x, y, yaw)
    valid = draw.random(found.valid.shape) < 0.8
    found = replace(found, valid=valid)
    near = sim_agents.distance_to_nearest(found, np.arange(40), 2)
    for own in range(0, 40, 7):
        others = [i for i in range(40) if i != own and valid[0, i, 4]]
        one = np.ones(len(others))
        size = 4.0 * one, 2.0 * one
        relative = (x[own, 4] - x[others, 4], y[own, 4] - y[others, 4], yaw[own, 4] * one)
        assert near[0, own, 2] == pytest.approx(
            sim_agents.rounded_distance(relative, yaw[others, 4], size, size).min(), abs=1e-9
        )


def test_likelihood_by_hand() -> None:
    """Speeds of 0 to 25 m/s in ten bins: three of four samples in the first, one in the second; the log in both."""

    def feature(values: list[float]) -> Feature:
        return Feature(np.array([[values]]), np.ones((1, 1, len(values)), dtype=bool))

    empty = Feature(np.zeros((1, 1, 1)), np.zeros((1, 1, 1), dtype=bool))
    simulated = {name: empty for name in SCALES} | {"linear_speed": feature([0.1, 1.0, 2.4, 2.6])}
    logged = {name: empty for name in SCALES} | {"linear_speed": feature([2.0, 3.0])}
    simulated["collision"], logged["collision"] = feature([0.0, 0.0, 1.0, 0.0]), feature([0.0])
    found = sim_agents.likelihoods(simulated, logged)
    assert found["linear_speed"][0] == pytest.approx(0.5 * (np.log(3.1 / 5.0) + np.log(1.1 / 5.0)))
    assert found["collision"][0] == pytest.approx(np.log(3.001 / 4.002))
    assert np.isnan(found["angular_speed"][0])


def test_values_beyond_the_range_count_at_its_ends() -> None:
    value = Feature(np.array([[[80.0, 24.9]]]), np.ones((1, 1, 2), dtype=bool))
    empty = Feature(np.zeros((1, 1, 1)), np.zeros((1, 1, 1), dtype=bool))
    every = {name: empty for name in SCALES} | {"linear_speed": value}
    assert sim_agents.likelihoods(every, every)["linear_speed"][0] == pytest.approx(np.log(2.1 / 3.0))


@cache
def figures() -> dict[str, float]:
    """Two scenes that become roads, in which nobody but a leader changes speed, and one that does not."""
    steady = [Body(40.0, 0.0, speed=10.0), Body(5.0, 3.5, speed=10.0), Body(-30.0, -3.5, speed=10.0)]
    pair = straight_road(steady)
    alone = straight_road([Body(60.0, 0.0, speed=12.0)], name="alone")
    bare = replace(pair[0], road_map=RoadMap.build([])), pair[1]
    rows = realism.table([pair, alone, bare], rollouts=2)
    assert len({row.figure for row in rows}) == len(rows)
    return {row.figure: row.value for row in rows}


def test_refused_scenes_are_counted() -> None:
    assert figures()["realism: share of scenes that become roads"] == pytest.approx(2 / 3)
    assert figures()["realism: scenes refused, has no lanes"] == 1.0


def test_steady_traffic_drifts_little_and_its_paths_not_at_all() -> None:
    name = "realism: vehicles, 5 s: mean distance from the log, m"
    assert figures()[f"{name}, replayed (path alone)"] < 0.02
    assert figures()[f"{name}, constant velocity"] < 0.01
    assert 0.0 < figures()[f"{name}, reactive, best of 2"] < figures()[f"{name}, reactive"] < 3.0


def test_the_log_is_likelier_than_the_simulator_under_itself() -> None:
    for group in ("kinematic", "interactive"):
        name = f"realism: Sim Agents (2024, 2025) {group} features"
        assert 0.0 < figures()[f"{name}, simulator"] <= figures()[f"{name}, log against itself"] < 1.0
    assert figures()["realism: share of moving agents that touch anything, log against itself"] == 0.0


def test_the_ego_is_replayed() -> None:
    scene, future = straight_road()
    found = realism.replay(scene, future, 2)
    ahead = slice(HISTORY_STEPS + 1, None)
    np.testing.assert_allclose(found.traces.x[:, 0, ahead], found.logged.x[:, 0, ahead].repeat(2, 0), atol=0.05)
    assert (found.traces.x[:, :, : HISTORY_STEPS + 1] == found.logged.x[:, :, : HISTORY_STEPS + 1]).all()
    assert found.moving.tolist() == [1, 2, 3, 4]
    assert found.traces.x.shape == (2, 6, HISTORY_STEPS + 1 + FUTURE_STEPS)
    assert np.abs(found.traces.x[0, 1] - found.traces.x[1, 1]).max() > 0.01  # other drivers each time


def test_without_roads_there_is_no_table() -> None:
    scene, future = straight_road()
    with pytest.raises(InputError, match="none of 1 scenes became a road"):
        realism.table([(replace(scene, road_map=RoadMap.build([])), future)])
