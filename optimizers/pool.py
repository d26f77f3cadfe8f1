"""A fixed pool of candidates: the same manoeuvres in every scene, for evaluation and as the simplest baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from optimizers.axes import OF_TARGET, Axes
from optimizers.fan import FanConfig, fan
from optimizers.limits import Limits, curvature_bound, project
from optimizers.motion import Motion
from optimizers.nominal import nominal_controls
from optimizers.once import Once, OnceState
from optimizers.settings import digest_of, require
from wmplan import bridge
from wmplan.contracts import Proposal
from wmplan.scene import STEP_S

SPEED_FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)
OFFSETS_M = (-1.0, 0.0, 1.0)
ACCELS_MPS2 = (0.0, -1.0, 1.0, -2.0, 2.0, -3.0, -4.0, -6.0)


@dataclass(frozen=True)
class PoolConfig:
    """Settings of `Pool`."""

    budget: int = 128
    """Candidates of a plan."""
    horizon_steps: int = 30
    """Steps of 0.1 s."""
    limits: Limits = field(default_factory=Limits)
    """What the car can do."""

    def __post_init__(self) -> None:
        least = len(SPEED_FRACTIONS) * len(OFFSETS_M) + 3
        require("PoolConfig", "budget", self.budget, self.budget >= least, f"{least} or more")
        require("PoolConfig", "horizon_steps", self.horizon_steps, self.horizon_steps >= 4, "4 or more")


class Pool(Once):
    """Asks once for the same set: route following at five speeds and three offsets, the nominal, an emergency brake,
    coasting, then constant acceleration by constant curvature, straight and gentle ones first. No random numbers.

    The proposals at speeds and offsets resemble those of PDM-Closed, without its simulation of other vehicles.

    References:
        Dauner et al. (2023), "Parting with misconceptions about learning-based vehicle motion planning".
    """

    name = "pool"

    def __init__(self, config: PoolConfig = PoolConfig()) -> None:
        super().__init__(config.budget, config.horizon_steps, config.limits)
        self.config = config
        self.digest = digest_of(self.name, config)

    def ask(self, key: int, state: OnceState) -> Proposal:
        """The pool; the key is not used."""
        controls, infeasible = _ask(self.config, state)
        routed = len(SPEED_FRACTIONS) * len(OFFSETS_M)
        labels = ["follow"] * routed + ["nominal", "emergency", "coast"]
        labels += ["constant"] * (self.candidates - len(labels))
        return Proposal(bridge.controls_to_numpy(controls), np.array(infeasible), tuple(labels))


def sweep(count: int) -> tuple[tuple[float, float], ...]:
    """`count` pairs of acceleration (m/s2) and curvature (fraction of the bound at the present speed), gentle first."""
    pairs: list[tuple[float, float]] = []
    level = 1
    while len(pairs) < count:
        steps = [i / 2**level for i in range(1, 2**level + 1)]
        curvatures = [0.0, *[sign * step for step in steps for sign in (1.0, -1.0)]]
        pairs += [(a, c) for c in curvatures for a in ACCELS_MPS2 if (a, c) not in set(pairs)]
        level += 1
    return tuple(pairs[:count])


@partial(jax.jit, static_argnames="config")
def _ask(config: PoolConfig, state: OnceState) -> tuple[Float[Array, "T U K"], Array]:
    motion, steps, limits = state.motion, config.horizon_steps, config.limits
    route, follow_bits = _follow(config, motion)
    nominal = nominal_controls(motion, steps, limits, "route")
    emergency = jnp.stack([jnp.full(steps, limits.min_accel_mps2), nominal[:, 1]], axis=1)
    coast = jnp.stack([jnp.full(steps, -0.3), nominal[:, 1]], axis=1)
    accel, share = jnp.asarray(sweep(config.budget - route.shape[2] - 3)).T
    curvature = share * curvature_bound(motion.speed, limits)
    constant = jnp.broadcast_to(jnp.stack([accel, curvature])[None], (steps, 2, len(accel)))
    rest = jnp.concatenate([jnp.stack([nominal, emergency, coast], axis=2), constant], axis=2)
    controls = jnp.concatenate([route, project(rest, motion, limits)], axis=2)
    return controls, jnp.concatenate([follow_bits, jnp.zeros(rest.shape[2], jnp.int32)])


def _follow(config: PoolConfig, motion: Motion) -> tuple[Float[Array, "T U K"], Array]:
    """The lattice's candidates at fractions of the target speed and a metre to either side, speed by speed."""
    speeds, offsets = np.array(SPEED_FRACTIONS, np.float32), np.array(OFFSETS_M, np.float32)
    horizon = np.full(len(speeds), config.horizon_steps * STEP_S, np.float32)
    axes = Axes(horizon, speeds, np.full(len(speeds), OF_TARGET, np.int32), offsets, np.zeros(len(offsets), bool))
    found = fan(FanConfig(horizon_steps=config.horizon_steps, limits=config.limits), motion, axes)
    by_speed = np.arange(len(offsets) * len(speeds)).reshape(len(offsets), len(speeds)).T.ravel()
    return jnp.stack([found.accel, found.curvature], axis=1)[:, :, by_speed], found.infeasible[by_speed]
