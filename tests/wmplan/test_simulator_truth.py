"""Executed candidates: the follower reacts, nobody else can know, and bad plans are refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmplan.errors import InputError
from wmplan.simulator import maps
from wmplan.simulator.drivers import TWIN, shifted
from wmplan.simulator.network import Network, stack
from wmplan.simulator.packing import pack
from wmplan.simulator.populate import reset
from wmplan.simulator.state import State
from wmplan.simulator.truth import execute

STEPS = 40
WORLDS = 24
ACCELS = (-6.0, -3.0, 0.0, 0.0, 2.0)


@pytest.fixture(scope="module")
def network() -> Network:
    return stack([pack(maps.MAPS["straight"](seed)) for seed in range(WORLDS)])


@pytest.fixture(scope="module")
def followed(network) -> State:
    """A straight road with somebody close behind the ego and somebody who cannot see it."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(7), i))(jnp.arange(WORLDS))
    worlds = jax.jit(reset)(network, jnp.arange(WORLDS, dtype=jnp.int32), keys)
    for w in range(WORLDS):
        state = jax.tree.map(lambda leaf, w=w: leaf[w], worlds)
        gaps = np.asarray(state.s[0] - state.s)[same_lane(state) & behind(state)]
        if gaps.size and gaps.min() < 40.0 and float(state.speed[0]) > 8.0 and oncoming(network, state).sum() >= 1:
            return state
    pytest.fail("no straight world has a follower")


def same_lane(state: State) -> np.ndarray:
    others = np.arange(len(state.s)) > 0
    return np.asarray(state.active & (state.route == state.route[0])) & others


def behind(state: State) -> np.ndarray:
    return np.asarray(state.s < state.s[0])


def oncoming(network: Network, state: State) -> np.ndarray:
    """Whoever drives on the other half of the road: no chain of cause and effect leads there."""
    against = np.asarray(state.cos * state.cos[0] + state.sin * state.sin[0]) < -0.5
    return np.asarray(state.active) & against


@pytest.fixture(scope="module")
def truth(network, followed):
    return execute(network, followed, np.array([[[a, 0.0]] * STEPS for a in ACCELS])).numpy()


def test_the_follower_reacts_and_in_the_right_order(followed, truth):
    rows = np.flatnonzero(same_lane(followed) & behind(followed))
    follower = rows[np.argmax(np.asarray(followed.s)[rows])]
    way = np.hypot(truth.x[-1] - truth.x[0], truth.y[-1] - truth.y[0])[:, follower]
    assert way[0] < way[1] - 0.5
    assert way[1] < way[2] - 0.5
    assert way[2] <= way[4] + 1e-3


def test_no_spooky_effect(network, followed, truth):
    """Bit for bit the same under every action of the ego; and this says something, for others are not."""
    blind = oncoming(network, followed)
    others = np.asarray(followed.active) & ~blind
    for k in range(1, len(ACCELS)):
        for name in ("x", "y", "speed"):
            values = getattr(truth, name)
            assert np.array_equal(values[:, k][:, blind], values[:, 0][:, blind])
    assert not np.array_equal(truth.x[:, 0][:, others], truth.x[:, 4][:, others])


def test_equal_candidates_have_equal_outcomes(truth):
    for name in ("x", "y", "cos", "speed", "s"):
        assert np.array_equal(getattr(truth, name)[:, 2], getattr(truth, name)[:, 3])


@pytest.mark.parametrize("alone", [0, 1, 4])
def test_a_candidate_alone_is_the_candidate_among_others(network, followed, truth, alone):
    """Bit for bit, also in another shape of arrays."""
    controls = np.array([[[ACCELS[alone], 0.0]] * STEPS])
    single = execute(network, followed, controls).numpy()
    for name in ("x", "y", "cos", "sin", "speed", "active", "s", "lateral"):
        assert np.array_equal(getattr(single, name)[:, 0], getattr(truth, name)[:, alone])


def test_the_twin_drives_otherwise(network, followed, truth):
    other = followed._replace(drivers=shifted(followed.drivers, TWIN))
    twin = execute(network, other, np.array([[[a, 0.0]] * STEPS for a in ACCELS])).numpy()
    assert np.abs(twin.x - truth.x)[-1].max() > 0.5
    assert np.array_equal(twin.x[:, :, 0], truth.x[:, :, 0]), "the ego does as told on both"


def test_nothing_is_compiled_for_other_plans_or_another_map(network, followed):
    from wmplan.simulator import truth as module

    controls = np.zeros((len(ACCELS), STEPS, 2))
    execute(network, followed, controls)
    before = module._execute._cache_size()
    execute(network, followed._replace(road=jnp.int32(3)), controls + 0.2)
    execute(stack([pack(maps.MAPS["straight"](100 + i)) for i in range(WORLDS)]), followed, controls)
    assert module._execute._cache_size() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.__setitem__((1, 3, 0), np.nan), r"controls\[1, 3, 0\]: nan, expected a finite number"),
        (lambda c: c.__setitem__((2, 0, 0), -9.0), r"controls\[2, 0\]: acceleration -9, expected at most 6"),
        (lambda c: c.__setitem__((0, 5, 1), 0.5), r"controls\[0, 5\]: curvature 0.5, expected at most 0.3"),
    ],
)
def test_bad_plans_are_refused_before_anything_is_compiled(network, followed, change, said):
    controls = np.zeros((3, 7, 2))
    change(controls)
    with pytest.raises(InputError, match=said):
        execute(network, followed, controls)


def test_plans_of_a_wrong_shape_are_refused(network, followed):
    with pytest.raises(InputError, match=r"shape \(3, 7\), expected \(K, T, 2\)"):
        execute(network, followed, np.zeros((3, 7)))
