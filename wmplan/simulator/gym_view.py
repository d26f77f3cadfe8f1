"""The simulator for everybody who speaks Gymnasium: one world at a time, NumPy in and out.

    view = gym_view(make_env("merge"), horizon=200)
    observation, info = view.reset(seed=0)
    observation, reward, terminated, truncated, info = view.step(view.action_space.sample())

Compiled functions stay compiled between episodes. For speed use the environment itself, which runs thousands of worlds
at once; this view is for what exists already. Needs the extra `highway` (gymnasium).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from numpy import ndarray

from wmplan.errors import InputError

if TYPE_CHECKING:
    import gymnasium

HIGHEST = 100.0
"""Observations are of order one; a `Box` wants finite bounds, so what lies beyond this is cut off."""


@runtime_checkable
class Stepped(Protocol):
    """What an environment returns: a pytree with these fields, as `brax.envs.base.State` has."""

    obs: Any
    reward: Any
    done: Any
    metrics: Any


@runtime_checkable
class Environment(Protocol):
    """Pure functions, as `brax.envs.base.Env` has; actions are in [-1, 1]."""

    @property
    def observation_size(self) -> Any: ...

    @property
    def action_size(self) -> int: ...

    def reset(self, rng: Array) -> Any: ...

    def step(self, state: Any, action: Array) -> Any: ...


def gym_view(environment: Environment, horizon: int = 200) -> gymnasium.Env:
    """A `gymnasium.Env` of one world of `environment`; an episode is truncated after `horizon` steps.

    `done` of the environment is Gymnasium's `terminated`; its metrics are the `info`. The seed of a reset decides the
    world and everything in it; a reset without one goes on with the next world of the last seed.

    Raises:
        InputError: `horizon` below 1, or gymnasium isn't installed.
    """
    if horizon < 1:
        raise InputError(f"gym_view.horizon is {horizon}, expected 1 or more")
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise InputError("the view for Gymnasium needs it: pip install 'wmplan[highway]'") from error

    class View(gymnasium.Env[Float32[ndarray, "O"], Float32[ndarray, "_N"]]):
        """One world."""

        metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

        def __init__(self) -> None:
            size = (int(environment.observation_size),)
            self.observation_space = gymnasium.spaces.Box(-HIGHEST, HIGHEST, size, np.float32)
            self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (environment.action_size,), np.float32)
            self._begin, self._go_on = jax.jit(environment.reset), jax.jit(environment.step)
            self._state: Stepped | None = None
            self._steps = 0

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Float32[ndarray, "O"], dict[str, Any]]:
            super().reset(seed=seed, options=options)
            self._state = self._begin(jax.random.key(int(self.np_random.integers(2**32))))
            self._steps = 0
            return _seen(self._state.obs), {}

        def step(self, action: Float[ndarray, "_N"]) -> tuple[Float32[ndarray, "O"], float, bool, bool, dict[str, Any]]:
            if self._state is None:
                raise gymnasium.error.ResetNeeded("step before the first reset")
            self._state = self._go_on(self._state, jnp.asarray(action, dtype=jnp.float32))
            self._steps += 1
            return (
                _seen(self._state.obs),
                float(self._state.reward),
                bool(self._state.done),
                self._steps >= horizon,
                {name: float(value) for name, value in self._state.metrics.items()},
            )

    return View()


def _seen(observation: Float[Array, "O"]) -> Float32[ndarray, "O"]:
    seen = np.asarray(observation, dtype=np.float32)
    if np.isnan(seen).any():
        raise FloatingPointError("the environment's observation holds NaN")
    return np.clip(seen, -HIGHEST, HIGHEST)
