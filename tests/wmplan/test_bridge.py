"""The bridge: layouts, keys with all their bits, costs that cannot win by being broken, nothing shared."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import torch

from wmplan import bridge
from wmplan.plans import Plans


def test_layout_there_and_back():
    controls = np.random.default_rng(0).normal(size=(5, 30, 2)).astype(np.float32)
    inside = bridge.controls_to_jax(controls)
    assert inside[7, 1, 3] == controls[3, 7, 1]
    np.testing.assert_array_equal(bridge.controls_to_numpy(inside), controls)


def test_plans_are_those_of_the_controls():
    controls = np.random.default_rng(1).normal(size=(4, 30, 2)).astype(np.float32)
    plans = bridge.plans_of(bridge.controls_to_jax(controls), 7.0)
    assert plans.states.tobytes() == Plans.from_controls(controls, 7.0).states.tobytes()


def test_every_half_of_the_seed_counts():
    seeds = (1, 1 + 2**32, 1 + 2**62, 2)
    drawn = {float(jax.random.normal(bridge.random_key(seed))) for seed in seeds}
    assert len(drawn) == len(seeds)
    assert jax.random.normal(bridge.random_key(5)) == jax.random.normal(bridge.random_key(5))


def test_broken_costs_become_infinite():
    costs = np.array([1.0, np.nan, -np.inf, np.inf, 1e300])
    for given in (costs, torch.from_numpy(costs)):
        np.testing.assert_array_equal(bridge.costs_to_jax(given), [1.0, np.inf, np.inf, np.inf, np.inf])


def test_costs_and_tensors_with_gradients_cross():
    tensor = torch.arange(6.0, requires_grad=True).reshape(2, 3).T
    np.testing.assert_array_equal(bridge.tensor_to_jax(tensor), tensor.detach().numpy())
    np.testing.assert_array_equal(bridge.costs_to_jax(tensor[:, 0]), [0.0, 1.0, 2.0])


def test_nothing_is_shared():
    tensor = torch.zeros(4)
    array = bridge.tensor_to_jax(tensor)
    tensor += 1.0
    np.testing.assert_array_equal(array, 0.0)
    array = jnp.arange(4.0)
    bridge.jax_to_tensor(array).add_(5.0)
    np.testing.assert_array_equal(array, [0.0, 1.0, 2.0, 3.0])
    controls = bridge.controls_to_numpy(jnp.zeros((3, 2, 4)))
    controls += 1.0
