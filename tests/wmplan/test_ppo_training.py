"""PPO in phases, and the potential that helps it to find other lanes."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmplan.errors import InputError
from wmplan.simulator.ego_view import LANE, OBSERVATION, OWN
from wmplan.simulator.promise import END_S, FOLLOW_S, promised
from wmplan.simulator.starts import MERGE, atlas, settled, with_ending


@pytest.fixture(scope="module")
def env():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("brax.envs.base")
    from wmplan.simulator.brax_env import make_env

    return make_env("merge", worlds=8, sizes=MERGE, ending=0.5)


def view(speed=15.0, limit=30.0, aside=0.0, gap=60.0, closing=0.0, end=150.0, may=(1.0, 1.0), beside=(60.0, 60.0)):
    """What an ego sees who is `aside` lane widths to the left; who is ahead drives `closing` faster."""
    seen = np.zeros((1, OBSERVATION), np.float32)
    seen[0, :9] = [speed / 15, limit / 15, speed / limit - 1, aside, abs(aside), 1 - gap / 60, closing / 10, 0, 0]
    seen[0, 8] = 1.0 - end / 150.0
    seen[0, 12:14] = may
    for i, front in enumerate(beside):
        seen[0, OWN + i * LANE : OWN + i * LANE + 2] = 1.0, 1.0 - front / 60.0
    return jnp.asarray(seen)


def test_lanes_promise_what_is_worked_out_by_hand():
    of = lambda **how: float(promised(view(**how))[0])  # noqa: E731
    assert of() == 1.0
    assert of(gap=20.0) == pytest.approx((15.0 + 20.0 / FOLLOW_S) / 30.0)
    assert of(gap=20.0, closing=-5.0) == pytest.approx((10.0 + 20.0 / FOLLOW_S) / 30.0)
    assert of(end=80.0) == pytest.approx(80.0 / END_S / 30.0)
    # The farther to the left, the more the lane there counts, and only if one may go there.
    own, left = of(gap=0.0), of(gap=40.0)
    assert of(gap=0.0, beside=(40.0, 0.0), aside=0.3) == pytest.approx(0.7 * own + 0.3 * left)
    assert of(gap=0.0, beside=(40.0, 0.0), aside=-0.3) == pytest.approx(own)
    assert of(gap=0.0, beside=(40.0, 0.0), aside=0.3, may=(0.0, 1.0)) == pytest.approx(own)
    # On the way the lane to the left becomes the own one, and the old one lies to the right.
    before = of(gap=0.0, beside=(40.0, 0.0), aside=0.55)
    assert of(gap=40.0, beside=(60.0, 0.0), aside=-0.45) == pytest.approx(before)


def test_the_potential_adds_to_a_drive_what_only_depends_on_its_ends(env):
    from wmplan.simulator.brax_env import together

    discount, weight, steps = 0.9, 3.0, 6
    shaped = together(env, 100, action_repeat=2, promise=weight, discount=discount)
    first = jax.jit(shaped.reset)(jax.random.split(jax.random.PRNGKey(0), 8))
    choices = jnp.linspace(-0.5, 0.5, 16).reshape(8, 2)
    one, last, more = jax.jit(shaped.step), first, 0.0
    for i in range(steps):
        before, last = last, one(last, choices)
        # Brax adds the task's own rewards up, before the potential.
        own = last.info["episode_metrics"]["sum_reward"] - before.info["episode_metrics"]["sum_reward"]
        more = more + discount**i * np.asarray(last.reward - own)
    assert not np.asarray(last.done).any()
    want = weight * (discount**steps * promised(last.obs) - promised(first.obs))
    np.testing.assert_allclose(more, want, atol=1e-4)
    assert np.abs(want).max() > 0.1


def test_lanes_that_end_are_as_frequent_as_asked_and_other_starts_stay():
    network = atlas("merge", 8, 0, MERGE)
    starts = settled(network, 256, 0)
    roads, routes = (np.asarray(field) for field in (starts.worlds.road, starts.worlds.route[:, 0]))
    ends = np.asarray(network.dead_end)[roads, routes]
    assert 0.0 < ends.mean() < 0.4
    assert with_ending(network, starts, 0.0) is starts
    more = with_ending(network, starts, 0.5)
    now = np.asarray(network.dead_end)[np.asarray(more.worlds.road), np.asarray(more.worlds.route)[:, 0]]
    assert now.mean() == 0.5
    assert now[ends].all()
    np.testing.assert_array_equal(np.asarray(more.worlds.x)[~now], np.asarray(starts.worlds.x)[~now])
    # Each of those that begin in such a lane is used, and about equally often.
    counts = np.unique(np.asarray(more.worlds.x)[now][:, 0], return_counts=True)[1]
    assert len(counts) == ends.sum()
    assert counts.max() - counts.min() <= 1


def test_phases_go_on_from_each_other():
    fast = pytest.importorskip("brax.envs.fast")
    from brax.envs.wrappers.training import wrap as brax_wrap

    from wmplan.simulator.policies.training import Ppo, train

    def wrap(env, promise, discount, **how):
        assert (promise, discount) == (tiny.promise, tiny.discount ** (0.1 * how["action_repeat"]))
        return brax_wrap(env, **how)

    tiny = Ppo(
        steps=240, worlds=4, shares=(1.0, 2.0), hold=(2, 1), rate=(1e-2, 0.0), entropy=(0.0, 0.0), piece_s=1.0,
        pieces=2, minibatches=2, passes=1, hidden=4,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"ppo\.rate: 1 values, expected 2"):
        train(None, Ppo(shares=(1.0, 2.0), hold=(2, 1), rate=(1e-2,), entropy=(0.0, 0.0)), 1, lambda *_: None)
    seen = []
    # Brax's own normalisation promotes ranks.
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        # Brax's own small environment: what is asked is how phases follow each other, and compiling traffic takes long.
        last = train(fast.Fast(), tiny, 2, lambda steps, policy: seen.append((steps, policy)), wrap)
    assert [steps for steps, _ in seen] == [0, 80, 240]
    first, middle, end = (policy for _, policy in seen)
    assert (first.kernels[0] != middle.kernels[0]).any()
    # At a rate of zero the second phase changes nothing but what is known of the observations.
    np.testing.assert_array_equal(middle.kernels[0], end.kernels[0])
    assert (middle.mean != end.mean).any()
    np.testing.assert_array_equal(end.kernels[0], last.kernels[0])
