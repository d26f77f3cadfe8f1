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

    return make_env("straight", worlds=3)


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
    assert sum(float(s.reward) for s in straight) > 5.0
    swerving = state
    for _ in range(40):
        swerving = step(swerving, jnp.array([0.3, 0.3]))
        if swerving.done:
            break
    assert swerving.done
    assert float(swerving.reward) < 0.0
