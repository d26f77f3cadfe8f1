"""Laws of the traffic: nobody touches, nothing jumps, what the ego does reaches only those behind it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shapely

from wmplan import bicycle
from wmplan.errors import InputError
from wmplan.scene import STEP_S, Feature, Light
from wmplan.simulator import behaviour, layout, maps, network
from wmplan.simulator.populate import WARM_UP_STEPS, place
from wmplan.simulator.signals import light_states
from wmplan.simulator.traffic import AGENTS, MAX_ACCEL_MPS2, MAX_BRAKE_MPS2, State, advance, look, reactions
from wmplan.simulator.truth import Outcomes, outcomes

WORLDS, STEPS = 12, 150
PLANS, PLAN_STEPS = 16, 75


class Film(NamedTuple):
    """Everything that happened: worlds x steps."""

    states: State
    lights: np.ndarray


@pytest.fixture(scope="module")
def roads() -> list[layout.SimMap]:
    return [maps.MAPS["crossing" if i % 2 else "straight"](i) for i in range(WORLDS)]


def play(keys, networks) -> Film:
    """Worlds with the behaviour policy at the wheel; one program for all tests, for compiling is what takes time."""
    return Film(*jax.device_get(_play(keys, networks)))


@jax.jit
def _play(keys, networks):
    def one(state: State, now: behaviour.Schedule):
        view = look(state)
        wanted = reactions(state, view)
        seen = (state._replace(network=None), light_states(state.network, state.time))
        return advance(state, wanted, behaviour.act(state, view, wanted, now)), seen

    def run(key, net):
        parts = behaviour.plain(WARM_UP_STEPS), behaviour.schedule(jax.random.fold_in(key, 1), STEPS)
        mind = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
        seen = jax.lax.scan(one, place(key, net), mind)[1]
        return jax.tree.map(lambda x: x[WARM_UP_STEPS:], seen)

    return jax.vmap(run)(keys, networks)


@pytest.fixture(scope="module")
def networks(roads) -> network.Network:
    return network.stack([network.pack(road) for road in roads])


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(5), WORLDS)


@pytest.fixture(scope="module")
def film(keys, networks) -> Film:
    return play(keys, networks)


@pytest.fixture(scope="module")
def starts(film, networks) -> State:
    first = jax.tree.map(lambda x: jnp.asarray(x[:, 0]), film.states._replace(network=None))
    return first._replace(network=networks)


def execute(state: State, controls: np.ndarray) -> Outcomes:
    """The outcomes of up to `PLANS` candidates, padded to one shape for all tests."""
    padded = np.zeros((PLANS, PLAN_STEPS, 2), dtype=np.float32)
    padded[: len(controls), : controls.shape[1]] = controls
    truth = jax.device_get(outcomes(state, jnp.asarray(padded)))
    return Outcomes(*(x[: len(controls), : controls.shape[1] + (1 if i < 3 else 0)] for i, x in enumerate(truth)))


def polygons(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    corners = np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]]) * sizes[..., None, :]
    c, s = np.cos(boxes[..., None, 2]), np.sin(boxes[..., None, 2])
    x = boxes[..., None, 0] + c * corners[..., 0] - s * corners[..., 1]
    y = boxes[..., None, 1] + s * corners[..., 0] + c * corners[..., 1]
    return shapely.polygons(np.stack([x, y], -1).astype(np.float64))


def world(states: State, row: int) -> State:
    return jax.tree.map(lambda x: x[row], states)


def test_nobody_touches_anybody(film):
    for w in range(WORLDS):
        for t in range(0, STEPS, 3):
            rows = np.flatnonzero(film.states.active[w, t])
            shapes = polygons(film.states.box[w, t, rows], film.states.size[w, t, rows])
            first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
            assert (first == second).all(), (w, t, rows[first[first != second]])


def test_nothing_jumps_and_accelerations_are_bounded(film):
    box, active = film.states.box, film.states.active
    both = active[:, 1:] & active[:, :-1]
    accel = (np.diff(box[..., 3], axis=1) / STEP_S)[both]
    assert accel.min() >= -MAX_BRAKE_MPS2 - 1e-3
    assert accel.max() <= max(MAX_ACCEL_MPS2, bicycle.MAX_ACCEL_MPS2) + 1e-3
    moved = np.linalg.norm(np.diff(box[..., :2], axis=1), axis=-1)[both]
    fastest = np.maximum(box[:, 1:, :, 3], box[:, :-1, :, 3])[both]
    assert (moved <= fastest * STEP_S * 1.1 + 1e-3).all(), "1.1: the outside of a bend is longer than the lane's centre"
    turned = np.abs(np.angle(np.exp(1j * np.diff(box[..., 2], axis=1))))[both]
    assert (turned <= 0.5 * moved + 1e-3).all()
    assert (box[..., 3] >= 0.0).all()


def test_worlds_are_alive(film):
    """The laws above would hold in a world where all stand still."""
    speed = film.states.box[..., 3]
    assert np.mean(speed[film.states.active] > 3.0) > 0.35
    assert (film.states.active.sum(axis=2).min(axis=1) >= 4).all()
    ego = np.diff(speed[:, :, 0], axis=1) / STEP_S
    assert ego.min() < -3.0
    assert ego.max() > 1.0


def test_nobody_crosses_a_red_light(film, roads):
    crossed = 0
    for w in np.flatnonzero([road.name == "crossing" for road in roads]):
        groups = np.array([r.group for r in roads[w].routes])
        stops = np.array([r.stop for r in roads[w].routes])
        for row in range(AGENTS):
            route = int(film.states.route[w, 0, row])
            front = film.states.s[w, :, row] + 0.5 * film.states.size[w, 0, row, 0]
            for t in np.flatnonzero((front[:-1] <= stops[route]) & (front[1:] > stops[route])):
                if film.states.active[w, t, row]:
                    crossed += 1
                    assert film.lights[w, t, groups[route]] != Light.RED, (w, t, row)
    assert crossed >= 5


def test_lights_never_let_two_groups_go_at_once(roads):
    for road in roads:
        if road.name == "crossing":
            times = jnp.arange(0.0, 2.0 * road.signal.cycle, 0.25)
            states = np.asarray(jax.vmap(light_states, (None, 0))(network.pack(road), times))[:, :4]
            assert ((states != Light.RED).sum(axis=1) <= 1).all()
            assert (states == Light.GREEN).any(axis=0).all()
            assert (states == Light.YELLOW).any(axis=0).all()


def test_the_order_of_agents_changes_nothing(starts):
    state = world(starts, 1)
    order = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(AGENTS - 1)])
    rows = {
        name: getattr(state, name)[order]
        for name in ("route", "s", "lateral", "box", "size", "active", "noise", "keys")
    }
    shuffled = state._replace(**rows, drivers=jax.tree.map(lambda x: x[order], state.drivers))
    controls = np.tile(np.array([-1.0, 0.0]), (1, 40, 1))
    a, b = execute(state, controls), execute(shuffled, controls)
    assert np.array_equal(a.boxes[:, :, order], b.boxes)
    assert np.array_equal(a.active[:, :, order], b.active)


def test_a_world_alone_is_the_world_in_a_batch(film, keys, networks):
    for w in (0, 1, WORLDS - 1):
        alone = play(keys[w : w + 1], jax.tree.map(lambda x, w=w: x[w : w + 1], networks))
        early = np.abs(alone.states.box[0, :40] - film.states.box[w, :40])
        assert np.minimum(early, 2.0 * np.pi - early).max() < 5e-3
        assert np.array_equal(alone.states.active[0, :40], film.states.active[w, :40])


def test_the_ego_obeys_the_bicycle(starts):
    controls = np.array([[2.0, 0.05], [-5.0, -0.1], [-9.0, 0.5], [0.0, 0.0]], dtype=np.float32)
    controls = controls.repeat([10, 10, 50, 5], axis=0)
    state = world(starts, 0)
    boxes = execute(state, controls[None]).boxes[0, :, 0]
    clipped = np.clip(
        controls,
        [-bicycle.MAX_ACCEL_MPS2, -bicycle.MAX_CURVATURE_PM],
        [bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM],
    )
    expected = bicycle.forward(boxes[:1].astype(np.float64), clipped[None].astype(np.float64), STEP_S)[0]
    assert np.abs(boxes - expected).max() < 2e-3
    assert boxes[-1, 3] == 0.0


@pytest.fixture(scope="module")
def straight_truth(starts, roads) -> tuple[State, np.ndarray]:
    """A straight road with somebody behind the ego, and five candidates executed: from hard braking to speeding up."""
    accels = [-6.0, -3.0, 0.0, 0.0, 2.0]
    for w in np.flatnonzero([road.name == "straight" for road in roads]):
        state = world(starts, w)
        behind = _same_lane(state) & (np.asarray(state.s) < float(state.s[0]))
        gaps = float(state.s[0]) - np.asarray(state.s)[behind]
        if gaps.size and gaps.min() < 30.0 and float(state.box[0, 3]) > 8.0 and _blind(state).sum() >= 5:
            break
    else:
        pytest.fail("no straight world has a follower")
    return state, execute(state, np.array([[[a, 0.0]] * 40 for a in accels]))


def _blind(state: State) -> np.ndarray:
    """Whoever is ahead of the ego on its half of a straight road, or drives on the other half."""
    ahead = np.asarray(state.s) > float(state.s[0])
    same_way = np.isin(np.asarray(state.route), np.flatnonzero(np.asarray(state.network.spawn_ego)))
    blind = np.asarray(state.active) & ((same_way & ahead) | ~same_way)
    blind[0] = False
    return blind


def _same_lane(state: State) -> np.ndarray:
    same = np.asarray(state.active) & (np.asarray(state.route) == int(state.route[0]))
    same[0] = False
    return same


def test_the_follower_reacts_and_in_the_right_order(straight_truth):
    state, truth = straight_truth
    behind = np.flatnonzero(_same_lane(state) & (np.asarray(state.s) < float(state.s[0])))
    follower = behind[np.argmax(np.asarray(state.s)[behind])]
    way = np.linalg.norm(truth.boxes[:, -1, follower, :2] - truth.boxes[:, 0, follower, :2], axis=-1)
    assert way[0] < way[1] - 0.5
    assert way[1] < way[2] - 0.5
    assert way[2] <= way[4] + 1e-3
    assert not truth.contact.any()


def test_no_spooky_effect(straight_truth):
    """Whoever is ahead of the ego, or on another road half, cannot know what the ego does: bit for bit the same."""
    state, truth = straight_truth
    blind = _blind(state)
    others = np.asarray(state.active) & ~blind
    assert blind.sum() >= 5
    for k in range(1, 5):
        assert np.array_equal(truth.boxes[k][:, blind], truth.boxes[0][:, blind])
    assert not np.array_equal(truth.boxes[0][:, others], truth.boxes[4][:, others])


def test_equal_candidates_have_equal_outcomes(straight_truth):
    _, truth = straight_truth
    assert np.array_equal(truth.boxes[2], truth.boxes[3])


def test_contact_agrees_with_shapely(starts):
    """Egos that drive blindly through everything: what they touch is what shapely says they touch."""
    rng = np.random.default_rng(3)
    controls = np.stack([rng.uniform(0.0, 6.0, 16), rng.uniform(-0.03, 0.03, 16)], -1)[:, None].repeat(50, axis=1)
    touched = 0
    for w in range(4):
        state = world(starts, w)
        truth = execute(state, controls)
        shapes = polygons(truth.boxes, np.asarray(state.size)[None, None])
        apart = np.where(
            truth.active[..., 1:], shapely.area(shapely.intersection(shapes[..., :1], shapes[..., 1:])), 0.0
        )
        assert (truth.contact[apart.max(-1) > 0.01]).all()
        assert (~truth.contact[apart.max(-1) == 0.0]).all()
        touched += truth.contact.sum()
    assert touched > 20


# -------------------------------------------------------------------------------------------------------- maps


@pytest.mark.parametrize("name", sorted(maps.MAPS))
def test_maps_hold_together(name):
    for seed in range(8):
        road = maps.MAPS[name](seed)
        area = shapely.union_all(
            [shapely.Polygon(p).buffer(0.05) for p in road.road_map.of_kind(Feature.LANE_AREA, Feature.DRIVABLE)]
        )
        for route in road.routes:
            if not route.walk:
                assert area.covers(shapely.LineString(route.points))
                assert (route.speeds > 2.0).all()
        for first, second in road.road_map.successors.tolist():
            end, begin = road.road_map.feature(first)[-1], road.road_map.feature(second)[0]
            assert np.allclose(end, begin, atol=1e-9), (road.road_map.ids[first], road.road_map.ids[second])
            tail, head = road.road_map.feature(first)[-2], road.road_map.feature(second)[1]
            assert np.dot(end - tail, head - begin) > 0.0
        for stop in road.stop_points:
            lane = road.road_map.ids.index(stop.lane)
            assert np.allclose(road.road_map.feature(lane)[0], stop.point[0])


def test_opposite_lanes_and_conflicting_paths_are_apart():
    """Two paths of one light group never cross inside the junction, for they have green together."""
    for seed in range(8):
        routes = [r for r in maps.crossing(seed).routes if not r.walk]
        for i, a in enumerate(routes):
            for b in routes[i + 1 :]:
                if a.group == b.group and not np.allclose(a.points[0], b.points[0]):
                    assert not shapely.LineString(a.points).crosses(shapely.LineString(b.points))


def test_place_and_project_are_inverse():
    net = network.pack(maps.crossing(4))
    s = jnp.linspace(5.0, 190.0, 40)
    put = jax.vmap(lambda at: network.pose(net.points[0], net.arc[0], at, jnp.float32(0.7), jnp.float32(4.5)))(s)
    along, left = network.project(net.points[0], net.arc[0], put[:, :2])
    assert np.allclose(along, s, atol=0.02)
    assert np.allclose(left, 0.7, atol=0.01)


def test_speed_ahead_of_a_bend_can_be_reached_gently():
    arc, speeds = jnp.array([0.0, 100.0, 120.0, 120.0]), jnp.array([14.0, 5.0, 14.0, 14.0])
    at = [float(network.allowed_speed(arc, speeds, jnp.float32(s))) for s in (0.0, 90.0, 99.9, 110.0, 121.0)]
    assert at[0] == 14.0
    assert at[1] == pytest.approx(np.sqrt(25.0 + 2.0 * 1.5 * 10.0), rel=1e-5)
    assert at[2:4] == pytest.approx([5.0, 5.0], abs=0.05)
    assert at[4] == 14.0


def test_a_map_that_exceeds_the_padding_is_refused():
    road = maps.straight(0)
    too_many = layout.SimMap("wide", road.road_map, road.routes * 9, road.spawns, road.signal, (), road.lane_width)
    with pytest.raises(InputError, match=r"map wide: .* routes, expected at most 24"):
        network.pack(too_many)
