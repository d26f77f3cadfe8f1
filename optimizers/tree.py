"""A tree of manoeuvres: a choice of acceleration and offset at each of three stages, so that plans share beginnings."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from optimizers.limits import Limits, curvature_bound, project, reasons, speeds
from optimizers.motion import Motion, Place, Route, nearest, nearest_to_ego, place
from optimizers.nominal import LOOKAHEAD_M, LOOKAHEAD_S, nominal_controls
from optimizers.once import Once, OnceState
from optimizers.pool import sweep
from optimizers.settings import digest_of, require
from wmplan import bridge
from wmplan.contracts import IMAGINED_STEP_S, Proposal
from wmplan.scene import STEP_S

DEPTH = 3
ALONE = 2
"""Candidates that stand outside the tree whatever the budget: emergency brake and nominal."""
ACTIONS = (
    (0.0, 0.0), (-2.0, 0.0), (1.5, 0.0), (0.0, 1.0), (0.0, -1.0), (-4.0, 0.0), (-2.0, 1.0), (-2.0, -1.0),
    (1.5, 1.0), (1.5, -1.0), (-6.0, 0.0), (3.0, 0.0), (0.0, 2.0), (0.0, -2.0), (-4.0, 1.0), (-4.0, -1.0),
)  # fmt: skip
"""What a stage may do, the most usual first: acceleration (m/s2), offset from the route in `TreeConfig.offset_m`."""


@dataclass(frozen=True)
class TreeConfig:
    """Settings of `Tree`."""

    budget: int = 128
    """Candidates of a plan, the best asked again apart."""
    horizon_steps: int = 30
    """Steps of 0.1 s."""
    offset_m: float = 1.75
    """One step to the side of the route, m: half a lane."""
    limits: Limits = field(default_factory=Limits)
    """What the car can do."""

    def __post_init__(self) -> None:
        least = DEPTH * round(IMAGINED_STEP_S / STEP_S)
        require("TreeConfig", "budget", self.budget, self.budget >= 10, "10 or more")
        require("TreeConfig", "horizon_steps", self.horizon_steps, self.horizon_steps >= least, f"{least} or more")
        require("TreeConfig", "offset_m", self.offset_m, self.offset_m > 0.0, "a positive number")


class Tree(Once):
    """Asks once for the leaves of a tree of manoeuvres; takes no random numbers.

    Each of three stages holds an acceleration and pursues a line beside the route. Stages end with imagined steps, and
    a node is worked out once for all its leaves: their first controls are equal to the bit, and a world model that
    shares prefixes imagines the common part once, less than half of all steps. Beside the tree stand an emergency
    brake, the nominal and, where the budget is left over, constant controls.
    """

    name = "tree"

    def __init__(self, config: TreeConfig = TreeConfig()) -> None:
        super().__init__(config.budget, config.horizon_steps, config.limits)
        self.config = config
        self.digest = digest_of(self.name, config)

    def ask(self, key: int, state: OnceState) -> Proposal:
        """The tree's leaves and what stands beside it; the key is not used."""
        controls, infeasible = _ask(self.config, state.motion)
        leaves = int(np.prod(branches(self.config.budget)))
        labels = ["tree"] * leaves + ["emergency", "nominal"]
        labels += ["constant"] * (self.candidates - len(labels))
        return Proposal(bridge.controls_to_numpy(controls), np.array(infeasible), tuple(labels))


