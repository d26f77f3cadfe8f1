"""Model predictive path integral control."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy import ndarray

from optimizers.limits import Limits, project
from optimizers.motion import Motion, motion_of
from optimizers.noise import coloured
from optimizers.nominal import NOMINALS, initial_std, nominal_controls
from optimizers.settings import digest_of, per_round, require
from wmplan import bridge
from wmplan.contracts import Proposal
from wmplan.plans import Start

BISECTIONS = 40


@dataclass(frozen=True)
class MppiConfig:
    """Settings of `Mppi`."""

    budget: int = 128
    """Candidates of a plan, finalists apart."""
    rounds: int = 4
    """Rounds that share the budget."""
    horizon_steps: int = 30
    """Steps of 0.1 s."""
    effective_samples: float = 4.0
    """Effective sample size (1 / sum of squared weights) to which the temperature is set in each round."""
    temperature: float | None = None
    """A fixed temperature, in units of cost, instead."""
    control_cost: float = 0.0
    """Weight of the importance-sampling term `mean' std^-2 (control - mean)`; 0 leaves the critic's cost alone."""
    noise_exponent: float = 2.0
    """Colour of the noise: 0 white, 1 pink, 2 red."""
    std_decay: float = 0.85
    """Factor on the standard deviation from round to round; 1 is the classic form."""
    accel_std_mps2: float = 1.2
    """Standard deviation of acceleration, m/s2."""
    lateral_std_mps2: float = 1.0
    """Standard deviation of lateral acceleration, m/s2; curvature is drawn to give it at the nominal's speed."""
    curvature_std_pm: float = 0.05
    """Largest standard deviation of curvature, 1/m; it rules at low speed."""
    nominal: str = "route"
    """Where the first round is centred: `route`, `keep` or `zero` (see `optimizers.nominal`)."""
    limits: Limits = field(default_factory=Limits)
    """What the car can do; samples are clipped to it."""

    def __post_init__(self) -> None:
        per_round("MppiConfig", self.budget, self.rounds)
        require("MppiConfig", "nominal", self.nominal, self.nominal in NOMINALS, f"one of {NOMINALS}")
        for name in ("accel_std_mps2", "lateral_std_mps2", "curvature_std_pm"):
            require("MppiConfig", name, getattr(self, name), getattr(self, name) > 0.0, "a positive number")
        require("MppiConfig", "horizon_steps", self.horizon_steps, self.horizon_steps >= 1, "1 or more")
        require("MppiConfig", "effective_samples", self.effective_samples, self.effective_samples >= 1.0, "1 or more")
        warm = self.temperature is None or self.temperature > 0.0
        require("MppiConfig", "temperature", self.temperature or 0.0, warm, "a positive number or None")
        require("MppiConfig", "std_decay", self.std_decay, 0.0 < self.std_decay <= 1.0, "above 0, at most 1")


class MppiState(NamedTuple):
    """The mean, what was best so far, and the last round's temperature and effective sample size."""

    motion: Motion
    nominal: Float[Array, "T U"]
    mean: Float[Array, "T U"]
    std: Float[Array, "T U"]
    best: Float[Array, "T U"]
    best_cost: Float[Array, ""]
    temperature: Float[Array, ""]
    effective_samples: Float[Array, ""]
    round: Array


class Mppi:
    """Averages candidates with weights exp(-cost / temperature).

    The finalists are the mean, the best sample and the nominal. A round in which nothing is finite changes nothing.

    References:
        Williams et al. (2017), "Information theoretic MPC for model-based reinforcement learning", Algorithm 2. Not
        theirs: the temperature is set by the effective sample size, and there is no control cost unless asked for.
    """

    name = "mppi"

    def __init__(self, config: MppiConfig = MppiConfig()) -> None:
        self.config = config
        self.digest = digest_of(self.name, config)
        self.rounds = config.rounds
        self.candidates = config.budget // config.rounds
        self.horizon_steps = config.horizon_steps

    def init(self, key: int, start: Start) -> MppiState:
        """The state before the first round; the key is not used."""
        return _init(self.config, motion_of(start))

    def warm(self, state: MppiState, start: Start, steps: int) -> MppiState:
        """The state for a replan `steps` later: the mean shifted in time, the standard deviation back to the first."""
        return _warm(self.config, steps, state, motion_of(start))

    def ask(self, key: int, state: MppiState) -> Proposal:
        """The candidates of this round; row 0 is the mean."""
        controls = _ask(self.config, self.candidates, bridge.random_key(key), state)
        first = "nominal" if int(state.round) == 0 else "mean"
        labels = (first, *["sample"] * (self.candidates - 1))
        return Proposal(bridge.controls_to_numpy(controls), np.zeros(self.candidates, np.int32), labels)

    def tell(self, state: MppiState, controls: Float[ndarray, "K T 2"], costs: Float[ndarray, "K"]) -> MppiState:
        """The state after this round."""
        return _tell(self.config, state, bridge.controls_to_jax(controls), bridge.costs_to_jax(costs))

    def finalists(self, state: MppiState) -> Proposal:
        """The mean, the best sample and the nominal, for a last comparison."""
        controls = _finalists(self.config, state)
        return Proposal(bridge.controls_to_numpy(controls), np.zeros(3, np.int32), ("mean", "best", "nominal"))


