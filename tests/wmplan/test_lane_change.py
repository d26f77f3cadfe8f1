"""MOBIL's criterion on cases that a human can work out, and the geometry of a change."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmplan.scene import Feature, Kind, RoadMap
from wmplan.simulator import idm
from wmplan.simulator.drivers import Drivers
from wmplan.simulator.ego import on_routes
from wmplan.simulator.layout import Route, Signal, SimMap
from wmplan.simulator.packing import pack
from wmplan.simulator.state import DELAYS, State
from wmplan.simulator.traffic import pose, step

LIMIT = 20.0
RIGHT, LEFT = 0, 1
ROWS = 12


def two_lanes(dead_end: bool = False):
    """Two lanes along x, 3.5 m apart; the left one is route 1."""
    routes = (
        Route(np.array([[0.0, 0.0], [500.0, 0.0]]), np.full(2, LIMIT), left=1, dead_end=dead_end, stop=180.0),
        Route(np.array([[0.0, 3.5], [500.0, 3.5]]), np.full(2, LIMIT), right=0),
    )
    lane = (Feature.LANE, "a", np.array([[0.0, 0.0], [1.0, 0.0]]))
    return pack(SimMap("two lanes", RoadMap.build([lane]), routes, (), Signal.none(), (), 3.5))


def traffic(network, cars: list[tuple[int, float, float]], politeness: float = 0.2) -> State:
    """A world of cars (lane, place, speed), all 4.5 m long, the same drivers; row 0, the ego, stands off the road."""
    rows = [(LEFT, 490.0, 0.0), *cars]
    rows += [(LEFT, 495.0, 0.0)] * (ROWS - len(rows))  # padded, so that one program serves all tests
    route = jnp.array([r[0] for r in rows], dtype=jnp.int32)
    s, speed = (jnp.array([r[i] for r in rows], dtype=jnp.float32) for i in (1, 2))
    n, zero = len(rows), jnp.zeros(len(rows))
    road = jnp.int32(0)
    x, y, cos, sin = pose(network, road, route, s, zero, zero)
    y = y.at[0].set(100.0)
    full = {"time_gap": 1.2, "standstill": 2.0, "accel": 1.5, "decel": 2.0, "speed_factor": 1.0}
    rest = {"politeness": politeness, "threshold": 0.2, "critical_gap": 4.0}
    values = {name: jnp.full(n, value) for name, value in (full | rest).items()}
    drivers = Drivers(**values, reaction=jnp.zeros(n, dtype=jnp.int32))
    state = State(
        road=road,
        steps=jnp.int32(0),
        clock=jnp.int32(0),
        route=route,
        s=s,
        lateral=zero,
        rest=zero,
        x=x,
        y=y,
        cos=cos,
        sin=sin,
        speed=speed,
        length=jnp.full(n, 4.5),
        width=jnp.full(n, 1.8),
        kind=jnp.full(n, int(Kind.VEHICLE)),
        active=jnp.arange(n) <= len(cars),
        drivers=drivers,
        wanted=jnp.zeros((DELAYS, n)),
        noise=zero,
        seed=jnp.arange(n, dtype=jnp.uint32),
        ego=on_routes(network, road, x[0], y[0], cos[0], sin[0]),
    )
    return state


def lanes_after(network, state: State, steps: int = 1) -> State:
    worlds = jax.tree.map(lambda leaf: leaf[None], state)
    for _ in range(steps):
        worlds = one_step(network, worlds)
    return jax.tree.map(lambda leaf: leaf[0], worlds)


@jax.jit
def one_step(network, worlds: State) -> State:
    return step(network, worlds, jnp.zeros((1, 2)))


@pytest.fixture(scope="module")
def network():
    return two_lanes()


def test_who_is_stuck_behind_a_slow_car_goes_left_when_it_is_free(network):
    after = lanes_after(network, traffic(network, [(RIGHT, 100.0, 15.0), (RIGHT, 125.0, 5.0)]))
    assert int(after.route[1]) == LEFT
    assert float(after.y[1]) == pytest.approx(0.0, abs=0.2), "it has only just begun"


def test_nobody_changes_for_nothing(network):
    after = lanes_after(network, traffic(network, [(RIGHT, 100.0, 15.0), (RIGHT, 300.0, 15.0)]), steps=20)
    assert np.asarray(after.route[1:3]).tolist() == [RIGHT, RIGHT]


def test_nobody_cuts_in_front_of_a_fast_car(network):
    """The new follower would have to brake harder than is safe."""
    stuck = [(RIGHT, 100.0, 12.0), (RIGHT, 118.0, 4.0)]
    assert int(lanes_after(network, traffic(network, [*stuck, (LEFT, 88.0, 20.0)])).route[1]) == RIGHT
    assert int(lanes_after(network, traffic(network, [*stuck, (LEFT, 40.0, 12.0)])).route[1]) == LEFT


def test_the_threshold_is_where_the_criterion_says(network):
    """Without others the gain is exactly the own IDM acceleration on a free lane minus that behind the leader."""
    speed, lead = 15.0, 13.0
    gains = []
    for gap in np.arange(15.0, 120.0, 1.0):
        state = traffic(network, [(RIGHT, 100.0, speed), (RIGHT, 100.0 + 4.5 + gap, lead)], politeness=0.0)
        one = Drivers(*(field[1] for field in state.drivers))
        numbers = (jnp.float32(v) for v in (speed, speed - lead, gap, LIMIT))
        behind = idm.acceleration(*numbers, one)
        free = idm.acceleration(*(jnp.float32(v) for v in (speed, 0.0, 1e4, LIMIT)), one)
        gains.append((float(free - behind), int(lanes_after(network, state).route[1])))
    assert {lane for gain, lane in gains if gain > 0.21} == {LEFT}
    assert {lane for gain, lane in gains if gain < 0.19} == {RIGHT}


def test_the_polite_stay_where_the_selfish_go(network):
    """The same small own gain; the new follower loses more than it."""
    cars = [(RIGHT, 100.0, 14.0), (RIGHT, 130.0, 13.0), (LEFT, 50.0, 18.0)]
    assert int(lanes_after(network, traffic(network, cars, politeness=0.0)).route[1]) == LEFT
    assert int(lanes_after(network, traffic(network, cars, politeness=1.0)).route[1]) == RIGHT


def test_the_polite_make_room_for_who_comes_from_behind(network):
    """The slow car ahead gains nothing itself; its follower gains a lot."""
    cars = [(RIGHT, 60.0, 15.0), (RIGHT, 85.0, 5.0)]
    for politeness, lane in ((0.0, RIGHT), (0.3, LEFT)):
        assert int(lanes_after(network, traffic(network, cars, politeness)).route[2]) == lane


def test_a_change_takes_seconds_and_ends_in_the_lane(network):
    state = traffic(network, [(RIGHT, 60.0, 15.0), (RIGHT, 85.0, 5.0)], politeness=0.0)
    offsets = []
    for _ in range(12):
        offsets.append(float(state.y[1]))
        state = lanes_after(network, state, steps=5)
    assert offsets[0] == 0.0
    assert 0.4 < offsets[2] < 1.6, "one second on"
    assert offsets[-1] == pytest.approx(3.5, abs=0.1)
    assert all(b >= a - 1e-3 for a, b in pairwise(offsets))


def test_a_lane_that_ends_is_left_or_one_waits_at_its_end():
    network = two_lanes(dead_end=True)
    alone = lanes_after(network, traffic(network, [(RIGHT, 60.0, 15.0)]), steps=60)
    assert int(alone.route[1]) == LEFT
    queue = [(LEFT, 175.0 - 9.0 * i, 0.5) for i in range(8)] + [(LEFT, 184.0, 0.0)]
    jam = traffic(network, [(RIGHT, 120.0, 10.0), *queue])
    slow = jam.drivers._replace(speed_factor=jam.drivers.speed_factor.at[2:].set(0.02))
    waited = lanes_after(network, jam._replace(drivers=slow), steps=200)
    assert int(waited.route[1]) == RIGHT
    assert 170.0 < float(waited.s[1]) + 2.25 < 180.0
    assert float(waited.speed[1]) < 0.5


def test_whoever_considers_decides_alike_however_many_are_compared_at_a_time(monkeypatch):
    from wmplan.simulator import lane_change
    from wmplan.simulator.traffic import observe

    network, state = two_lanes(), None
    draw = np.random.default_rng(0)
    made = []
    for _ in range(24):
        cars = [(int(draw.integers(2)), float(s), float(draw.uniform(3.0, 20.0))) for s in np.arange(20.0, 460.0, 40.0)]
        made.append(traffic(network, cars, politeness=0.0))
    worlds = jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)
    view = observe(network, worlds).view
    for steps in (0, lane_change.EVERY_STEPS):
        state = worlds._replace(steps=jnp.full(24, steps))
        targets = jax.vmap(lane_change.target, in_axes=(None, 0))(network, state)
        found = []
        for size in (1, 5, ROWS):
            monkeypatch.setattr(lane_change, "TOGETHER", size)
            found.append(lane_change.consider(network, state, view, targets))
        moved = np.asarray(found[0].route != state.route)
        assert 10 < moved.sum() < (np.asarray(targets) >= 0).sum()
        assert not moved[np.asarray(targets) < 0].any()
        for other in found[1:]:
            for a, b in zip(found[0], other):
                np.testing.assert_array_equal(a, b)