@functools.cache
def branches(budget: int) -> tuple[int, int, int]:
    """Choices at each stage, as many and as even as the budget allows."""
    room, most = budget - ALONE, len(ACTIONS)
    last = min(most, int(np.floor(np.cbrt(room) + 1e-9)))
    middle = min(most, int(np.floor(np.sqrt(room / last) + 1e-9)))
    return min(most, room // (last * middle)), middle, last


def stage_steps(horizon_steps: int) -> tuple[int, int, int]:
    """Control steps of each stage: whole imagined steps, but for what is left over at the end."""
    stride = round(IMAGINED_STEP_S / STEP_S)
    ends = [stride * round(i * (horizon_steps // stride) / DEPTH) for i in range(DEPTH)] + [horizon_steps]
    first, second, third = np.diff(ends).tolist()
    return first, second, third


class _Node(NamedTuple):
    """Where the ego is at a node, N nodes: pose, speed, curvature, place along the route."""

    x: Float[Array, "N"]
    y: Float[Array, "N"]
    yaw: Float[Array, "N"]
    speed: Float[Array, "N"]
    curvature: Float[Array, "N"]
    along: Float[Array, "N"]


@partial(jax.jit, static_argnames="config")
def _ask(config: TreeConfig, motion: Motion) -> tuple[Float[Array, "T U K"], Int32[Array, "K"]]:
    limits, steps = config.limits, config.horizon_steps
    bound = curvature_bound(motion.speed, limits)
    zero = jnp.float32(0.0)
    first = (zero, zero, zero, motion.speed, jnp.clip(motion.curvature, -bound, bound), nearest_to_ego(motion.route))
    node = _Node(*(value[None] for value in first))
    controls = jnp.zeros((0, 2, 1))
    for count, length in zip(branches(config.budget), stage_steps(steps), strict=True):
        # Copies of what their node computed, so that leaves agree to the bit where they have not parted.
        accel, offset = (jnp.tile(jnp.asarray(part), len(node.x)) for part in np.array(ACTIONS[:count], np.float32).T)
        node = _Node(*(jnp.repeat(value, count) for value in node))
        node, driven = _stage(config, motion.route, node, accel, offset * config.offset_m, length)
        controls = jnp.concatenate([jnp.repeat(controls, count, axis=2), driven])
    nominal = nominal_controls(motion, steps, limits, "route")
    emergency = jnp.stack([jnp.full(steps, limits.min_accel_mps2), nominal[:, 1]], axis=1)
    rest = jnp.stack([emergency, nominal], axis=2)
    left = config.budget - controls.shape[2] - ALONE
    if left:
        accel, share = np.array(sweep(left), np.float32).T
        constant = jnp.stack([jnp.asarray(accel), jnp.asarray(share) * bound])
        rest = jnp.concatenate([rest, jnp.broadcast_to(constant[None], (steps, 2, left))], axis=2)
    controls = jnp.concatenate([controls, project(rest, motion, limits)], axis=2)
    return controls, reasons(controls, speeds(controls, motion), limits)


def _stage(
    config: TreeConfig, route: Route, node: _Node, accel: Float[Array, "N"], offset: Float[Array, "N"], steps: int
) -> tuple[_Node, Float[Array, "steps 2 N"]]:
    """Each node after a stage of constant acceleration and pure pursuit of the line `offset` metres left of the route,
    and the controls that lead there."""
    limits = config.limits

    def step(at: _Node, _: Any) -> tuple[_Node, Float[Array, "2 N"]]:
        s = jax.vmap(partial(nearest, route))(at.x, at.y, at.along)
        push = jnp.minimum(accel, (limits.max_speed_mps - at.speed) / STEP_S)
        push = jnp.clip(push, limits.min_accel_mps2, limits.max_accel_mps2)
        speed = jnp.maximum(at.speed + push * STEP_S, 0.0)
        aim: Place = place(route, s + jnp.maximum(LOOKAHEAD_M, LOOKAHEAD_S * at.speed))
        dx = aim.x - offset * jnp.sin(aim.yaw) - at.x
        dy = aim.y + offset * jnp.cos(aim.yaw) - at.y
        left = -dx * jnp.sin(at.yaw) + dy * jnp.cos(at.yaw)
        reach = limits.max_curvature_rate_pmps * STEP_S
        bound = curvature_bound(jnp.maximum(at.speed, speed), limits)
        pursuit = 2.0 * left / jnp.maximum(dx**2 + dy**2, 1.0)
        curvature = jnp.clip(jnp.clip(pursuit, at.curvature - reach, at.curvature + reach), -bound, bound)
        distance = 0.5 * (at.speed + speed) * STEP_S
        middle = at.yaw + 0.5 * curvature * distance
        x, y = at.x + distance * jnp.cos(middle), at.y + distance * jnp.sin(middle)
        after = _Node(x, y, at.yaw + curvature * distance, speed, curvature, s + distance)
        return after, jnp.stack([push, curvature])

    return jax.lax.scan(step, node, None, length=steps)
