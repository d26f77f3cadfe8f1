"""Model predictive path integral control."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Key
from numpy import ndarray

from optimizers.limits import Limits
from optimizers.motion import Motion
from optimizers.noise import coloured
from optimizers.sampler import Sampler, finite_costs, require_search, shifted, unless_all_failed
from optimizers.settings import per_round, require

BISECTIONS = 24
"""Halvings of a range of 28 in the logarithm of temperature: to a few millionths of it."""


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
    smoothing_steps: int = 0
    """Window of a quadratic Savitzky-Golay filter on the mean after each round, steps; 0 leaves it as it is."""
    nominal: str = "route"
    """Where the first round is centred: `route`, `keep` or `zero` (see `optimizers.nominal`)."""
    limits: Limits = field(default_factory=Limits)
    """What the car can do; samples are clipped to it."""

    def __post_init__(self) -> None:
        per_round("MppiConfig", self.budget, self.rounds)
        require_search("MppiConfig", self)
        require("MppiConfig", "effective_samples", self.effective_samples, self.effective_samples >= 1.0, "1 or more")
        warm = self.temperature is None or self.temperature > 0.0
        require("MppiConfig", "temperature", self.temperature or 0.0, warm, "a positive number or None")
        require("MppiConfig", "std_decay", self.std_decay, 0.0 < self.std_decay <= 1.0, "above 0, at most 1")
        window = self.smoothing_steps
        fits = window == 0 or (window % 2 == 1 and 5 <= window <= self.horizon_steps)
        require("MppiConfig", "smoothing_steps", window, fits, f"0 or an odd number from 5 to {self.horizon_steps}")


class MppiState(NamedTuple):
    """The mean, what was best so far, and the last round's temperature and effective sample size."""

    motion: Motion
    nominal: Float[Array, "T U"]
    first_std: Float[Array, "T U"]
    mean: Float[Array, "T U"]
    std: Float[Array, "T U"]
    best: Float[Array, "T U"]
    best_cost: Float[Array, ""]
    effective_samples: Float[Array, ""]
    warm: Array
    round: Array
    temperature: Float[Array, ""]


class Mppi(Sampler):
    """Averages candidates with weights exp(-cost / temperature).

    The nominal stays a candidate after the mean has left it, so that a scene that falls back to it finds it at once.
    The finalists are the mean, the best sample and the nominal. A round in which nothing is finite changes nothing.

    References:
        Williams et al. (2017), "Information theoretic MPC for model-based reinforcement learning", Algorithm 2. Not
        theirs: the temperature is set by the effective sample size, and there is no control cost unless asked for.
    """

    name = "mppi"

    def __init__(self, config: MppiConfig = MppiConfig()) -> None:
        super().__init__(config)

    def round_sizes(self) -> tuple[int, ...]:
        """Candidates of each round; they sum to the budget."""
        return (self.config.budget // self.config.rounds,) * self.config.rounds

    def begin(self, motion: Motion, nominal: Float[Array, "T U"], std: Float[Array, "T U"]) -> MppiState:
        """The state before the first round: a search around `nominal`."""
        zero = jnp.float32(0.0)
        return MppiState(
            motion,
            nominal,
            std,
            nominal,
            std,
            nominal,
            jnp.float32(jnp.inf),
            zero,
            jnp.bool_(False),
            jnp.int32(0),
            zero,
        )

    def resume(self, before: MppiState, fresh: MppiState, steps: int) -> MppiState:
        """The state for a replan `steps` later: the mean shifted in time, the standard deviation back to the first."""
        return fresh._replace(mean=shifted(before.mean, steps))

    def draw(self, k: int, key: Key[Array, ""], state: MppiState) -> Float[Array, "T U K"]:
        """The candidates of this round; row 0 is the mean, row 1 the nominal once the mean has left it."""
        noise = coloured(key, self.config.horizon_steps, 2, k, self.config.noise_exponent)
        samples = state.mean[:, :, None] + state.std[:, :, None] * noise
        if k < 3:
            return samples
        left = state.warm | (state.round > 0)
        return samples.at[:, :, 1].set(jnp.where(left, state.nominal, samples[:, :, 1]))

    def learn(self, state: MppiState, controls: Float[Array, "T U K"], costs: Float[Array, "K"]) -> MppiState:
        """The state after this round: the mean is the weighted one of the candidates."""
        config = self.config
        costs = finite_costs(costs)
        steered = costs
        if config.control_cost:
            push = (state.mean / state.std**2)[:, :, None] * (controls - state.mean[:, :, None])
            steered = finite_costs(costs + config.control_cost * push.sum(axis=(0, 1)))
        if config.temperature is None:
            temperature = temperature_for(steered, config.effective_samples)
        else:
            temperature = jnp.float32(config.temperature)
        weight = weights(steered, temperature)
        mean = _weighted_mean(controls, weight)
        if config.smoothing_steps:
            mean = jnp.asarray(smoother(config.horizon_steps, config.smoothing_steps)) @ mean
        row = jnp.argmin(costs)
        better = costs[row] < state.best_cost
        after = state._replace(
            mean=mean,
            std=config.std_decay * state.std,
            best=jnp.where(better, controls[:, :, row], state.best),
            best_cost=jnp.where(better, costs[row], state.best_cost),
            effective_samples=1.0 / jnp.maximum((weight**2).sum(), 1e-30),
            temperature=temperature,
            round=state.round + 1,
        )
        return unless_all_failed(costs, after, state)

    def labels(self, k: int, first: bool, warm: bool) -> tuple[str, ...]:
        """What each candidate of a round is."""
        if first and not warm:
            return ("nominal", *["sample"] * (k - 1))
        return ("mean", "nominal", *["sample"] * (k - 2)) if k >= 3 else ("mean", *["sample"] * (k - 1))


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


def _weighted_mean(controls: Float[Array, "T U K"], weight: Float[Array, "K"]) -> Float[Array, "T U"]:
    """The weighted mean of the rows that weigh anything; a row of infinite cost may hold NaN, and 0 x NaN is NaN."""
    mean = jnp.einsum("tuk,k->tu", controls, weight)
    # Looking through all controls first would cost more than the mean itself.
    return jax.lax.cond(
        jnp.isfinite(mean).all(),
        lambda: mean,
        lambda: jnp.einsum("tuk,k->tu", jnp.where((weight > 0.0)[None, None, :], controls, 0.0), weight),
    )


@functools.cache
def smoother(steps: int, window: int) -> Float32[ndarray, "T T"]:
    """The matrix that puts a quadratic through each window of steps and takes its middle; at both ends the window stays
    inside and the quadratic is read off where the step is. Quadratics pass unchanged.

    References:
        Savitzky and Golay (1964), "Smoothing and differentiation of data by simplified least squares procedures".
    """
    matrix = np.zeros((steps, steps))
    for t in range(steps):
        first = min(max(t - window // 2, 0), steps - window)
        columns = np.arange(first, first + window)
        matrix[t, columns] = np.linalg.pinv(np.vander(columns - t, 3, increasing=True))[0]
    return matrix.astype(np.float32)
