"""A Frenet lattice: end time x end speed x end offset, denser where the coarse grid cannot be driven."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32
from numpy import ndarray

from optimizers import frenet, smoothing
from optimizers.limits import Limits, reasons
from optimizers.motion import Motion, motion_of
from optimizers.settings import digest_of, per_round, require
from optimizers.smoothing import SmoothingConfig
from wmplan import bridge
from wmplan.contracts import Infeasible, Proposal
from wmplan.plans import Plans, Start
from wmplan.scene import STEP_S

NORMAL, TARGET, KEEP, STANDSTILL, EMERGENCY, FRACTION = range(6)
DENSER = 2
"""The grid that is tried for feasibility, in budgets."""
LABELS = ("lattice", "target", "keep", "standstill", "emergency", "fraction")


@dataclass(frozen=True)
class LatticeConfig:
    """Settings of `Lattice`."""

    budget: int = 128
    """Candidates of a plan, finalists apart."""
    rounds: int = 1
    """Rounds that share the budget; each takes the next candidates in the order coarse, feasible and denser, rest."""
    horizon_steps: int = 30
    """Steps of 0.1 s."""
    max_offset_m: float = 3.5
    """Largest end offset to either side of the route, m: one lane."""
    slower_mps2: float = 4.0
    """Mean deceleration over the horizon to the slowest end speed, m/s2."""
    faster_mps2: float = 2.5
    """Mean acceleration over the horizon to the fastest end speed, m/s2."""
    comfort_brake_mps2: float = 2.0
    """Deceleration of the standstill candidate, m/s2; the emergency candidates brake at the limit."""
    low_speed_mps: float = 3.0
    """A candidate that goes slower than this anywhere has its offset as a function of the way, not of time."""
    low_speed_way_m: float = 12.0
    """Least way over which such a candidate reaches its end offset, m."""
    finalists: int = 3
    """Cheapest candidates that are smoothed after the last round."""
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)
    """How they are smoothed."""
    limits: Limits = field(default_factory=Limits)
    """What the car can do; candidates beyond it are flagged with the reason."""

    def __post_init__(self) -> None:
        per_round("LatticeConfig", self.budget, self.rounds)
        require("LatticeConfig", "horizon_steps", self.horizon_steps, self.horizon_steps >= 4, "4 or more")
        require("LatticeConfig", "finalists", self.finalists, 1 <= self.finalists <= self.budget, "1 to budget")
        for name in ("slower_mps2", "faster_mps2", "comfort_brake_mps2", "low_speed_way_m"):
            require("LatticeConfig", name, getattr(self, name), getattr(self, name) > 0.0, "a positive number")


class Grid(NamedTuple):
    """Candidates: end time (s), end speed and end offset (both as fractions of their ranges), kind, density level.

    The fraction of an end speed runs from the slowest to the fastest (kind `FRACTION`: of the target speed, as far as
    those allow), of an end offset from -1 to 1.
    """

    end: Float[Array, "K"]
    speed: Float[Array, "K"]
    offset: Float[Array, "K"]
    kind: Int32[Array, "K"]
    level: Int32[Array, "K"]


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
        controls, infeasible, kinds = _ask(self.config, state)
        labels = tuple(LABELS[kind] for kind in np.asarray(kinds))
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


@partial(jax.jit, static_argnames="config")
def candidates(
    config: LatticeConfig, motion: Motion, grid: Grid
) -> tuple[Float[Array, "T U K"], Float[Array, "S 4 K"], Int32[Array, "K"]]:
    """Controls of the grid's candidates, the states that they were read from, and why some cannot be driven."""
    start = frenet.seen_from_route(motion)
    time = (jnp.arange(config.horizon_steps + 1) * STEP_S)[:, None]
    horizon_s = config.horizon_steps * STEP_S
    slowest = jnp.maximum(start.speed - config.slower_mps2 * horizon_s, 0.0)
    fastest = jnp.minimum(start.speed + config.faster_mps2 * horizon_s, config.limits.max_speed_mps)
    end_speed = slowest + grid.speed * jnp.maximum(fastest - slowest, 0.0)
    share_of_target = jnp.where(grid.kind == FRACTION, grid.speed, 1.0) * motion.target_speed
    by_target = (grid.kind == TARGET) | (grid.kind == FRACTION)
    end_speed = jnp.where(by_target, jnp.clip(share_of_target, slowest, fastest), end_speed)
    end_speed = jnp.where(grid.kind == KEEP, start.speed, end_speed)[None]
    kept = (grid.kind == KEEP) | ((grid.kind == EMERGENCY) & (grid.offset != 0.0))
    end_offset = jnp.where(kept, start.offset, grid.offset * config.max_offset_m)[None]
    end = grid.end[None]

    stops = ((grid.kind == EMERGENCY) | (grid.kind == STANDSTILL))[None]
    decel = jnp.where(grid.kind == EMERGENCY, -0.99 * config.limits.min_accel_mps2, config.comfort_brake_mps2)[None]
    share = jnp.where(motion.speed > 0.1, start.speed / jnp.maximum(motion.speed, 0.1), 1.0)
    rolling = frenet.quartic(start.speed, start.accel, end_speed, end, time)
    stopping = frenet.braking(start.speed, decel * share, time)
    along = frenet.Along(*(jnp.where(stops, b, a) for a, b in zip(rolling, stopping, strict=True)))

    timed = (along.speed.min(axis=0) >= config.low_speed_mps)[None]
    slope_t = start.slope * start.speed
    bend_t = start.bend * start.speed**2 + start.slope * start.accel
    in_time = frenet.quintic(start.offset, slope_t, bend_t, end_offset, end, time)
    way = jnp.maximum(along.s[-1:], config.low_speed_way_m)
    on_way = frenet.quintic(start.offset, start.slope, start.bend, end_offset, way, along.s)
    offset = jnp.where(timed, in_time.offset, on_way.offset)
    states, holds = frenet.to_plane(motion, start, along, offset, in_time.slope, on_way.slope, timed)
    controls = jax.lax.optimization_barrier(frenet.controls_along(states))
    bits = reasons(controls, states[:, 3], config.limits)
    finite = jnp.where(jnp.isfinite(controls), controls, 0.0)
    return finite, states, bits | jnp.where(holds, 0, jnp.int32(Infeasible.PROJECTION))


