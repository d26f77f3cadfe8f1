"""Pairs with other actions: they begin alike, the first is the log, the rest is what the simulator makes of a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wmplan import bicycle
from wmplan.contracts import GRIDS, RASTER_HISTORY
from wmplan.errors import InputError
from wmplan.models.training import Examples
from wmplan.models.training.counterfactual import along_path, counterfactuals
from wmplan.models.training.losses import reaction_loss
from wmplan.models.training.mixing import Sampler, reaction
from wmplan.scene import STEP_S
from wmplan.simulator.reader import SimulatorReader
from wmplan.windows import WindowConfig, cut

GRID = GRIDS["nano"]
STEPS, PLANS = 30, 4


@pytest.fixture(scope="module")
def moment():
    reader = SimulatorReader()
    log = next(reader.read(reader.paths(Path("simulator:n=6,seed=3"))[5]))
    return next(cut(log, WindowConfig()))


@pytest.fixture(scope="module")
def pairs(moment):
    return list(counterfactuals([moment], PLANS, STEPS, seed=1))


def test_the_first_pair_is_the_log_and_the_others_are_not(moment, pairs):
    scene, future = moment
    assert [s.scene_id for s, _ in pairs] == [f"{scene.scene_id}/do{k}" for k in range(PLANS)]
    assert {s.group for s, _ in pairs} == {scene.group}
    for name, logged, made in (
        ("ego", future.ego, pairs[0][1].ego), ("agents", future.agents, pairs[0][1].agents)
    ):  # fmt: skip
        assert made.ids == logged.ids
        both = made.valid[:, :STEPS] & logged.valid[:, :STEPS]
        assert both.sum() > 0.9 * logged.valid[:, :STEPS].sum(), name
        away = np.hypot(*np.moveaxis(made.states[:, :STEPS, :2] - logged.states[:, :STEPS, :2], -1, 0))
        assert away[both].max() < 0.2, name
        assert not made.valid[:, STEPS:].any()
    # The second brakes hard: the ego stays far behind, and what it did is what its states say.
    braked = pairs[1][1].ego.states[0, :STEPS].astype(np.float64)
    assert braked[-1, 0] < future.ego.states[0, STEPS - 1, 0] - 2.0
    speed = np.hypot(braked[:, 3], braked[:, 4])
    falling = np.diff(speed)[(speed[1:] > 0.1)] / STEP_S
    assert (falling < -3.9).all()
    assert (falling > -6.1).all()


def test_pairs_follow_from_the_seed_alone(moment, pairs):
    again = list(counterfactuals([moment], PLANS, STEPS, seed=1))
    other = list(counterfactuals([moment], PLANS, STEPS, seed=2))
    for k in range(PLANS):
        assert np.array_equal(pairs[k][1].ego.states, again[k][1].ego.states)
        assert np.array_equal(pairs[k][1].agents.states, again[k][1].agents.states)
        assert np.array_equal(pairs[k][1].ego.states, other[k][1].ego.states) == (k == 0)


def test_only_scenes_of_the_simulators_own_ego_go_on_otherwise(moment):
    scene, future = moment
    with pytest.raises(InputError, match=r"its ego is 'ego' of womd, expected the simulator's own"):
        next(counterfactuals([(replace(scene, dataset="womd"), future)], PLANS, STEPS))


def test_another_acceleration_bends_where_the_path_did():
    logged = np.zeros((60, 2))
    logged[20:40, 1] = 0.05  # a bend from 20 m to 40 m at 10 m/s
    braking = along_path(logged, 10.0, np.full(60, -1.0))
    states = bicycle.forward(np.array([0.0, 0.0, 0.0, 10.0]), braking, STEP_S)
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(states[:, :2], axis=0).T))])
    bent = np.flatnonzero(braking[:, 1])
    assert way[bent[0]] == pytest.approx(20.0, abs=1.0)
    assert way[bent[-1] + 1] == pytest.approx(40.0, abs=1.0)
    assert along_path(logged, 10.0, logged[:, 0]) == pytest.approx(logged)


# ------------------------------------------------------------------------------------------------- batches


def mixture(moved: dict[int, float], logs: int = 30, scenes: int = 20, plans: int = 3) -> Examples:
    """Logs, and counterfactuals of scenes with one car ahead that plan 1 moves back by `moved[scene]` in the end."""
    names = [f"log{i}" for i in range(logs)] + [f"s{i}/do{k}" for i in range(scenes) for k in range(plans)]
    count, frames = len(names), RASTER_HISTORY + 2
    states = np.zeros((count, frames, 2, 5), np.float32)
    states[:, :, 0, 0] = 20.0
    states[:, :, 1, 1] = 9.0
    for scene, metres in moved.items():
        states[logs + scene * plans + 1, -1, 0, 0] -= metres
    rows = states[logs + 1 :: plans]
    rows[:, :] = rows[:, :, ::-1]  # the plan changes the order in which agents are kept
    states[logs + 1 :: plans] = rows
    ego = np.zeros((count, frames, 4), np.float32)
    return Examples(
        tuple(names), tuple(names), np.zeros((count, 8, GRID.rows, GRID.cols), np.uint8),
        np.ones((count, GRID.rows, GRID.cols), np.uint8), states, np.tile(np.float32([4.5, 2.0]), (count, 2, 1)),
        np.zeros((count, 2), np.int8), np.ones((count, frames, 2), bool), ego,
        np.tile(np.float32([4.5, 2.0]), (count, 1)), GRID,
    )  # fmt: skip


def test_batches_hold_pairs_of_a_scene_by_their_share():
    examples = mixture({3: 2.0})
    sampler = Sampler(examples, 8, 0.5)
    drawn = [sampler.draw(np.random.default_rng(i)) for i in range(200)]
    for rows, mirror in drawn:
        names = [examples.scene_ids[i] for i in rows]
        for first in (0, 2):
            assert names[first].split("/")[0] == names[first + 1].split("/")[0]
            assert names[first] != names[first + 1]
            assert mirror[first] == mirror[first + 1]
        assert all(name.startswith("log") for name in names[4:])
        scenes = examples.batch(rows, mirror).scenes.tolist()
        assert scenes[0] == scenes[1] and scenes[2] == scenes[3]  # noqa: PT018
        assert len(set(scenes[4:]) & set(scenes[:4])) == 0
    # One scene of twenty reacts, and is drawn as often as eight others: 8 / 27 of the pairs.
    often = np.mean([examples.scene_ids[rows[i]].startswith("s3/") for rows, _ in drawn for i in (0, 2)])
    assert often == pytest.approx(8.0 / 27.0, abs=0.05)
    assert reaction(examples, np.arange(39, 42)) == pytest.approx(2.0)
    assert reaction(examples, np.arange(30, 33)) == pytest.approx(0.0, abs=1e-6)


def test_only_one_kind_of_examples_fills_the_batch():
    examples = mixture({})
    logs, pairs = examples.select(np.arange(30)), examples.select(np.arange(30, 90))
    assert len(Sampler(logs, 8, 0.5).draw(np.random.default_rng(0))[0]) == 8
    rows, _ = Sampler(pairs, 8, 0.5).draw(np.random.default_rng(0))
    assert len(rows) == 8
    again = Examples.concatenate([logs, pairs])
    assert again.digest == examples.digest


def test_reactions_are_compared_and_common_errors_are_not():
    place = torch.zeros(4, 30, 2)
    place[1, :10, 0] = -3.0  # under the second action ten particles are 3 m back
    told, scenes = torch.ones(4, 30, dtype=torch.bool), torch.tensor([0, 0, 2, 3])

    def loss(position):
        return float(reaction_loss(position, place, told, scenes, GRID))

    common = torch.randn(1, 30, 2)
    assert loss(place + torch.cat([common, common, 5.0 * common, -common])) < 1e-3  # rows 2 and 3 are no pair
    blind = place.clone()
    blind[1] = place[0]
    assert loss(blind) == pytest.approx(0.5 * 10 / 20 * (3.0 - 0.25), rel=1e-3)
    spooky = place.clone()
    spooky[1, 10:, 1] += 1.0
    assert loss(spooky) == pytest.approx(0.5 * 20 / 20 * (1.0 - 0.25), rel=1e-2)
