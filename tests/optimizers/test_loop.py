"""The loop: what is evaluated, what is kept, what is chosen."""

from __future__ import annotations

import numpy as np
import pytest
from planning_cases import arc_start, simple_cost, straight_start

from optimizers import FINALISTS, OPTIMIZERS, make, plan
from wmplan.contracts import Proposal
from wmplan.plans import Plans


def price(round_, plans):
    return simple_cost(plans)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_reported_cost_is_the_plans_own_and_nothing_is_cheaper(name):
    start = arc_start(40.0, speed=7.0)
    found = plan(make(name), price, start, 5)
    chosen = found.plan()
    assert chosen is not None
    assert found.costs[found.chosen] == simple_cost(chosen)[0]
    assert found.costs[found.chosen] == found.costs.min()
    again = Plans.from_controls(chosen.controls, start.speed)
    assert again.states.tobytes() == chosen.states.tobytes()
    final = found.rounds == FINALISTS
    assert final.sum() >= 1
    assert np.isinf(found.costs[~found.evaluated]).all()
    assert (found.evaluated == (found.infeasible == 0)).all()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_same_scene_alone_or_after_others(name):
    optimizer = make(name)
    alone = plan(optimizer, price, straight_start(), 5)
    for radius in (25.0, -40.0):
        plan(optimizer, price, arc_start(radius, speed=9.0), 6)
    after = plan(optimizer, price, straight_start(), 5)
    assert after.plans.controls.tobytes() == alone.plans.controls.tobytes()
    assert after.costs.tobytes() == alone.costs.tobytes()
    assert after.chosen == alone.chosen


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_another_key_draws_other_samples(name):
    a, b = (plan(make(name), price, straight_start(), key) for key in (5, 5 + 2**40))
    assert (a.plans.controls[1] != b.plans.controls[1]).any()


def test_callback_sees_feasible_rows_in_order():
    seen: list[tuple[int, Plans]] = []

    def collect(round_, plans):
        seen.append((round_, plans))
        return simple_cost(plans)

    found = plan(make("lattice"), collect, straight_start(speed=14.0), 5)
    assert (found.infeasible != 0).any()
    joined = Plans.concatenate([plans for _, plans in seen])
    assert joined.controls.tobytes() == found.plans.controls[found.evaluated].tobytes()
    assert [round_ for round_, _ in seen] == [0, FINALISTS]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nothing_finite_gives_no_plan(name, value):
    found = plan(make(name), lambda round_, plans: np.full(len(plans), value), straight_start(), 5)
    assert found.chosen is None
    assert found.plan() is None
    assert (found.nonfinite == found.evaluated).all()
    assert np.isinf(found.costs).all()
    assert np.isfinite(found.plans.controls).all()


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_one_nan_is_counted_and_never_wins(name):
    cheapest = {}

    def spoiled(round_, plans):
        costs = simple_cost(plans)
        if round_ == 1:
            costs[17] = np.nan
            costs[18] = -np.inf
            cheapest["count"] = 2
        return costs

    found = plan(make(name), spoiled, straight_start(), 5)
    assert found.nonfinite.sum() == cheapest["count"]
    assert np.isfinite(found.plans.controls).all()
    assert found.costs[found.chosen] == simple_cost(found.plan())[0]
    clean = plan(make(name), price, straight_start(), 5)
    assert found.costs[found.chosen] <= 1.2 * clean.costs[clean.chosen]


class _Fixed:
    """An optimizer of one round whose rows are given."""

    name, digest, rounds, candidates, horizon_steps = "fixed", "", 1, 3, 30

    def __init__(self, controls, infeasible):
        self.proposal = Proposal(controls, np.array(infeasible, np.int32), ("a", "b", "c"))

    def init(self, key, start):
        return None

    def ask(self, key, state):
        return self.proposal

    def tell(self, state, controls, costs):
        return None

    def finalists(self, state):
        return Proposal(self.proposal.controls[:1], self.proposal.infeasible[:1], ("best",))


def test_rows_that_cannot_be_driven_or_rolled_are_not_evaluated():
    controls = np.zeros((3, 30, 2), np.float32)
    controls[1] = np.nan
    called = []

    def count(round_, plans):
        called.append(len(plans))
        return np.ones(len(plans))

    found = plan(_Fixed(controls, [0, 0, 8]), count, straight_start(), 0)
    assert called == [1, 1]
    assert found.nonfinite.tolist() == [False, True, False, False]
    assert found.evaluated.tolist() == [True, False, False, True]
    # The finalist ties with the sample it repeats, and is the one reported.
    assert found.labels[found.chosen] == "best"


def test_all_infeasible_calls_nobody():
    def never(round_, plans):
        raise AssertionError("evaluated")

    found = plan(_Fixed(np.zeros((3, 30, 2), np.float32), [1, 2, 4]), never, straight_start(), 0)
    assert found.chosen is None
    assert found.infeasible.tolist() == [1, 2, 4, 1]


def test_wrong_number_of_costs_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1,\), expected \(32,\)"):
        plan(make("cem"), lambda round_, plans: np.zeros(1), straight_start(), 0)
