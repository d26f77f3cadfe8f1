"""The view for Gymnasium, on an environment whose episodes are known in closed form, and on the simulator."""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from wmplan.errors import InputError
from wmplan.simulator.gym_view import HIGHEST, gym_view

gymnasium = pytest.importorskip("gymnasium", reason="the highway extra is not installed")


class Point(NamedTuple):
    obs: Array
    reward: Array
    done: Array
    metrics: dict[str, Array]


class Line:
    """A point on a line from a random place; reward is its place, an episode ends beyond 3."""

    observation_size = 1
    action_size = 1

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def reset(self, rng: Array) -> Point:
        return self._at(jax.random.uniform(rng, (1,)))

    def step(self, state: Point, action: Array) -> Point:
        return self._at(state.obs + action)

    def _at(self, place: Array) -> Point:
        return Point(place * self.scale, place[0], (place[0] > 3.0).astype(jnp.float32), {"place": place[0]})


def test_gymnasium_finds_no_fault():
    from gymnasium.utils.env_checker import check_env

    check_env(gym_view(Line()), skip_render_check=True)


def test_an_episode_step_by_step():
    view = gym_view(Line(), horizon=10)
    first, info = view.reset(seed=3)
    assert info == {}
    for n in range(1, 4):
        observation, reward, terminated, truncated, info = view.step(np.array([0.8], np.float32))
        expected = first[0] + 0.8 * n
        assert observation[0] == pytest.approx(expected)
        assert reward == pytest.approx(expected)
        assert info == {"place": pytest.approx(expected)}
        assert terminated is bool(expected > 3.0)
        assert not truncated
    for _ in range(7):
        *_, truncated, _ = view.step(np.array([0.0], np.float32))
    assert truncated is True
    view.reset()
    assert view.step(np.array([0.0], np.float32))[3] is False


def test_seeds():
    view, other = gym_view(Line()), gym_view(Line())
    first = view.reset(seed=1)[0]
    second = view.reset()[0]
    assert first != second
    assert other.reset(seed=1)[0] == first
    assert other.reset()[0] == second
    assert view.reset(seed=2)[0] != first


def test_observations_stay_inside_the_space():
    view = gym_view(Line(scale=1e6))
    assert view.reset(seed=0)[0][0] == HIGHEST
    with pytest.raises(FloatingPointError, match="NaN"):
        gym_view(Line(scale=float("nan"))).reset(seed=0)


def test_misuse():
    with pytest.raises(InputError, match="horizon"):
        gym_view(Line(), horizon=0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        gym_view(Line()).step(np.array([0.0], np.float32))


def test_without_the_package():
    code = (
        "import sys; sys.modules['gymnasium'] = None\n"
        "from wmplan.errors import InputError\n"
        "from wmplan.simulator.gym_view import gym_view\n"
        "try:\n    gym_view(None)\nexcept InputError as error:\n    sys.exit('wmplan[highway]' not in str(error))\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_simulator():
    pytest.importorskip("brax.envs.base")
    from gymnasium.utils.env_checker import check_env

    from wmplan.simulator.brax_env import make_env

    view = gym_view(make_env("straight", worlds=2), horizon=30)
    check_env(view, skip_render_check=True)
    first = view.reset(seed=4)[0]
    onward = [view.step(np.array([0.0, 0.0], np.float32)) for _ in range(30)]
    assert not any(terminated for _, _, terminated, *_ in onward)
    assert [truncated for *_, truncated, _ in onward] == [False] * 29 + [True]
    again = view.reset(seed=4)[0]
    np.testing.assert_array_equal(again, first)
    braking = [view.step(np.array([-1.0, 0.0], np.float32)) for _ in range(30)]
    assert sum(reward for _, reward, *_ in onward) > sum(reward for _, reward, *_ in braking) + 1.0
