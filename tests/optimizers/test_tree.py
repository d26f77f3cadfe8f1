"""The tree of manoeuvres: leaves that share beginnings to the bit, drivable, and few steps to imagine."""

from __future__ import annotations

import numpy as np
import pytest
from planning_cases import arc_start, straight_start

from optimizers import Tree, TreeConfig
from optimizers.tree import ACTIONS, ALONE, branches, stage_steps
from wmplan.models.prefixes import prefix_tree
from wmplan.plans import Plans

STARTS = [straight_start(), arc_start(30.0, speed=5.0, offset_m=0.5), straight_start(speed=25.0)]


def proposed(config: TreeConfig, start):
    tree = Tree(config)
    return tree.ask(0, tree.init(0, start))


@pytest.mark.parametrize("start", STARTS, ids=["straight", "arc", "fast"])
def test_leaves_share_their_beginnings_to_the_bit_and_part_after(start):
    proposal = proposed(TreeConfig(), start)
    first, second, third = branches(128)
    leaves = Plans.from_controls(proposal.controls, start.speed).controls[: first * second * third]
    ends = np.cumsum(stage_steps(30))
    for stage, count in enumerate((first, first * second, first * second * third)):
        nodes = leaves[:, : ends[stage]].reshape(count, -1, ends[stage], 2)
        assert (nodes == nodes[:, :1]).all()
        distinct = {node[0].tobytes() for node in nodes}
        assert len(distinct) == count, "every choice leads somewhere else"


@pytest.mark.parametrize("start", STARTS, ids=["straight", "arc", "fast"])
def test_less_than_half_of_the_steps_are_left(start):
    budget = 128
    proposal = proposed(TreeConfig(budget=budget), start)
    plans = Plans.from_controls(proposal.controls, start.speed)
    steps = prefix_tree(plans.states[:, ::5]).steps
    # The tree alone: 2 (n1 + n1 n2 + n1 n2 n3) of 6 n1 n2 n3 steps, fewer where plans stand still.
    n1, n2, n3 = branches(budget)
    beside = budget - n1 * n2 * n3
    assert steps <= 2 * (n1 + n1 * n2 + n1 * n2 * n3) + 6 * beside
    assert steps <= 6 * budget / 2


def test_drivable_where_the_limits_allow_and_accelerations_as_chosen():
    start = straight_start(speed=12.0)
    proposal = proposed(TreeConfig(), start)
    assert (proposal.infeasible == 0).all()
    first, second, third = branches(128)
    accel = proposal.controls[: first * second * third, :, 0].reshape(first, second, third, 30)
    wanted = np.float32([a for a, _ in ACTIONS])
    assert np.array_equal(accel[:, 0, 0, 0], wanted[:first])
    assert np.array_equal(accel[0, :, 0, 10], wanted[:second])
    assert np.array_equal(accel[0, 0, :, 20], wanted[:third])


def test_offsets_are_reached_on_the_side_that_was_asked():
    start = straight_start(speed=10.0)
    plans = Plans.from_controls(proposed(TreeConfig(), start).controls, start.speed)
    ends = plans.states[:125, -1, 1].reshape(5, 5, 5)
    # Actions 3 and 4 hold the speed half a lane to the left and to the right, all three stages long.
    assert 1.0 < ends[3, 3, 3] < 2.0
    assert -2.0 < ends[4, 4, 4] < -1.0
    assert abs(ends[0, 0, 0]) < 0.05


def test_branches_fit_the_budget():
    for budget in range(10, 5000, 7):
        n1, n2, n3 = branches(budget)
        assert 0.5 * min(budget, 4096) < n1 * n2 * n3 + ALONE <= budget
        assert len(ACTIONS) >= n1 >= n2 >= n3 >= 2


@pytest.mark.parametrize("horizon", [15, 20, 30, 33, 80])
def test_stages_end_with_imagined_steps(horizon):
    steps = stage_steps(horizon)
    assert sum(steps) == horizon
    assert all(step >= 5 for step in steps)
    assert steps[0] % 5 == steps[1] % 5 == 0


def test_impossible_tree_is_refused():
    with pytest.raises(ValueError, match="horizon_steps is 14, expected 15 or more"):
        TreeConfig(horizon_steps=14)
    with pytest.raises(ValueError, match="budget is 9, expected 10 or more"):
        TreeConfig(budget=9)
