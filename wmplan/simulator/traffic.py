"""The simulator's state and its two functions, `reset` and `step`: everyone drives by IDM except the ego, row 0."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from wmplan import bicycle
from wmplan.scene import STEP_S, Light
from wmplan.simulator import idm
from wmplan.simulator.network import Network, allowed_speed, pose, project
from wmplan.simulator.signals import light_states

VEHICLES, WALKERS = 20, 4
AGENTS = VEHICLES + WALKERS
"""Rows of a state: the ego, the other vehicles, people on foot."""
MAX_BRAKE_MPS2 = 8.0
MAX_ACCEL_MPS2 = 3.0
NOISE_STD_MPS2 = 0.25
NOISE_MEMORY = 0.9
"""Process noise of each driver's acceleration: an AR(1) process at `STEP_S`."""
SIDE_MARGIN_M = 0.3
WALKER_MARGIN_M = 1.0
"""How far beside one's own box a vehicle, or someone on foot, must be to be ignored."""
FAR_M = 1e4
"""The gap of a driver with nothing ahead."""


class State(NamedTuple):
    """One world at one moment. Row 0 is the ego. `s`, `lateral` are along and to the left of the own route; `box` is
    x, y, yaw, speed of the box centre (m, rad, m/s); `size` length and width; `noise` the drivers' noise in m/s2;
    `keys` one random key a row, so that a row's noise does not depend on the others."""

    network: Network
    time: Float[Array, ""]
    steps: Int[Array, ""]
    route: Int[Array, "A"]
    s: Float[Array, "A"]
    lateral: Float[Array, "A"]
    box: Float[Array, "A 4"]
    size: Float[Array, "A 2"]
    active: Bool[Array, "A"]
    drivers: idm.Drivers
    noise: Float[Array, "A"]
    keys: UInt32[Array, "A 2"]


def step(state: State, action: Float[Array, "2"]) -> State:
    """The state `STEP_S` later, when the ego does `action`: acceleration (m/s2) and curvature (1/m), clipped to the
    bicycle's bounds."""
    return advance(state, reactions(state, look(state)), action)


class View(NamedTuple):
    """What each row sees ahead: the gap (m) to the next box and its speed along the way (m/s), the distance to the
    stop line (m) and whether it has to halt there, the speed it would have on an empty road (m/s)."""

    gap: Float[Array, "A"]
    leader_speed: Float[Array, "A"]
    to_line: Float[Array, "A"]
    halt: Bool[Array, "A"]
    desired: Float[Array, "A"]


def look(state: State) -> View:
    """What every row sees."""
    gap, leader_speed = leaders(state)
    to_line = state.network.stop[state.route] - state.s - 0.5 * state.size[:, 0]
    limits = jax.vmap(allowed_speed)(state.network.arc[state.route], state.network.speeds[state.route], state.s)
    return View(gap, leader_speed, to_line, must_stop(state), limits * state.drivers.speed_factor)


def reactions(state: State, view: View) -> Float[Array, "A"]:
    """What every row would do as an IDM driver, m/s2, before noise and bounds; row 0 as if the ego were one too."""
    speed = state.box[:, 3]
    follow = idm.acceleration(speed, speed - view.leader_speed, view.gap, view.desired, state.drivers)
    halt = idm.acceleration(speed, speed, view.to_line, view.desired, state.drivers)
    return jnp.where(view.halt, jnp.minimum(follow, halt), follow)


def advance(state: State, wanted: Float[Array, "A"], action: Float[Array, "2"]) -> State:
    """The state `STEP_S` later when drivers want these accelerations and the ego does `action`."""
    network = state.network
    draws = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, state.steps)))(state.keys)
    noise = NOISE_MEMORY * state.noise + jnp.sqrt(1.0 - NOISE_MEMORY**2) * NOISE_STD_MPS2 * draws
    # Noise never pushes a driver who is braking: it may wander in free traffic, not into the car ahead.
    noisy = wanted + jnp.where(wanted < -1.0, jnp.minimum(noise, 0.0), noise)
    accel = jnp.clip(noisy, -MAX_BRAKE_MPS2, MAX_ACCEL_MPS2)
    speed = state.box[:, 3]
    faster, distance = _longitudinal(speed, accel)
    s = state.s + distance
    lengths = state.size[:, 0]
    placed = jax.vmap(pose)(network.points[state.route], network.arc[state.route], s, state.lateral, lengths)
    box = jnp.concatenate([placed, faster[:, None]], axis=-1)
    ego = drive(state.box[0], action)
    ego_s, ego_lateral = project(network.points[state.route[0]], network.arc[state.route[0]], ego[None, :2])
    s, lateral = s.at[0].set(ego_s[0]), state.lateral.at[0].set(ego_lateral[0])
    active = state.active & (s < network.length[state.route] - 0.5 * lengths)
    return state._replace(
        time=state.time + STEP_S,
        steps=state.steps + 1,
        s=s,
        lateral=lateral,
        box=box.at[0].set(ego),
        active=active.at[0].set(True),
        noise=noise,
    )


