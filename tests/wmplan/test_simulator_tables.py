"""The tables of a network against the geometry they stand for."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wmplan.errors import InputError
from wmplan.scene import STEP_S, Feature, Light, RoadMap
from wmplan.simulator import layout, maps, noise
from wmplan.simulator.ego import on_routes
from wmplan.simulator.layout import Route, Signal, SimMap, Zone
from wmplan.simulator.overlap import CONFLICT_M, REACH_M, unpack
from wmplan.simulator.packing import SPACING_M, pack
from wmplan.simulator.traffic import pose


def length(points: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def road_of(*routes: Route, zones: tuple[Zone, ...] = ()) -> SimMap:
    lane = (Feature.LANE, "a", np.array([[0.0, 0.0], [1.0, 0.0]]))
    return SimMap("hand-made", RoadMap.build([lane]), routes, (), Signal.none(), (), 3.5, zones)


def straight_route(begin: tuple[float, float], end: tuple[float, float], **more) -> Route:
    return Route(np.array([begin, end], dtype=float), np.full(2, 10.0), **more)


@pytest.mark.parametrize("name", ["straight", "crossing", "merge", "t_junction"])
def test_overlap_is_the_projection_onto_the_other_route(name):
    road = maps.MAPS[name](3)
    network = pack(road)
    compared = 0
    for q, route in enumerate(road.routes):
        line = shapely.LineString(route.points)
        for k in range(0, int(length(route.points) // SPACING_M), 7):
            point = line.interpolate(k * SPACING_M)
            placed = unpack(network.overlap[0, q, k])
            for r, other in enumerate(road.routes):
                target = shapely.LineString(other.points)
                s, away = target.project(point), target.distance(point)
                if float(placed.arc[r]) < 0.0:
                    assert away > REACH_M - 0.2 or s < 1.5 or s > target.length - 1.5
                elif 2.0 < s < target.length - 2.0 and away < REACH_M - 0.2:
                    compared += 1
                    near = target.interpolate(float(placed.arc[r]))
                    assert shapely.distance(near, point) == pytest.approx(away, abs=0.1), "perhaps another nearest one"
                    assert abs(float(placed.lateral[r])) == pytest.approx(away, abs=0.06)
            assert float(placed.arc[q]) == pytest.approx(k * SPACING_M, abs=1e-3)
            assert float(placed.lateral[q]) == 0.0
    assert compared > 100


def test_sides_and_directions_have_signs():
    network = pack(road_of(straight_route((0, 0), (100, 0)), straight_route((90, 4), (10, 4))))
    there = unpack(network.overlap[0, 1, 10])
    assert float(there.arc[0]) == pytest.approx(70.0, abs=0.02)
    assert float(there.lateral[0]) == pytest.approx(4.0, abs=0.05), "it lies to the left"
    assert float(there.cos[0]) == pytest.approx(-1.0, abs=0.01), "and goes the other way"


@given(s=st.floats(4.0, 180.0), lateral=st.floats(-3.0, 3.0), route=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_placing_and_projecting_are_inverse(crossing_network, s, lateral, route):
    zero = jnp.int32(0)
    x, y, cos, sin = pose(crossing_network, zero, jnp.int32(route), jnp.float32(s), jnp.float32(lateral), jnp.zeros(()))
    on = on_routes(crossing_network, zero, x, y, cos, sin)
    assert float(on.arc[route]) == pytest.approx(s, abs=0.02)
    assert float(on.lateral[route]) == pytest.approx(lateral, abs=0.02)
    assert float(on.cos[route]) == pytest.approx(1.0, abs=1e-3)


@pytest.fixture(scope="module")
def crossing_network():
    return pack(maps.crossing(4))


def test_speed_ahead_of_a_bend_can_be_reached_gently():
    points = np.array([[0.0, 0.0], [100.0, 0.0], [120.0, 0.0], [200.0, 0.0]])
    limit = pack(road_of(Route(points, np.array([14.0, 5.0, 14.0, 14.0])))).limit[0, 0]
    assert float(limit[0]) == 14.0
    assert float(limit[45]) == pytest.approx(np.sqrt(25.0 + 2.0 * 1.5 * 10.0), rel=1e-5)
    assert [float(limit[i]) for i in (50, 55)] == [5.0, 5.0]
    assert float(limit[60]) == 14.0


def test_a_zone_covers_where_the_paths_are_in_each_others_way():
    """Two straight paths that cross at right angles at (50, 0): within `CONFLICT_M` of it, and a place more."""
    main = straight_route((0, 0), (100, 0))
    side = straight_route((50, -40), (50, 40), stop=34.0, clear=60.0)
    network = pack(road_of(main, side, zones=(Zone(first=(0,), waits=(1,)),)))
    enter, leave = float(network.enter[0, 0, 0]), float(network.leave[0, 0, 0])
    assert 50.0 - CONFLICT_M - 2.0 * SPACING_M <= enter <= 50.0
    assert 50.0 <= leave <= 50.0 + CONFLICT_M + 2.0 * SPACING_M
    assert int(network.waits[0, 1]) == 1
    assert int(network.waits[0, 0]) == 0
    assert float(network.leave[0, 1, 0]) < 0.0, "who waits holds nobody up"


def test_lights_repeat_or_stay():
    signal = Signal.fixed_time(20.0, (0.0, 10.0), (6.0, 5.0), (3.0, 3.0))
    assert signal.states.shape == (2, 200)
    assert [Light(v) for v in signal.states[0, [0, 59, 61, 89, 91]]] == [
        Light.GREEN,
        Light.GREEN,
        Light.YELLOW,
        Light.YELLOW,
        Light.RED,
    ]
    share = (signal.states == Light.GREEN).mean(axis=1) * 20.0
    assert share == pytest.approx([6.0, 5.0], abs=STEP_S)


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (straight_route((0, 0), (600, 0)), "600 metres of a route, expected at most 510"),
        (Route(np.stack([np.arange(50.0), np.zeros(50)], -1), np.ones(50)), "50 points of a route, expected at most"),
    ],
)
def test_a_map_that_exceeds_the_padding_is_refused(route, said):
    with pytest.raises(InputError, match=f"map hand-made: {said}"):
        pack(road_of(route))


def test_too_many_routes_are_refused():
    road = maps.straight(0)
    wide = layout.SimMap("wide", road.road_map, road.routes * 12, road.spawns, road.signal, (), road.lane_width)
    with pytest.raises(InputError, match=r"map wide: .* routes, expected at most 32"):
        pack(wide)


def test_noise_is_white_bounded_and_belongs_to_seed_and_step():
    seeds = jnp.arange(400, dtype=jnp.uint32)
    draws = np.stack([np.asarray(noise.draw(seeds, jnp.int32(t))) for t in range(300)])
    assert abs(draws.mean()) < 0.01
    assert draws.std() == pytest.approx(1.0, abs=0.01)
    assert np.abs(draws).max() < 3.5
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < 0.01, "steps are independent"
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 0.01, "so are seeds"
    alone = noise.draw(seeds[7:8], jnp.int32(5))
    assert float(alone[0]) == draws[5, 7]
    kept = jnp.zeros(400)
    for t in range(120):
        kept = noise.after(kept, seeds, jnp.int32(t))
    assert float(kept.std()) == pytest.approx(noise.STD_MPS2, rel=0.1)
