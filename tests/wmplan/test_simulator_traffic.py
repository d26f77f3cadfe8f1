"""Laws of the traffic: nobody touches, nothing jumps, what the ego does reaches only those it can reach."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shapely

from wmplan import bicycle
from wmplan.boxes import corners
from wmplan.scene import STEP_S, Kind, Light
from wmplan.simulator import behaviour, layout, maps
from wmplan.simulator.network import Network, stack
from wmplan.simulator.packing import pack
from wmplan.simulator.perception import lights
from wmplan.simulator.populate import WARM_UP_STEPS, place
from wmplan.simulator.state import ROWS, State
from wmplan.simulator.traffic import MAX_ACCEL_MPS2, MAX_BRAKE_MPS2, go_on, observe
from wmplan.simulator.truth import execute

WORLDS, STEPS = 20, 150
PLANS, PLAN_STEPS = 16, 40


class Film(NamedTuple):
    """Everything that happened: steps x worlds."""

    states: State
    lights: np.ndarray


@pytest.fixture(scope="module")
def roads() -> list[layout.SimMap]:
    names = list(maps.MAPS)
    return [maps.MAPS[names[i % len(names)]](i) for i in range(WORLDS)]


@pytest.fixture(scope="module")
def network(roads) -> Network:
    return stack([pack(road) for road in roads])


def play(network: Network, worlds: np.ndarray) -> Film:
    """Worlds with the behaviour policy at the wheel, padded to one size: compiling is what takes time."""
    padded = np.resize(worlds, WORLDS).astype(np.int32)
    film = jax.device_get(_play(network, jnp.asarray(padded)))
    return Film(*jax.tree.map(lambda leaf: leaf[:, : len(worlds)], film))


@jax.jit
def _play(network, which):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(5), i))(which)
    plain = jax.vmap(lambda _: behaviour.plain(WARM_UP_STEPS))(which)
    mind = jax.vmap(lambda key: behaviour.schedule(jax.random.fold_in(key, 1), STEPS))(keys)
    minds = jax.tree.map(lambda *x: jnp.moveaxis(jnp.concatenate(x, axis=1), 1, 0), plain, mind)

    def one(worlds, now):
        seen = observe(network, worlds)
        shown = jax.vmap(lights, in_axes=(None, 0))(network, worlds)
        return go_on(network, worlds, seen, behaviour.act_each(network, worlds, seen, now)), (worlds, shown)

    _, film = jax.lax.scan(one, place(network, which, keys), minds)
    return jax.tree.map(lambda leaf: leaf[WARM_UP_STEPS:], film)


@pytest.fixture(scope="module")
def film(network) -> Film:
    return play(network, np.arange(WORLDS))


def world(film: Film, step: int, row: int) -> State:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[step, row]), film.states)


def outcome(network: Network, state: State, controls: np.ndarray):
    """The outcomes of up to `PLANS` candidates, padded to one shape for all tests."""
    padded = np.zeros((PLANS, PLAN_STEPS, 2), dtype=np.float32)
    padded[: len(controls), : controls.shape[1]] = controls
    truth = execute(network, state, padded).numpy()
    return truth.select(slice(0, len(controls)))


def boxes(states: State, *index) -> np.ndarray:
    parts = (states.x, states.y, np.arctan2(states.sin, states.cos), states.length, states.width)
    return np.stack([np.asarray(p[index], dtype=np.float64) for p in parts], axis=-1)


def test_nobody_touches_anybody(film):
    """Rows that nobody forced: fewer than one in ten thousand may touch (two who merge from opposite sides)."""
    touching, seen = 0, 0
    for w in range(WORLDS):
        for t in range(0, STEPS, 3):
            rows = np.flatnonzero(film.states.active[t, w])
            shapes = shapely.polygons(corners(boxes(film.states, t, w)[rows]))
            first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
            touching += (first < second).sum()
            seen += len(rows)
    assert seen > 10_000
    assert touching <= seen / 10_000


def test_nothing_jumps_and_accelerations_are_bounded(film):
    states = film.states
    both = states.active[1:] & states.active[:-1]
    accel = (np.diff(states.speed, axis=0) / STEP_S)[both]
    assert accel.min() >= -MAX_BRAKE_MPS2 - 1e-3
    assert accel.max() <= max(MAX_ACCEL_MPS2, bicycle.MAX_ACCEL_MPS2) + 1e-3
    moved = np.hypot(np.diff(states.x, axis=0), np.diff(states.y, axis=0))[both]
    fastest = np.maximum(states.speed[1:], states.speed[:-1])[both]
    assert (moved <= fastest * STEP_S * 1.15 + 2e-3).all(), "1.15: the outside of a bend, and the way across a lane"
    turned = np.angle(np.exp(1j * np.diff(np.arctan2(states.sin, states.cos), axis=0)))[both]
    assert (np.abs(turned) <= 0.6 * moved + 2e-3).all()
    assert np.allclose(states.cos**2 + states.sin**2, 1.0, atol=1e-5)
    assert (states.speed >= 0.0).all()


def test_worlds_are_alive(film):
    """The laws above would hold in a world where all stand still."""
    states = film.states
    assert np.mean(states.speed[states.active & (states.kind == Kind.VEHICLE)] > 3.0) > 0.4
    assert (states.active.sum(axis=2).min(axis=0) >= 4).all()
    ego = np.diff(states.speed[:, :, 0], axis=0) / STEP_S
    assert ego.min() < -3.0
    assert ego.max() > 1.0
    changed = (np.diff(states.route, axis=0) != 0) & states.active[1:]
    assert changed[:, :, 1:].sum() >= 5, "somebody changes lanes"
    for kind in (Kind.PEDESTRIAN, Kind.CYCLIST):
        assert (states.speed[states.active & (states.kind == kind)] > 0.5).sum() > 100


def test_nobody_crosses_a_red_light(film, roads):
    crossed = 0
    for w in np.flatnonzero([road.name == "crossing" for road in roads]):
        for row in range(ROWS):
            route = roads[w].routes[int(film.states.route[0, w, row])]
            front = film.states.s[:, w, row] + 0.5 * film.states.length[0, w, row]
            for t in np.flatnonzero((front[:-1] <= route.stop) & (front[1:] > route.stop)):
                if film.states.active[t, w, row] and route.group >= 0:
                    crossed += 1
                    assert film.lights[t, w, route.group] != Light.RED, (w, t, row)
    assert crossed >= 5


def test_whoever_waits_lets_those_with_right_of_way_pass(film, roads):
    """Nobody enters a zone while somebody with right of way is within a second of it."""
    entered = 0
    for w in range(WORLDS):
        table = (
            np.asarray(pack(roads[w]).waits[0]),
            np.asarray(pack(roads[w]).enter[0]),
            np.asarray(pack(roads[w]).leave[0]),
        )
        for row in range(1, ROWS):
            route = int(film.states.route[0, w, row])
            line = roads[w].routes[route].stop if route < len(roads[w].routes) else 0.0
            front = film.states.s[:, w, row] + 0.5 * film.states.length[0, w, row]
            for t in np.flatnonzero((front[:-1] <= line) & (front[1:] > line) & (film.states.speed[:-1, w, row] < 3.0)):
                if not film.states.active[t, w, row] or film.states.route[t, w, row] != route:
                    continue
                for z in (z for z in range(table[1].shape[1]) if table[0][route] >> z & 1):
                    theirs = film.states.route[t, w]
                    s, half = film.states.s[t, w], 0.5 * film.states.length[t, w]
                    away = np.maximum(table[1][theirs, z] - s - half, 0.0) / np.maximum(film.states.speed[t, w], 0.1)
                    first = film.states.active[t, w] & (s - half < table[2][theirs, z])
                    entered += 1
                    assert away[first].min(initial=9.0) > 1.0, (w, t, row)
    assert entered >= 2


def test_the_order_of_agents_changes_nothing(film, network):
    state = world(film, 0, 2)
    order = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(ROWS - 1)])
    names = set(State._fields) - {"road", "steps", "clock", "drivers", "wanted", "ego"}
    rows = {name: getattr(state, name)[order] for name in names}
    drivers = jax.tree.map(lambda leaf: leaf[order], state.drivers)
    shuffled = state._replace(**rows, drivers=drivers, wanted=state.wanted[:, order])
    controls = np.tile(np.array([-1.0, 0.0]), (1, PLAN_STEPS, 1))
    a, b = outcome(network, state, controls), outcome(network, shuffled, controls)
    for name in ("x", "y", "speed", "active"):
        assert np.array_equal(getattr(a, name)[:, :, order], getattr(b, name))


def test_a_world_alone_is_the_world_in_a_batch(film, network):
    """Bit for bit, whatever its companions are."""
    for w in (0, 2, WORLDS - 1):
        alone = play(network, np.array([w]))
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(film)):
            assert np.array_equal(a[:, 0], b[:, w])


def test_the_ego_obeys_the_bicycle(film, network):
    controls = np.array([[2.0, 0.05], [-5.0, -0.1], [-6.0, 0.3], [0.0, 0.0]]).repeat([10, 10, 15, 5], axis=0)
    state = world(film, 0, 0)._replace(speed=jnp.asarray(film.states.speed[0, 0]).at[0].set(8.0))
    driven = outcome(network, state, controls[None]).ego[0]
    expected = bicycle.forward(driven[:1], controls[None], STEP_S)[0]
    assert np.abs(driven[:, [0, 1, 3]] - expected[:, [0, 1, 3]]).max() < 2e-3
    assert np.abs(np.angle(np.exp(1j * (driven[:, 2] - expected[:, 2])))).max() < 1e-4
    assert driven[-1, 3] == 0.0


def test_a_million_agent_steps_hold_the_laws(network):
    """No teleport, bounded accelerations, finite everything, whatever 500 random egos do."""
    worlds, steps = 520, 64
    which = jnp.arange(worlds, dtype=jnp.int32) % WORLDS
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(11), i))(jnp.arange(worlds))
    seen, worst = jax.device_get(_law_breaking(network, which, keys, steps))
    assert seen > 500_000, "active rows; with the padded ones over a million"
    assert worst["accel"] <= bicycle.MAX_ACCEL_MPS2 + 1e-3
    assert worst["brake"] <= MAX_BRAKE_MPS2 + 1e-3
    assert worst["jump"] <= 0.05
    assert worst["heading"] <= 1e-4
    assert worst["broken"] == 0


@partial(jax.jit, static_argnames="steps")
def _law_breaking(network, which, keys, steps):
    def one(carry, key):
        worlds, seen, worst = carry
        action = jax.random.uniform(key, (which.shape[0], 2), minval=-1.0, maxval=1.0) * jnp.array([[6.0, 0.1]])
        after = go_on(network, worlds, observe(network, worlds), action)
        both = worlds.active & after.active
        accel = (after.speed - worlds.speed) / STEP_S
        moved = jnp.hypot(after.x - worlds.x, after.y - worlds.y)
        # The outside of a bend and the way across a lane are longer than the lane's centre.
        allowed = 1.15 * jnp.maximum(after.speed, worlds.speed) * STEP_S
        now = {
            "accel": accel,
            "brake": -accel,
            "jump": moved - allowed,
            "heading": jnp.abs(after.cos**2 + after.sin**2 - 1.0),
            "broken": (~jnp.isfinite(after.x + after.y + after.speed + after.s)).astype(jnp.float32),
        }
        worst = {name: jnp.maximum(worst[name], jnp.max(jnp.where(both, now[name], 0.0))) for name in worst}
        return (after, seen + both.sum(), worst), None

    names = ("accel", "brake", "jump", "heading", "broken")
    start = place(network, which, keys), jnp.int32(0), {name: jnp.zeros(()) for name in names}
    (_, seen, worst), _ = jax.lax.scan(one, start, jax.random.split(jax.random.key(3), steps))
    return seen, worst
