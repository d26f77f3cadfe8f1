"""The simulator behind Brax's interface."""

from __future__ import annotations

import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="module")
def env():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("brax.envs.base")
    from wmplan.simulator.brax_env import make_env
    from wmplan.simulator.starts import MERGE

    return make_env("merge", worlds=16, sizes=MERGE)


def test_the_simulator_does_not_import_brax():
    code = "import sys, wmplan.simulator.brax_env, wmplan.simulator.reader; sys.exit('brax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_episode_under_brax(env):
    from brax.envs.base import Env

    assert isinstance(env, Env)
    assert env.action_size == 2
    state = jax.jit(env.reset)(jax.random.key(0))
    assert state.obs.shape == (env.observation_size,)
    step = jax.jit(env.step)
    straight = [state]
    for _ in range(20):
        straight.append(step(straight[-1], jnp.array([0.0, 0.0])))
    assert all(np.isfinite(s.obs).all() and np.isfinite(s.reward) for s in straight)
    assert not any(s.done for s in straight)
    assert sum(float(s.reward) for s in straight) > 0.5
    swerving = state
    for _ in range(150):
        swerving = step(swerving, jnp.array([0.0, 1.0]))
        if swerving.done:
            break
    assert swerving.done
    assert float(swerving.reward) < -1.0


def test_all_at_once_is_each_alone_until_one_is_over_and_goes_on_elsewhere(env):
    from brax.envs.wrappers.training import VmapWrapper

    from wmplan.simulator.brax_env import PHASE, together

    fast = together(env, episode_length=12)
    state = jax.jit(fast.reset)(jax.random.split(jax.random.PRNGKey(0), 6))
    slow = VmapWrapper(env)
    alone = state.replace(info={})
    choices = jnp.array([[0.5, 0.1 * i] for i in range(6)])
    one, other = jax.jit(fast.step), jax.jit(slow.step)
    first = np.asarray(state.info["start"])
    for i in range(24):
        state = one(state, choices)
        if i < 11:
            alone = other(alone, choices)
            np.testing.assert_allclose(state.obs, alone.obs, atol=2e-3)
            np.testing.assert_allclose(state.reward, alone.reward, atol=1e-4)
            assert not np.asarray(state.done).any()
        if i == 11:
            assert np.asarray(state.done).all()
            assert (np.asarray(state.info["truncation"]) == 1.0).all()
            assert (np.asarray(state.info["start"]) != first).all()
    steps = np.asarray(state.pipeline_state.worlds.steps)
    assert (steps % PHASE == steps[0] % PHASE).all()


def test_brax_trains_on_it_unchanged(env):
    # Brax's own normalisation promotes ranks.
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        from brax.training.agents.ppo import train as ppo

        seen = []
        ppo.train(
            environment=env,
            num_timesteps=64,
            episode_length=10,
            num_envs=4,
            unroll_length=4,
            batch_size=4,
            num_minibatches=2,
            num_updates_per_batch=1,
            normalize_observations=True,
            num_evals=2,
            run_evals=False,
            policy_params_fn=lambda steps, _, parameters: seen.append((steps, parameters)),
        )
    assert [steps for steps, _ in seen] == [0, 64]
    before, after = (jax.tree.leaves(parameters[1]) for _, parameters in seen)
    assert all(np.isfinite(leaf).all() for leaf in after)
    assert any((a != b).any() for a, b in zip(before, after))