def weights(costs: Float[Array, "K"], temperature: Float[Array, ""]) -> Float[Array, "K"]:
    """Weights proportional to exp(-cost / temperature), summing to 1; zero where the cost is not finite.

    To temperature 0 all weight goes to the cheapest (shared by ties), to infinity it is spread evenly. All zero where
    no cost is finite.
    """
    finite = jnp.isfinite(costs)
    lowest = jnp.where(finite, costs, jnp.inf).min()
    excess = jnp.where(finite, costs - jnp.where(jnp.isfinite(lowest), lowest, 0.0), 0.0)
    raw = jnp.where(finite, jnp.exp(-excess / temperature), 0.0)
    return raw / jnp.maximum(raw.sum(), 1e-30)


def temperature_for(costs: Float[Array, "K"], effective_samples: float) -> Float[Array, ""]:
    """The temperature at which 1 / sum(weights^2) is `effective_samples`, by bisection of its logarithm.

    Where ties at the bottom or too few finite costs leave no such temperature, the nearest end of the range: a
    millionth or a million times the costs' range.
    """
    finite = jnp.isfinite(costs)
    lowest = jnp.where(finite, costs, jnp.inf).min()
    span = jnp.where(finite, costs - lowest, 0.0).max()
    span = jnp.where(finite.any() & (span > 0.0), span, 1.0)

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        enough = 1.0 / jnp.maximum((weights(costs, span * jnp.exp(middle)) ** 2).sum(), 1e-30) >= effective_samples
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    end = jnp.float32(jnp.log(1e6))
    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (-end, end))
    return span * jnp.exp(0.5 * (low + high))


@partial(jax.jit, static_argnames="config")
def _init(config: MppiConfig, motion: Motion) -> MppiState:
    raw = nominal_controls(motion, config.horizon_steps, config.limits, config.nominal)
    nominal = project(raw[:, :, None], motion, config.limits)[:, :, 0]
    std = initial_std(motion, nominal, config.accel_std_mps2, config.lateral_std_mps2, config.curvature_std_pm)
    zero = jnp.float32(0.0)
    return MppiState(motion, nominal, nominal, std, nominal, jnp.float32(jnp.inf), zero, zero, jnp.int32(0))


@partial(jax.jit, static_argnames=("config", "steps"))
def _warm(config: MppiConfig, steps: int, state: MppiState, motion: Motion) -> MppiState:
    rows = jnp.minimum(jnp.arange(config.horizon_steps) + steps, config.horizon_steps - 1)
    return _init(config, motion)._replace(mean=project(state.mean[rows][:, :, None], motion, config.limits)[:, :, 0])


@partial(jax.jit, static_argnames=("config", "k"))
def _ask(config: MppiConfig, k: int, key: Key[Array, ""], state: MppiState) -> Float[Array, "T U K"]:
    noise = coloured(key, config.horizon_steps, 2, k, config.noise_exponent).at[:, :, 0].set(0.0)
    std = state.std * config.std_decay ** state.round.astype(jnp.float32)
    return project(state.mean[:, :, None] + std[:, :, None] * noise, state.motion, config.limits)


@partial(jax.jit, static_argnames="config")
def _tell(config: MppiConfig, state: MppiState, controls: Float[Array, "T U K"], costs: Float[Array, "K"]) -> MppiState:
    finite = jnp.isfinite(costs) & jnp.isfinite(controls).all(axis=(0, 1))
    costs = jnp.where(finite, costs, jnp.inf)
    # A row without a finite cost may hold NaN controls; zero times NaN would spread it over the mean.
    controls = jnp.where(finite[None, None, :], controls, 0.0)
    steered = costs
    if config.control_cost:
        push = (state.mean / state.std**2)[:, :, None] * (controls - state.mean[:, :, None])
        steered = costs + config.control_cost * push.sum(axis=(0, 1))
    if config.temperature is None:
        temperature = temperature_for(steered, config.effective_samples)
    else:
        temperature = jnp.float32(config.temperature)
    weight = weights(steered, temperature)
    row = jnp.argmin(costs)
    better = costs[row] < state.best_cost
    after = state._replace(
        mean=jnp.einsum("tuk,k->tu", controls, weight),
        best=jnp.where(better, controls[:, :, row], state.best),
        best_cost=jnp.where(better, costs[row], state.best_cost),
        temperature=temperature,
        effective_samples=1.0 / jnp.maximum((weight**2).sum(), 1e-30),
        round=state.round + 1,
    )
    return jax.tree.map(lambda new, old: jnp.where(finite.any(), new, old), after, state)


@partial(jax.jit, static_argnames="config")
def _finalists(config: MppiConfig, state: MppiState) -> Float[Array, "T U K"]:
    three = jnp.stack([state.mean, state.best, state.nominal], axis=2)
    return project(three, state.motion, config.limits).at[:, :, 1].set(state.best)
