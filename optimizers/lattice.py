"""A Frenet lattice: end time x end speed x end offset, denser where the coarse grid cannot be driven."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32
from numpy import ndarray

from optimizers import smoothing
from optimizers.axes import Design, design
from optimizers.fan import FanConfig, fan
from optimizers.limits import tally
from optimizers.motion import Motion, motion_of
from optimizers.profiles import SmoothingConfig
from optimizers.settings import digest_of, per_round, require
from wmplan import bridge
from wmplan.contracts import Infeasible, Proposal
from wmplan.plans import Plans, Start

DENSER = 2
"""Candidates that are computed and checked, in budgets: what cannot be driven gives its place to a denser one."""


@dataclass(frozen=True)
class LatticeConfig(FanConfig):
    """Settings of `Lattice`."""

    budget: int = 128
    """Candidates of a plan, finalists apart."""
    rounds: int = 1
    """Rounds that share the budget; each takes the next candidates in the order coarse, feasible and denser, rest."""
    max_offset_m: float = 3.5
    """Largest end offset to either side of the route, m: one lane."""
    finalists: int = 3
    """Cheapest candidates that are smoothed after the last round."""
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)
    """How they are smoothed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        per_round("LatticeConfig", self.budget, self.rounds)
        require("LatticeConfig", "finalists", self.finalists, 1 <= self.finalists <= self.budget, "1 to budget")
        require("LatticeConfig", "max_offset_m", self.max_offset_m, self.max_offset_m > 0.0, "a positive number")

    def design(self) -> Design:
        """The axes and the order of the candidates."""
        return design(self.horizon_steps, self.max_offset_m, DENSER * self.budget)


class LatticeState(NamedTuple):
    """The start, the cheapest candidates so far, and how many rounds were told."""

    motion: Motion
    top: Float[Array, "T U F"]
    top_costs: Float[Array, "F"]
    round: Array


class Lattice:
    """Covers end states in the route's frame with quintic and quartic polynomials; takes no random numbers.

    The coarse grid and five special candidates (target speed, keep speed and offset, comfortable stop, two emergency
    stops) are always asked, flagged where they cannot be driven. The rest of the budget goes to denser grids, drivable
    candidates first. Offsets and angles of the ego to the route are met by projection; in `rounds` > 1 even a round
    in which nothing was finite moves on to the next candidates.

    References:
        Werling et al. (2010), "Optimal trajectory generation for dynamic street scenarios in a Frenet frame". Density,
        low-speed mode and flags as in Frenetix (Trauth et al., 2024).
    """

    name = "lattice"

    def __init__(self, config: LatticeConfig = LatticeConfig()) -> None:
        self.config = config
        self.digest = digest_of(self.name, config)
        self.rounds = config.rounds
        self.candidates = config.budget // config.rounds
        self.horizon_steps = config.horizon_steps

    def init(self, key: int, start: Start) -> LatticeState:
        """The state before the first round; the key is not used."""
        return _init(self.config, motion_of(start))

    def ask(self, key: int, state: LatticeState) -> Proposal:
        """The candidates of this round with the reasons why some cannot be driven; the key is not used."""
        controls, infeasible, rows = _ask(self.config, state)
        names = self.config.design().labels
        labels = tuple(names[row] for row in np.asarray(rows))
        return Proposal(bridge.controls_to_numpy(controls), np.array(infeasible), labels)

    def tell(self, state: LatticeState, controls: Float[ndarray, "K T 2"], costs: Float[ndarray, "K"]) -> LatticeState:
        """The state after this round."""
        return _tell(state, bridge.controls_to_jax(controls), bridge.costs_to_jax(costs))

    def finalists(self, state: LatticeState) -> Proposal:
        """The best candidate, and the few best smoothed, flagged `SMOOTHING` where no smooth profile is near."""
        raw = bridge.controls_to_numpy(state.top)
        told = np.isfinite(np.asarray(state.top_costs))
        motion = state.motion
        speed, accel, curvature = (float(x) for x in (motion.speed, motion.accel, motion.curvature))
        paths = Plans.from_controls(raw, speed)
        results = smoothing.smooth_all(
            self.config.smoothing, self.config.limits, paths.select(np.flatnonzero(told)), accel, curvature
        )
        controls, flags = np.concatenate([raw[:1], raw]), np.zeros(len(raw) + 1, np.int32)
        flags[1:][~told] = Infeasible.SMOOTHING
        for row, result in zip(np.flatnonzero(told), results, strict=True):
            controls[1 + row] = result.controls
            flags[1 + row] = 0 if result.certificate.feasible else Infeasible.SMOOTHING
        return Proposal(controls, flags, ("best", *["smoothed"] * len(raw)))

    def tally(self, state: LatticeState) -> tuple[tuple[Infeasible, int], ...]:
        """Each reason with the number of candidates of the whole lattice, asked or not, that it rules out."""
        infeasible = fan(self.config, state.motion, self.config.design().axes).infeasible
        return tally(np.asarray(infeasible)[self.config.design().rows])


@partial(jax.jit, static_argnames="config")
def _init(config: LatticeConfig, motion: Motion) -> LatticeState:
    stop = jnp.zeros((config.horizon_steps, 2, config.finalists)).at[:, 0].set(-config.comfort_brake_mps2)
    return LatticeState(motion, stop, jnp.full(config.finalists, jnp.float32(jnp.inf)), jnp.int32(0))


@partial(jax.jit, static_argnames="config")
def _ask(
    config: LatticeConfig, state: LatticeState
) -> tuple[Float[Array, "T U K"], Int32[Array, "K"], Int32[Array, "K"]]:
    """Controls and flags of the next candidates, and their numbers in the design."""
    plan = config.design()
    found = fan(config, state.motion, plan.axes)
    infeasible = found.infeasible[plan.rows]
    k = config.budget // config.rounds
    order = _to_the_end((jnp.asarray(plan.level) > 0) & (infeasible != 0))
    rows = jax.lax.dynamic_slice_in_dim(order, state.round * k, k)
    chosen = jnp.asarray(plan.rows)[rows]
    return jnp.stack([found.accel[:, chosen], found.curvature[:, chosen]], axis=1), infeasible[rows], rows


def _to_the_end(last: Bool[Array, "N"]) -> Int32[Array, "N"]:
    """The order that puts the rows `last` behind the others and leaves both among themselves as they are.

    A stable argsort gives the same at five times the cost.
    """
    front = jnp.cumsum(~last, dtype=jnp.int32)
    place = jnp.where(last, front[-1] + jnp.cumsum(last, dtype=jnp.int32), front) - 1
    return jnp.zeros(len(last), jnp.int32).at[place].set(jnp.arange(len(last), dtype=jnp.int32))


@jax.jit
def _tell(state: LatticeState, controls: Float[Array, "T U K"], costs: Float[Array, "K"]) -> LatticeState:
    costs = jnp.where(jnp.isfinite(costs) & jnp.isfinite(controls).all(axis=(0, 1)), costs, jnp.inf)
    pool = jnp.concatenate([state.top, controls], axis=2)
    negative, rows = jax.lax.top_k(-jnp.concatenate([state.top_costs, costs]), state.top.shape[2])
    known = jnp.isfinite(negative)
    top = jnp.where(known[None, None, :], pool[:, :, rows], state.top)
    return state._replace(top=top, top_costs=-negative, round=state.round + 1)