def drive(box: Float[Array, "4"], action: Float[Array, "2"]) -> Float[Array, "4"]:
    """x, y, yaw, speed after one step of the kinematic bicycle; the same formula as `wmplan.bicycle.forward`."""
    accel = jnp.clip(action[0], -bicycle.MAX_ACCEL_MPS2, bicycle.MAX_ACCEL_MPS2)
    curvature = jnp.clip(action[1], -bicycle.MAX_CURVATURE_PM, bicycle.MAX_CURVATURE_PM)
    faster, distance = _longitudinal(box[3], accel)
    turn = curvature * distance
    chord = distance * jnp.sinc(turn / (2.0 * jnp.pi))
    x = box[0] + chord * jnp.cos(box[2] + turn / 2.0)
    y = box[1] + chord * jnp.sin(box[2] + turn / 2.0)
    yaw = jnp.pi - jnp.mod(jnp.pi - (box[2] + turn), 2.0 * jnp.pi)
    return jnp.stack([x, y, yaw, faster])


def leaders(state: State) -> tuple[Float[Array, "A"], Float[Array, "A"]]:
    """Gap (m) to the nearest box on each row's way ahead, and that box's speed along the way (m/s).

    A box is on the way where its front, centre or rear lies in the strip that the own box will sweep. Nothing ahead
    is a gap of `FAR_M` and the own speed.
    """
    network = state.network
    heading = state.box[:, 2]
    forward = jnp.stack([jnp.cos(heading), jnp.sin(heading)], axis=-1)
    shifts = jnp.array([-0.5, 0.0, 0.5])[None, :, None] * state.size[:, :1, None]
    axis = state.box[:, None, :2] + shifts * forward[:, None, :]
    flat = axis.reshape(-1, 2)
    walks = network.walk[state.route]
    margin = jnp.where(walks, WALKER_MARGIN_M, SIDE_MARGIN_M)
    agents = len(state.route)
    rows = jnp.arange(agents)

    def one(row: Array) -> tuple[Array, Array]:
        route = state.route[row]
        s, away = project(network.points[route], network.arc[route], flat)
        s, away = s.reshape(agents, 3), away.reshape(agents, 3) - state.lateral[row]
        along = jnp.cos(heading - heading[row])
        across = jnp.sqrt(jnp.maximum(1.0 - along**2, 0.0))
        # A box that stands across the way reaches half its width towards us beyond its axis.
        near = s - 0.5 * (across * state.size[:, 1])[:, None]
        reach = 0.5 * (state.size[row, 1] + jnp.abs(along) * state.size[:, 1]) + margin
        on_way = (jnp.abs(away) < reach[:, None]) & (s > state.s[row])
        # Someone on foot beside the car's flank is no reason to wait: both would wait for ever.
        begins = state.s[row] + jnp.where(walks, 0.5 * state.size[row, 0], 0.0)
        others = state.active & (rows != row) & (s[:, 1] > begins)
        gaps = jnp.where(on_way & others[:, None], near - state.s[row] - 0.5 * state.size[row, 0], FAR_M)
        each = jnp.min(gaps, axis=1)
        first = jnp.argmin(each)
        moving = jnp.maximum(state.box[first, 3] * along[first], 0.0)
        return each[first], jnp.where(each[first] < FAR_M, moving, state.box[row, 3])

    return jax.vmap(one)(rows)


def must_stop(state: State) -> Bool[Array, "A"]:
    """Whether each row has to halt at its stop line: red; yellow, if it can without braking hard; or green while
    vehicles of another group are still inside the crossing."""
    network = state.network
    group = network.group[state.route]
    light = light_states(network, state.time)[jnp.maximum(group, 0)]
    front = state.s + 0.5 * state.size[:, 0]
    rear = state.s - 0.5 * state.size[:, 0]
    to_line = network.stop[state.route] - front
    needed = state.box[:, 3] ** 2 / (2.0 * jnp.maximum(to_line, 0.01))
    walker = network.walk[state.route]
    inside = state.active & (group >= 0) & ~walker & (to_line < 0.0) & (rear < network.clear[state.route])
    blocked = jnp.any(inside[None, :] & (group[None, :] != group[:, None]), axis=1) & ~walker
    red = light == int(Light.RED)
    yellow = (light == int(Light.YELLOW)) & (needed < 3.0)
    return (group >= 0) & (to_line > 0.0) & (red | yellow | (blocked & (needed < 5.0)))


def _longitudinal(
    speed: Float[Array, "*A"], accel: Float[Array, "*A"]
) -> tuple[Float[Array, "*A"], Float[Array, "*A"]]:
    """Speed after a step and distance covered in it; who brakes to a standstill inside it covers v2/2a."""
    after = speed + accel * STEP_S
    faster = jnp.maximum(after, 0.0)
    stops = (after < 0.0) & (accel < 0.0)
    braking = jnp.where(stops, accel, -1.0)
    return faster, jnp.where(stops, -(speed**2) / (2.0 * braking), 0.5 * (speed + faster) * STEP_S)


def project_all(state: State) -> tuple[Float[Array, "A"], Float[Array, "A"]]:
    """Every box centre along and to the left of the ego's route, metres."""
    route = state.route[0]
    return project(state.network.points[route], state.network.arc[route], state.box[:, :2])
