"""What sampling planners share: where they search, the numpy edge of ask and tell, warm starts, the last comparison."""

from __future__ import annotations

import abc
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy import ndarray

from optimizers.limits import Limits, project
from optimizers.motion import Motion, motion_of
from optimizers.nominal import NOMINALS, initial_std, nominal_controls
from optimizers.settings import digest_of, require
from wmplan import bridge
from wmplan.contracts import Proposal
from wmplan.plans import Start

FINAL_LABELS = ("mean", "best", "nominal")


class Sampler(abc.ABC):
    """A sampling planner: five pure functions of arrays, which ask/tell and compiled plans both run.

    Its state is a NamedTuple of arrays with at least motion, nominal, first_std, mean, std, best, best_cost,
    effective_samples, warm (whether it goes on from an earlier plan) and round (rounds in which something was finite).
    Two are equal where class and config are, so that a program compiled for one serves the other.
    """

    name: ClassVar[str]
    config: Any

    def __init__(self, config: Any) -> None:
        self.config = config
        self.digest = digest_of(self.name, config)
        self.rounds = config.rounds
        self.candidates = self.round_sizes()[0]
        self.horizon_steps = config.horizon_steps

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.config == other.config  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self.config))

    @abc.abstractmethod
    def round_sizes(self) -> tuple[int, ...]:
        """Candidates of each round; they sum to the budget."""

    @abc.abstractmethod
    def begin(self, motion: Motion, nominal: Float[Array, "T U"], std: Float[Array, "T U"]) -> Any:
        """The state before the first round: a search around `nominal`."""

    @abc.abstractmethod
    def resume(self, before: Any, fresh: Any, steps: int) -> Any:
        """The state for a replan `steps` later: what was found, shifted in time, over a `fresh` one."""

    @abc.abstractmethod
    def draw(self, k: int, key: Key[Array, ""], state: Any) -> Float[Array, "T U K"]:
        """The candidates of this round, before the car's bounds; row 0 is the mean."""

    @abc.abstractmethod
    def learn(self, state: Any, controls: Float[Array, "T U K"], costs: Float[Array, "K"]) -> Any:
        """The state after this round. Costs that are not finite count as +inf; where all are, nothing moves."""

    @abc.abstractmethod
    def labels(self, k: int, first: bool, warm: bool) -> tuple[str, ...]:
        """What each candidate of a round is."""

    def init(self, key: int, start: Start) -> Any:
        """The state before the first round; the key is not used."""
        return _init(self, motion_of(start))

    def warm(self, state: Any, start: Start, steps: int) -> Any:
        """The state for a replan `steps` later: what was found shifted in time, standard deviation back to the first,
        so that a scene that has changed is planned as well as from new.
        """
        return _warm(self, steps, state, motion_of(start))

    def ask(self, key: int, state: Any) -> Proposal:
        """The candidates of this round, which the car can drive; row 0 is the mean."""
        step, warm = int(state.round), bool(state.warm)
        k = self.round_sizes()[min(step, self.rounds - 1)]
        controls = _ask(self, k, bridge.random_key(key), state)
        labels = self.labels(k, step == 0, warm)
        return Proposal(bridge.controls_to_numpy(controls), np.zeros(k, np.int32), labels)

    def tell(self, state: Any, controls: Float[ndarray, "K T 2"], costs: Float[ndarray, "K"]) -> Any:
        """The state after this round."""
        return _tell(self, state, bridge.controls_to_jax(controls), bridge.costs_to_jax(costs))

    def finalists(self, state: Any) -> Proposal:
        """The mean, the best sample and the nominal, for a last comparison."""
        controls = _finalists(self, state)
        return Proposal(bridge.controls_to_numpy(controls), np.zeros(3, np.int32), FINAL_LABELS)


def last_three(state: Any) -> Float[Array, "T U 3"]:
    """The mean, the best sample and the nominal: the mean of candidates on both sides of an obstacle lies inside it."""
    return jnp.stack([state.mean, state.best, state.nominal], axis=2)


def shifted(controls: Float[Array, "T ..."], steps: int) -> Float[Array, "T ..."]:
    """The controls `steps` later; the last ones are held."""
    t = controls.shape[0]
    return controls[jnp.minimum(jnp.arange(t) + steps, t - 1)]


def finite_costs(costs: Float[Array, "K"]) -> Float[Array, "K"]:
    """The costs, +inf where they are not finite: `argmin` would return a NaN, `softmax` spread it."""
    return jnp.where(jnp.isfinite(costs), costs, jnp.inf)


def unless_all_failed(costs: Float[Array, "K"], after: Any, before: Any) -> Any:
    """`after` where a cost is finite, `before` where none is."""
    some = jnp.isfinite(costs).any()
    return jax.tree.map(lambda new, old: old if new is old else jnp.where(some, new, old), after, before)


def require_search(owner: str, config: Any) -> None:
    """Nothing, where the fields that all sampling planners have are possible.

    Raises:
        ValueError: otherwise, naming the field, the value and what was expected.
    """
    require(owner, "nominal", config.nominal, config.nominal in NOMINALS, f"one of {NOMINALS}")
    for name in ("accel_std_mps2", "lateral_std_mps2", "curvature_std_pm"):
        require(owner, name, getattr(config, name), getattr(config, name) > 0.0, "a positive number")
    require(owner, "horizon_steps", config.horizon_steps, config.horizon_steps >= 1, "1 or more")


def _limited(controls: Float[Array, "T U"], motion: Motion, limits: Limits) -> Float[Array, "T U"]:
    return project(controls[:, :, None], motion, limits)[:, :, 0]


def _begin(sampler: Sampler, motion: Motion) -> Any:
    config = sampler.config
    raw = nominal_controls(motion, config.horizon_steps, config.limits, config.nominal)
    nominal = _limited(raw, motion, config.limits)
    std = initial_std(motion, nominal, config.accel_std_mps2, config.lateral_std_mps2, config.curvature_std_pm)
    return sampler.begin(motion, nominal, std)


_init = partial(jax.jit, static_argnums=0)(_begin)


@partial(jax.jit, static_argnums=(0, 1))
def _warm(sampler: Sampler, steps: int, state: Any, motion: Motion) -> Any:
    after = sampler.resume(state, _begin(sampler, motion), steps)
    return after._replace(mean=_limited(after.mean, motion, sampler.config.limits), warm=jnp.bool_(True))


@partial(jax.jit, static_argnums=(0, 1))
def _ask(sampler: Sampler, k: int, key: Key[Array, ""], state: Any) -> Float[Array, "T U K"]:
    return project(sampler.draw(k, key, state), state.motion, sampler.config.limits)


@partial(jax.jit, static_argnums=0)
def _tell(sampler: Sampler, state: Any, controls: Float[Array, "T U K"], costs: Float[Array, "K"]) -> Any:
    # A row whose controls are not finite was never rolled, whatever it is said to cost.
    return sampler.learn(state, controls, jnp.where(jnp.isfinite(controls).all(axis=(0, 1)), costs, jnp.inf))


@partial(jax.jit, static_argnums=0)
def _finalists(sampler: Sampler, state: Any) -> Float[Array, "T U 3"]:
    # The best sample was rolled as it is; clipping it again could move it by a rounding.
    limited = project(last_three(state), state.motion, sampler.config.limits)
    return limited.at[:, :, 1].set(state.best)
