"""The cross-entropy method with iCEM's improvements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from optimizers.limits import Limits
from optimizers.motion import Motion
from optimizers.noise import coloured
from optimizers.sampler import Sampler, finite_costs, require_search, shifted, unless_all_failed
from optimizers.settings import per_round, require


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
        require_search("CemConfig", self)
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
    """The distribution, what was best so far, and the elites with their costs; `seeds` wait for the first round.

    `effective_samples` is the number of elites that the last round took the mean of.
    """

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
    elites: Float[Array, "T U E"]
    elite_costs: Float[Array, "E"]
    seeds: Float[Array, "T U E"]


class Cem(Sampler):
    """Draws coloured noise around a mean, and moves mean and standard deviation to the cheapest candidates.

    Best samples are kept with their costs; the finalists are the mean, the best sample and the nominal, because the
    mean of elites on both sides of an obstacle lies inside it. A round in which nothing is finite changes nothing.
    On a replan the elites before are asked again in the first round, since their costs belong to the scene before.

    References:
        Rubinstein (1999); Pinneri et al. (2020), iCEM, Algorithm 1. Not iCEM: kept elites keep their costs instead of
        being evaluated again, and the noise has standard deviation one.
    """

    name = "cem"

    def __init__(self, config: CemConfig = CemConfig()) -> None:
        super().__init__(config)

    def round_sizes(self) -> tuple[int, ...]:
        """Candidates of each round; they sum to the budget."""
        return self.config.round_sizes()

    def begin(self, motion: Motion, nominal: Float[Array, "T U"], std: Float[Array, "T U"]) -> CemState:
        """The state before the first round: a search around `nominal`."""
        nothing = jnp.float32(jnp.inf)
        empty = jnp.zeros((*nominal.shape, max(self.config.keep, 1)))
        return CemState(
            motion, nominal, std, nominal, std, nominal, nothing, jnp.float32(0.0), jnp.bool_(False), jnp.int32(0),
            empty, jnp.full(empty.shape[-1], nothing), empty,
        )  # fmt: skip

    def resume(self, before: CemState, fresh: CemState, steps: int) -> CemState:
        """The state for a replan `steps` later: mean and elites shifted in time, standard deviation as at first."""
        known = jnp.isfinite(before.elite_costs)[None, None, :]
        seeds = jnp.where(known, shifted(before.elites, steps), fresh.nominal[:, :, None])
        return fresh._replace(mean=shifted(before.mean, steps), seeds=seeds)

    def draw(self, k: int, key: Key[Array, ""], state: CemState) -> Float[Array, "T U K"]:
        """The candidates of this round; row 0 is the mean, the next ones are elites in the first round of a replan."""
        noise = coloured(key, self.config.horizon_steps, 2, k, self.config.noise_exponent)
        replan = state.warm & (state.round == 0)
        # Every other sample of a replan's first round leaves from the nominal, in case the scene has changed.
        apart = (replan & (jnp.arange(k) % 2 == 1)).astype(jnp.float32)
        centre = state.mean[:, :, None] + (state.nominal - state.mean)[:, :, None] * apart[None, None, :]
        samples = centre + state.std[:, :, None] * noise
        if self.config.keep:
            rows = slice(1, 1 + self.config.keep)
            samples = samples.at[:, :, rows].set(jnp.where(replan, state.seeds, samples[:, :, rows]))
        return samples

    def learn(self, state: CemState, controls: Float[Array, "T U K"], costs: Float[Array, "K"]) -> CemState:
        """The state after this round: mean and standard deviation moved to the elites of this round and before."""
        config, k = self.config, costs.shape[0]
        costs = finite_costs(costs)
        negative, rows = jax.lax.top_k(-jnp.concatenate([costs, state.elite_costs]), config.elites)
        new = controls[:, :, jnp.minimum(rows, k - 1)]
        old = state.elites[:, :, jnp.clip(rows - k, 0, state.elites.shape[2] - 1)]
        elites = jnp.where((rows < k)[None, None, :], new, old)
        # An expensive row may hold NaN controls; zero times NaN would spread it over the mean.
        found = jnp.isfinite(negative) & jnp.isfinite(elites).all(axis=(0, 1))
        elites = jnp.where(found[None, None, :], elites, 0.0)
        elite_costs = jnp.where(found, -negative, jnp.inf)
        count = jnp.maximum(found.sum(), 1)
        mean = elites.sum(axis=2) / count
        spread = jnp.where(found[None, None, :], (elites - mean[:, :, None]) ** 2, 0.0)
        std = jnp.sqrt(spread.sum(axis=2) / count)
        first = jnp.argmin(elite_costs)
        better = elite_costs[first] < state.best_cost
        kept = max(config.keep, 1)
        old_share = config.momentum
        after = state._replace(
            mean=old_share * state.mean + (1.0 - old_share) * mean,
            std=jnp.maximum(old_share * state.std + (1.0 - old_share) * std, config.std_floor * state.first_std),
            best=jnp.where(better, elites[:, :, first], state.best),
            best_cost=jnp.where(better, elite_costs[first], state.best_cost),
            effective_samples=found.sum().astype(jnp.float32),
            elites=elites[:, :, :kept],
            elite_costs=elite_costs[:kept] if config.keep else state.elite_costs,
            round=state.round + 1,
        )
        return unless_all_failed(costs, after, state)

    def labels(self, k: int, first: bool, warm: bool) -> tuple[str, ...]:
        """What each candidate of a round is."""
        elites = self.config.keep if first and warm else 0
        return ("nominal" if first and not warm else "mean", *["elite"] * elites, *["sample"] * (k - 1 - elites))
