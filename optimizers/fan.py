"""The fan of candidates: one compiled program from axes to controls, paths in the plane, and what cannot be driven."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from optimizers import frenet
from optimizers.axes import ABSOLUTE, EMERGENCY, KEEP, OF_TARGET, STANDSTILL, Axes
from optimizers.limits import MOVING_M, Limits, step_reasons
from optimizers.motion import Motion, place
from optimizers.settings import require
from wmplan.contracts import Infeasible
from wmplan.scene import STEP_S

HARDEST_SHARE = 0.99
"""Share of the hardest braking that an emergency stop uses, so that rounding does not put it beyond the bound."""
SHARPEST_COS = 0.5
"""Cosine of the largest turn in one step that is taken for one; no car turns 60 degrees in 0.1 s."""


@dataclass(frozen=True)
class FanConfig:
    """How far the candidates of a fan reach, and how they move."""

    horizon_steps: int = 30
    """Steps of 0.1 s."""
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
    limits: Limits = field(default_factory=Limits)
    """What the car can do; candidates beyond it are flagged with the reason."""

    def __post_init__(self) -> None:
        require("FanConfig", "horizon_steps", self.horizon_steps, self.horizon_steps >= 4, "4 or more")
        for name in ("slower_mps2", "faster_mps2", "comfort_brake_mps2", "low_speed_way_m"):
            require("FanConfig", name, getattr(self, name), getattr(self, name) > 0.0, "a positive number")


class Path(NamedTuple):
    """Where a candidate is after each step: position, heading as a unit vector, speed. Scene frame."""

    x: Float[Array, "T K"]
    y: Float[Array, "T K"]
    cos: Float[Array, "T K"]
    sin: Float[Array, "T K"]
    speed: Float[Array, "T K"]


class Fan(NamedTuple):
    """Candidates: the controls that follow their paths, and bits of `Infeasible` for those that cannot be driven."""

    accel: Float[Array, "T K"]
    curvature: Float[Array, "T K"]
    path: Path
    infeasible: Int32[Array, "K"]


class Rails(NamedTuple):
    """Profiles in the plane, one row a step: everything of a candidate that does not depend on its end offset.

    With `gap` = present offset - end offset: offset = `offset` - gap x `to_end`, sideways = `side` + gap x `side_gap`.
    `forward` and sideways are the components of the motion along the tangent and to its left, as a velocity (`pace` 1),
    or, at low speed, as a direction that is taken at the speed `pace` per unit of it.
    """

    x: Float[Array, "S P"]
    y: Float[Array, "S P"]
    cos: Float[Array, "S P"]
    sin: Float[Array, "S P"]
    curvature: Float[Array, "S P"]
    forward: Float[Array, "S P"]
    pace: Float[Array, "S P"]
    offset: Float[Array, "S P"]
    to_end: Float[Array, "S P"]
    side: Float[Array, "S P"]
    side_gap: Float[Array, "S P"]


@partial(jax.jit, static_argnames="config")
def fan(config: FanConfig, motion: Motion, axes: Axes) -> Fan:
    """All candidates of the axes, offset-major, checked step by step.

    Only the end offset tells candidates of one profile apart, and they are linear in it: polynomials and the look-up of
    the route are done once a profile. The route's points are equally spaced, so that the look-up is arithmetic.
    """
    start = frenet.seen_from_route(motion)
    # Without the barrier XLA fuses the rails into each of their readers and computes them again in every one.
    rails = jax.lax.optimization_barrier(_rails(config, motion, start, axes))
    end_offset = jnp.where(jnp.asarray(axes.own), start.offset, jnp.asarray(axes.offset))
    gap = (start.offset - end_offset)[:, None]

    def step(before: _Step, row: Rails) -> tuple[_Step, tuple[Array, Array, Path]]:
        path, narrow = _placed(row, gap)
        accel = (path.speed - before.path.speed) * (1.0 / STEP_S)
        way = (path.speed + before.path.speed) * (0.5 * STEP_S)
        curvature = _turn(before.path, path) / jnp.maximum(way, 0.1 * MOVING_M)
        curvature = jnp.where(way > 0.1 * MOVING_M, curvature, 0.0)
        change = jnp.where((way > MOVING_M) & (before.way > MOVING_M), curvature - before.curvature, 0.0)
        bits = step_reasons(accel, curvature, change, jnp.maximum(path.speed, before.path.speed), config.limits)
        bits = before.bits | bits | jnp.where(narrow > frenet.NARROWEST, 0, jnp.int32(Infeasible.PROJECTION))
        return _Step(path, way, curvature, bits), (accel, curvature, path)

    first, _ = _placed(Rails(*(value[0] for value in rails)), gap)
    still = jnp.zeros_like(first.speed)
    bits = jnp.where(start.valid, jnp.int32(0), jnp.int32(Infeasible.PROJECTION))
    carry = _Step(first, still, still, jnp.broadcast_to(bits, still.shape))
    last, (accel, curvature, path) = jax.lax.scan(step, carry, Rails(*(value[1:] for value in rails)))
    flat = (config.horizon_steps, still.size)
    return Fan(
        accel.reshape(flat), curvature.reshape(flat), Path(*(value.reshape(flat) for value in path)), last.bits.ravel()
    )


def along(config: FanConfig, motion: Motion, start: frenet.FrenetStart, axes: Axes) -> frenet.Along:
    """The profiles along the route; the first row is the present."""
    time = (jnp.arange(config.horizon_steps + 1) * STEP_S)[:, None]
    horizon_s = config.horizon_steps * STEP_S
    kind, share = jnp.asarray(axes.kind), jnp.asarray(axes.speed)
    slowest = jnp.maximum(start.speed - config.slower_mps2 * horizon_s, 0.0)
    fastest = jnp.minimum(start.speed + config.faster_mps2 * horizon_s, config.limits.max_speed_mps)
    end_speed = slowest + share * jnp.maximum(fastest - slowest, 0.0)
    end_speed = jnp.where(kind == OF_TARGET, jnp.clip(share * motion.target_speed, slowest, fastest), end_speed)
    end_speed = jnp.where(kind == ABSOLUTE, share, end_speed)
    end_speed = jnp.where(kind == KEEP, start.speed, end_speed)

    hardest = -HARDEST_SHARE * config.limits.min_accel_mps2
    decel = jnp.where(kind == EMERGENCY, hardest, config.comfort_brake_mps2)
    along_route = jnp.where(motion.speed > 0.1, start.speed / jnp.maximum(motion.speed, 0.1), 1.0)
    rolling = frenet.quartic(start.speed, start.accel, end_speed[None], jnp.asarray(axes.end)[None], time)
    stopping = frenet.braking(start.speed, (decel * along_route)[None], time)
    stops = ((kind == EMERGENCY) | (kind == STANDSTILL))[None]
    return frenet.Along(*(jnp.where(stops, b, a) for a, b in zip(rolling, stopping, strict=True)))


class _Step(NamedTuple):
    """What the next step needs to know of this one."""

    path: Path
    way: Float[Array, "J P"]
    curvature: Float[Array, "J P"]
    bits: Int32[Array, "J P"]


def _rails(config: FanConfig, motion: Motion, start: frenet.FrenetStart, axes: Axes) -> Rails:
    time = (jnp.arange(config.horizon_steps + 1) * STEP_S)[:, None]
    profile = along(config, motion, start, axes)
    # At walking pace the derivative by time over the speed is noise: there the offset is a function of the way.
    timed = (profile.speed.min(axis=0) >= config.low_speed_mps)[None]
    x = jnp.where(timed, time, profile.s)
    end = jnp.where(timed, jnp.asarray(axes.end)[None], jnp.maximum(profile.s[-1:], config.low_speed_way_m))
    slope = jnp.where(timed, start.slope * start.speed, start.slope)
    bend = jnp.where(timed, start.bend * start.speed**2 + start.slope * start.accel, start.bend)
    drift, fade = frenet.quintic(slope, bend, end, x)
    at = place(motion.route, start.s + profile.s)
    return Rails(
        x=at.x,
        y=at.y,
        cos=at.cos,
        sin=at.sin,
        curvature=at.curvature,
        forward=at.slope * jnp.where(timed, profile.speed, 1.0),
        pace=jnp.where(timed, 1.0, profile.speed),
        offset=start.offset + drift.offset,
        to_end=1.0 - fade.offset,
        side=drift.slope,
        side_gap=fade.slope,
    )


def _placed(row: Rails, gap: Float[Array, "J 1"]) -> tuple[Path, Float[Array, "J P"]]:
    """Where one step of the profiles is for each end offset, and 1 - curvature x offset there."""
    row = Rails(*(value[None] for value in row))
    offset = row.offset - gap * row.to_end
    side = row.side + gap * row.side_gap
    narrow = 1.0 - row.curvature * offset
    forward = row.forward * jnp.maximum(narrow, frenet.NARROWEST)
    length = jnp.sqrt(forward * forward + side * side)
    share = 1.0 / jnp.maximum(length, 1e-6)
    cos = (forward * row.cos - side * row.sin) * share
    sin = (forward * row.sin + side * row.cos) * share
    return Path(row.x - offset * row.sin, row.y + offset * row.cos, cos, sin, row.pace * length), narrow


def _turn(before: Path, path: Path) -> Float[Array, "J P"]:
    """Angle between two headings by the series of arcsin, 0.012 rad off at 60 degrees, pi / 2 beyond."""
    cross = before.cos * path.sin - before.sin * path.cos
    dot = before.cos * path.cos + before.sin * path.sin
    square = cross * cross
    series = cross * (1.0 + square * (1 / 6 + square * (3 / 40 + square * (15 / 336 + square * (105 / 3456)))))
    return jnp.where(dot > SHARPEST_COS, series, jnp.where(cross < 0.0, -0.5 * jnp.pi, 0.5 * jnp.pi))