@functools.cache
def grid_of(horizon_steps: int, count: int) -> tuple[tuple[float, ...], ...]:
    """Rows (end, speed, offset, kind, level) of nested grids, coarse first; `count` of them."""
    horizon = horizon_steps * STEP_S
    special = [
        (horizon, 0.0, 0.0, TARGET, 0),
        (horizon, 0.0, 0.0, KEEP, 0),
        (horizon, 0.0, 0.0, STANDSTILL, 0),
        (horizon, 0.0, 0.0, EMERGENCY, 0),
        (horizon, 0.0, 1.0, EMERGENCY, 0),
    ]
    seen: set[tuple[float, float, float]] = set()
    rows = [tuple(float(value) for value in row) for row in special]
    ends = ((2 / 3, 1.0), (1 / 3, 2 / 3, 1.0), (1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0))
    level = 0
    while len(rows) < count:
        speeds, offsets = np.linspace(0, 1, 2 ** (level + 2) + 1), np.linspace(-1, 1, 2 ** (level + 1) + 1)
        points = [(end, float(v), float(d)) for end in ends[min(level, 2)] for v in speeds for d in offsets]
        new = [point for point in points if point not in seen]
        seen.update(new)
        # Inside a level any prefix should be spread over the whole grid, since the budget may cut it.
        order = np.random.default_rng(level).permutation(len(new)) if level else np.arange(len(new))
        rows += [(new[i][0] * horizon, new[i][1], new[i][2], float(NORMAL), float(level)) for i in order]
        level += 1
    return tuple(rows[:count])


def _grid(config: LatticeConfig) -> Grid:
    end, speed, offset, kind, level = np.array(grid_of(config.horizon_steps, DENSER * config.budget)).T
    ends, speeds, offsets = (jnp.asarray(value, jnp.float32) for value in (end, speed, offset))
    return Grid(ends, speeds, offsets, jnp.asarray(kind, jnp.int32), jnp.asarray(level, jnp.int32))


@partial(jax.jit, static_argnames="config")
def _init(config: LatticeConfig, motion: Motion) -> LatticeState:
    stop = jnp.zeros((config.horizon_steps, 2, config.finalists)).at[:, 0].set(-config.comfort_brake_mps2)
    return LatticeState(motion, stop, jnp.full(config.finalists, jnp.float32(jnp.inf)), jnp.int32(0))


@partial(jax.jit, static_argnames="config")
def _ask(
    config: LatticeConfig, state: LatticeState
) -> tuple[Float[Array, "T U K"], Int32[Array, "K"], Int32[Array, "K"]]:
    grid = _grid(config)
    controls, _, infeasible = candidates(config, state.motion, grid)
    beyond = grid.level.max() + 1
    rank = jnp.where((grid.level > 0) & (infeasible != 0), beyond + grid.level, grid.level)
    order = jnp.argsort(rank, stable=True)
    k = config.budget // config.rounds
    chosen = jax.lax.dynamic_slice_in_dim(order, state.round * k, k)
    return controls[:, :, chosen], infeasible[chosen], grid.kind[chosen]


@jax.jit
def _tell(state: LatticeState, controls: Float[Array, "T U K"], costs: Float[Array, "K"]) -> LatticeState:
    costs = jnp.where(jnp.isfinite(costs) & jnp.isfinite(controls).all(axis=(0, 1)), costs, jnp.inf)
    pool = jnp.concatenate([state.top, controls], axis=2)
    negative, rows = jax.lax.top_k(-jnp.concatenate([state.top_costs, costs]), state.top.shape[2])
    known = jnp.isfinite(negative)
    top = jnp.where(known[None, None, :], pool[:, :, rows], state.top)
    return state._replace(top=top, top_costs=-negative, round=state.round + 1)
