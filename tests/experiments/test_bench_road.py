"""What `bench road` measures with: known growth, counted compilations, a crowd that fills its rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench.road_crowd import crowd
from experiments.bench.road_outcomes import some_candidates
from experiments.bench.timing import Compilations, exponent, timed


def test_exponent():
    sizes = (8, 16, 64)
    assert exponent(sizes, [3.0 * size**1.5 for size in sizes]) == pytest.approx(1.5)


def test_compilations_are_counted_only_when_they_happen():
    double = jax.jit(lambda x: 2.0 * x)
    few, many = jnp.ones(3), jnp.ones(4)
    with Compilations() as first:
        double(few)
    with Compilations() as again:
        double(few)
    with Compilations() as other:
        double(many)
    assert (first.count, again.count, other.count) == (1, 0, 1)
    assert timed(double, (jnp.ones(5),)).recompiled == 0


def test_a_crowd_fills_every_row_and_nobody_touches():
    network, worlds = crowd(32, 3)
    assert worlds.active.shape == (3, 32)
    assert bool(worlds.active.all())
    assert network.length.shape == (1, 32)
    x, y = np.asarray(worlds.x[0]), np.asarray(worlds.y[0])
    apart = (np.abs(x[:, None] - x) > 4.5) | (np.abs(y[:, None] - y) > 1.9) | np.eye(32, dtype=bool)
    assert apart.all()


def test_candidates_differ_and_hold_their_controls_for_a_second():
    found = some_candidates(8, 25)
    assert found.shape == (8, 25, 2)
    np.testing.assert_array_equal(found[:, 0], found[:, 9])
    assert (found[:, 9] != found[:, 10]).all()
    assert len(np.unique(found[:, 0, 0])) == 8
