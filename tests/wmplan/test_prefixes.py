"""Shared prefixes: what the tree holds, and that imagination with and without it has the same bytes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import experiments
from wmplan.models import load_model
from wmplan.models.prefixes import prefix_order, prefix_tree
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import rasterize
from wmplan.testing.scenes import Body, straight_road

NANO = Path(experiments.__file__).parent / "checkpoints" / "nano"
PARTS = ("occupancy", "velocity", "latents")
SHAPES = st.tuples(st.integers(0, 9), st.integers(2, 5), st.just(4))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return load_model(NANO)


@pytest.fixture(scope="module")
def context(model):
    bodies = [Body(9.0 * i - 20.0, (-3.5, 3.5, 0.0)[i % 3], speed=4.0 + i) for i in range(6)]
    return model.encode(rasterize(straight_road(bodies, 8.0, "scene")[0], model.grid))


def tree_plans(choices: int, seed: int = 0) -> Plans:
    """Plans of three stages of two imagined steps, all combinations of `choices` controls a stage."""
    rng = np.random.default_rng(seed)
    stage = rng.normal(size=(3, choices, 2)) * [2.0, 0.02]
    rows = [np.repeat([stage[s, c] for s, c in enumerate(pick)], 10, axis=0) for pick in
            itertools.product(range(choices), repeat=3)]  # fmt: skip
    return Plans.from_controls(np.stack(rows), 8.0)


def same(a, b) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in PARTS)


# --------------------------------------------------------------------------------------------------- the tree


@given(hnp.arrays(np.float32, SHAPES, elements=st.sampled_from([0.0, 1.0])))
@settings(max_examples=60)
def test_candidates_share_a_node_exactly_where_all_states_so_far_are_equal(states):
    tree = prefix_tree(states)
    count, steps = states.shape[0], states.shape[1] - 1
    for t in range(steps):
        paths = [states[k, : t + 2].tobytes() for k in range(count)]
        first = list(dict.fromkeys(paths))
        assert tree.nodes[:, t].tolist() == [first.index(path) for path in paths]
        assert tree.leaders[t].tolist() == [paths.index(path) for path in first]
        if t:
            assert tree.parents[t].tolist() == [int(tree.nodes[k, t - 1]) for k in tree.leaders[t]]
        else:
            assert not tree.parents[t].any()
    assert tree.steps == sum(len({states[k, : t + 2].tobytes() for k in range(count)}) for t in range(steps))


def test_a_later_difference_in_the_same_place_is_another_node():
    states = np.zeros((2, 4, 4), np.float32)
    states[0, 1, 0] = 1.0  # apart at step 1, in one place again at steps 2 and 3
    assert prefix_tree(states).nodes.tolist() == [[0, 0, 0], [1, 1, 1]]


@given(st.permutations(range(27)))
@settings(max_examples=20)
def test_prefix_order_puts_subtrees_side_by_side(order):
    states = tree_plans(3).states[order][:, ::5]
    sorted_states = states[prefix_order(states)]
    for t in range(1, 7):
        paths = [row.tobytes() for row in sorted_states[:, : t + 1]]
        assert len([1 for a, b in itertools.pairwise(paths) if a != b]) + 1 == len(set(paths))


# ------------------------------------------------------------------------------------------------ imagination


def test_shared_prefixes_give_the_bytes_of_unshared_ones(model, context):
    plans, noise = tree_plans(3), NoiseBank(3, 3)
    shared = model.imagine(context, plans, noise)
    assert shared.steps == 3 * 2 * (3 + 9 + 27)
    for rows in ([0], [13], [26], [25, 2, 10]):  # one alone shares nothing; nor do these three
        alone = model.imagine(context, plans.select(rows), noise)
        assert alone.steps == len(rows) * 3 * 6
        for part in PARTS:
            assert torch.equal(getattr(alone, part), getattr(shared, part)[rows])
    whole = model.imagine(context, plans.select(list(range(27))[::-1]), noise)
    for part in PARTS:
        assert torch.equal(getattr(whole, part).flip(0), getattr(shared, part))


def test_equal_candidates_are_imagined_once(model, context):
    plans = tree_plans(2, 5).select([3, 3, 0, 3])
    imagined = model.imagine(context, plans, NoiseBank(0, 2))
    assert imagined.steps == 2 * (2 + 4 + 4), "two distinct ones, their first stage in common"
    assert torch.equal(imagined.occupancy[0], imagined.occupancy[3])
    assert not torch.equal(imagined.occupancy[0], imagined.occupancy[2])


def test_a_broken_candidate_takes_no_part_in_the_tree(model, context):
    plans = tree_plans(2, 1)
    broken = plans.states.copy()
    broken[0, 17:] = np.nan  # the first of its prefixes' nodes
    imagined = model.imagine(context, Plans(plans.controls, broken), NoiseBank(0, 2))
    assert torch.isnan(imagined.occupancy[0]).all()
    whole = model.imagine(context, plans, NoiseBank(0, 2))
    assert torch.equal(imagined.occupancy[1:], whole.occupancy[1:])


def test_a_rows_place_in_its_pass_does_not_matter(model, context):
    """What sharing rests on: a row's bytes are the same at every place of a pass, whatever the other rows are."""
    target, others = tree_plans(1), tree_plans(4, 9)
    alone = model.imagine(context, target, NoiseBank(3, 1))
    for place in range(0, 32, 5):
        rows = np.random.default_rng(place).permutation(64)[:31]
        companions = others.select(rows)
        plans = Plans.concatenate([companions.select(slice(0, place)), target, companions.select(slice(place, 31))])
        found = model.imagine(context, plans, NoiseBank(3, 1))
        assert torch.equal(found.occupancy[place], alone.occupancy[0])
        assert torch.equal(found.latents[place], alone.latents[0])
