"""The cross-entropy method with iCEM's improvements."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

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


@dataclass(frozen=True)
class CemConfig:
    """Settings of `Cem`."""

    budget: int = 128
    """Candidates of a plan, finalists apart."""
    rounds: int = 4
    """Rounds that share the budget."""
    horizon_steps: int = 30
    """Steps of 0.1 s."""
    elites: int = 6
    """Cheapest candidates that the next mean and standard deviation are taken from."""
    keep: int = 3
    """Cheapest candidates so far that compete for elite again, at the cost they had: nothing is evaluated twice."""
    momentum: float = 0.1
    """Weight of the old mean and standard deviation."""
    noise_exponent: float = 2.0
    """Colour of the noise: 0 white, 1 pink, 2 red."""
    decay: float = 1.0
    """Factor by which a round is smaller than the one before; 1 keeps all rounds equal. The budget stays."""
    std_floor: float = 0.05
    """Smallest standard deviation, as a fraction of the first: no collapse."""
    accel_std_mps2: float = 1.2
    """First standard deviation of acceleration, m/s2."""
    lateral_std_mps2: float = 1.0
    """First standard deviation of lateral acceleration, m/s2; curvature is drawn to give it at the nominal's speed."""
    curvature_std_pm: float = 0.05
    """Largest first standard deviation of curvature, 1/m; it rules at low speed."""
    nominal: str = "route"
    """Where the first round is centred: `route`, `keep` or `zero` (see `optimizers.nominal`)."""
    limits: Limits = field(default_factory=Limits)
    """What the car can do; samples are clipped to it."""

    def __post_init__(self) -> None:
        k = per_round("CemConfig", self.budget, self.rounds)
        require("CemConfig", "nominal", self.nominal, self.nominal in NOMINALS, f"one of {NOMINALS}")
        for name in ("accel_std_mps2", "lateral_std_mps2", "curvature_std_pm"):
            require("CemConfig", name, getattr(self, name), getattr(self, name) > 0.0, "a positive number")
        require("CemConfig", "horizon_steps", self.horizon_steps, self.horizon_steps >= 1, "1 or more")
        require("CemConfig", "elites", self.elites, 2 <= self.elites <= k, f"2 to {k} (the candidates of a round)")
        require("CemConfig", "keep", self.keep, 0 <= self.keep <= self.elites, f"0 to {self.elites} (elites)")
        require("CemConfig", "momentum", self.momentum, 0.0 <= self.momentum < 1.0, "0 or more and below 1")
        require("CemConfig", "decay", self.decay, self.decay >= 1.0, "1 or more")
        require("CemConfig", "std_floor", self.std_floor, 0.0 <= self.std_floor <= 1.0, "0 to 1")
        if min(self.round_sizes()) < max(self.elites, self.keep + 1):
            raise ValueError(
                f"CemConfig.decay is {self.decay}: its rounds {self.round_sizes()} hold too few candidates"
            )

    def round_sizes(self) -> tuple[int, ...]:
        """Candidates of each round; they sum to the budget."""
        shares = self.decay ** -np.arange(self.rounds, dtype=np.float64)
        ends = np.round(self.budget * np.cumsum(shares) / shares.sum()).astype(int)
        return tuple(int(size) for size in np.diff(ends, prepend=0))


class CemState(NamedTuple):
    """The distribution, what was best so far, and the elites with their costs; `seeds` wait for the first round."""

    motion: Motion
    nominal: Float[Array, "T U"]
    first_std: Float[Array, "T U"]
    mean: Float[Array, "T U"]
    std: Float[Array, "T U"]
    best: Float[Array, "T U"]
    best_cost: Float[Array, ""]
    elites: Float[Array, "T U E"]
    elite_costs: Float[Array, "E"]
    seeds: Float[Array, "T U E"]
    seeded: Array
    round: Array


class Cem:
    """Draws coloured noise around a mean, and moves mean and standard deviation to the cheapest candidates.

    Best samples are kept with their costs; the finalists are the mean, the best sample and the nominal, because the
    mean of elites on both sides of an obstacle lies inside it. A round in which nothing is finite changes nothing.

    References:
        Rubinstein (1999); Pinneri et al. (2020), iCEM, Algorithm 1. Not iCEM: kept elites keep their costs instead of
        being evaluated again, and the noise has standard deviation one.
    """

    name = "cem"

    def __init__(self, config: CemConfig = CemConfig()) -> None:
        self.config = config
        self.digest = digest_of(self.name, config)
        self.rounds = config.rounds
        self.candidates = config.round_sizes()[0]
        self.horizon_steps = config.horizon_steps

    def init(self, key: int, start: Start) -> CemState:
        """The state before the first round; the key is not used."""
        return _init(self.config, motion_of(start))

    def warm(self, state: CemState, start: Start, steps: int) -> CemState:
        """The state for a replan `steps` later: mean and elites shifted in time, standard deviation back to the first.

        Kept elites are asked again in the first round, since their costs belong to the scene before.
        """
        return _warm(self.config, steps, state, motion_of(start))

    def ask(self, key: int, state: CemState) -> Proposal:
        """The candidates of this round; row 0 is the mean."""
        step = int(state.round)
        k = self.config.round_sizes()[min(step, self.rounds - 1)]
        controls = _ask(self.config, k, bridge.random_key(key), state)
        labels = ["nominal" if step == 0 and not bool(state.seeded) else "mean"] + ["sample"] * (k - 1)
        if step == 0 and bool(state.seeded):
            labels[1 : 1 + self.config.keep] = ["elite"] * self.config.keep
        return Proposal(bridge.controls_to_numpy(controls), np.zeros(k, np.int32), tuple(labels))

    def tell(self, state: CemState, controls: Float[ndarray, "K T 2"], costs: Float[ndarray, "K"]) -> CemState:
        """The state after this round."""
        return _tell(self.config, state, bridge.controls_to_jax(controls), bridge.costs_to_jax(costs))

    def finalists(self, state: CemState) -> Proposal:
        """The mean, the best sample and the nominal, for a last comparison."""
        controls = _finalists(self.config, state)
        return Proposal(bridge.controls_to_numpy(controls), np.zeros(3, np.int32), ("mean", "best", "nominal"))


@partial(jax.jit, static_argnames="config")
def _init(config: CemConfig, motion: Motion) -> CemState:
    raw = nominal_controls(motion, config.horizon_steps, config.limits, config.nominal)
    nominal = project(raw[:, :, None], motion, config.limits)[:, :, 0]
    std = initial_std(motion, nominal, config.accel_std_mps2, config.lateral_std_mps2, config.curvature_std_pm)
    nothing = jnp.float32(jnp.inf)
    empty = jnp.zeros((*nominal.shape, max(config.keep, 1)))
    return CemState(
        motion, nominal, std, nominal, std, nominal, nothing,
        empty, jnp.full(empty.shape[-1], nothing), empty, jnp.bool_(False), jnp.int32(0),
    )  # fmt: skip


@partial(jax.jit, static_argnames=("config", "steps"))
def _warm(config: CemConfig, steps: int, state: CemState, motion: Motion) -> CemState:
    def shift(controls: Array) -> Array:
        rows = jnp.minimum(jnp.arange(config.horizon_steps) + steps, config.horizon_steps - 1)
        return controls[rows]

    fresh = _init(config, motion)
    known = jnp.isfinite(state.elite_costs)[None, None, :]
    seeds = jnp.where(known, shift(state.elites), fresh.nominal[:, :, None])
    mean = project(shift(state.mean)[:, :, None], motion, config.limits)[:, :, 0]
    return fresh._replace(mean=mean, seeds=seeds, seeded=jnp.bool_(True))


@partial(jax.jit, static_argnames=("config", "k"))
def _ask(config: CemConfig, k: int, key: Key[Array, ""], state: CemState) -> Float[Array, "T U K"]:
    noise = coloured(key, config.horizon_steps, 2, k, config.noise_exponent)
    samples = state.mean[:, :, None] + state.std[:, :, None] * noise
    samples = samples.at[:, :, 0].set(state.mean)
    if config.keep:
        rows = slice(1, 1 + config.keep)
        replan = state.seeded & (state.round == 0)
        samples = samples.at[:, :, rows].set(jnp.where(replan, state.seeds, samples[:, :, rows]))
    return project(samples, state.motion, config.limits)


@partial(jax.jit, static_argnames="config")
def _tell(config: CemConfig, state: CemState, controls: Float[Array, "T U K"], costs: Float[Array, "K"]) -> CemState:
    costs = jnp.where(jnp.isfinite(costs) & jnp.isfinite(controls).all(axis=(0, 1)), costs, jnp.inf)
    pool = jnp.concatenate([controls, state.elites], axis=2)
    negative, rows = jax.lax.top_k(-jnp.concatenate([costs, state.elite_costs]), config.elites)
    found = jnp.isfinite(negative)
    # An expensive row may hold NaN controls; zero times NaN would spread it over the mean.
    elites = jnp.where(found[None, None, :], pool[:, :, rows], 0.0)
    count = jnp.maximum(found.sum(), 1)
    mean = elites.sum(axis=2) / count
    spread = jnp.where(found[None, None, :], (elites - mean[:, :, None]) ** 2, 0.0)
    std = jnp.sqrt(spread.sum(axis=2) / count)
    better = -negative[0] < state.best_cost
    kept = max(config.keep, 1)
    after = state._replace(
        mean=config.momentum * state.mean + (1.0 - config.momentum) * mean,
        std=jnp.maximum(
            config.momentum * state.std + (1.0 - config.momentum) * std, config.std_floor * state.first_std
        ),
        best=jnp.where(better, elites[:, :, 0], state.best),
        best_cost=jnp.where(better, -negative[0], state.best_cost),
        elites=elites[:, :, :kept],
        elite_costs=-negative[:kept] if config.keep else state.elite_costs,
        round=state.round + 1,
    )
    any_finite = jnp.isfinite(costs).any()
    return jax.tree.map(lambda new, old: jnp.where(any_finite, new, old), after, state)


@partial(jax.jit, static_argnames="config")
def _finalists(config: CemConfig, state: CemState) -> Float[Array, "T U K"]:
    three = jnp.stack([state.mean, state.best, state.nominal], axis=2)
    return project(three, state.motion, config.limits).at[:, :, 1].set(state.best)
