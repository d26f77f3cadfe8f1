"""Policies inside a world model: with the road as the model they drive as on the road; nothing hidden is looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from experiments.ope import driving
from experiments.ope.closed_loop import COLUMNS, EXPERT, _visible, by_road, in_model, judged, on_road
from experiments.ope.fleet import Fleet
from experiments.ope.held import Held
from experiments.ope.oracle import RoadAsModel
from experiments.ope.seen import Places, updated
from wmplan.contracts import GRIDS, Context, Imagined
from wmplan.errors import InputError
from wmplan.frames import Pose
from wmplan.raster import draw_dynamic, rasterize
from wmplan.scene import Kind
from wmplan.simulator.live import live
from wmplan.simulator.policies.arbitrary import Uniform
from wmplan.simulator.policies.following import Following
from wmplan.simulator.policies.protocol import Situation
from wmplan.simulator.policies.steady import ConstantVelocity
from wmplan.simulator.traffic import observe
from wmplan.start import start_of
from wmplan.testing.scenes import Body, straight_road

GRID = GRIDS["nano"]
HORIZON, DRAWS = 4, 2
POLICIES = {
    EXPERT: Following(lanes=False),
    "keeps": ConstantVelocity(),
    "random": Uniform(),
    "holds": Held(Uniform(), 5),
    "slow": Following(2.5, 3.0, 0.8, 1.5, 0.8, 6.0, 0.5, 0.4, lanes=False),
}
BODIES = [Body(22.0, 0.0, speed=6.0), Body(30.0, 3.5, speed=5.0), Body(2.0, -3.5, speed=8.0)]


@pytest.fixture(scope="module")
def moment():
    """A scene, its future, its raster, and the scene as a road: a recorded one, for its map costs no simulation."""
    scene, future = straight_road(BODIES, 9.0)
    return SimpleNamespace(scene=scene, future=future, raster=rasterize(scene, GRID), alive=live(scene, future))


@pytest.fixture(scope="module")
def drives(moment):
    """The drives on the road, and with the road as the model."""
    scene, raster, alive = moment.scene, moment.raster, moment.alive
    model = RoadAsModel(alive, GRID, HORIZON)
    true = on_road(alive, POLICIES, 80, DRAWS, 0).until(5 * HORIZON)
    return true, in_model(alive, scene, raster, model, POLICIES, DRAWS, 0)


def test_with_the_road_as_the_model_everyone_drives_as_on_the_road(moment, drives) -> None:
    scene, alive = moment.scene, moment.alive
    true, imagined = drives
    away = np.hypot(*(true.executed.ego - imagined.executed.ego)[:, -1, :2].T)
    assert np.median(away) < 0.3
    assert away.max() < 2.5
    start = start_of(scene)
    a, b = judged(true, by_road(alive), start), judged(imagined, by_road(alive), start)
    assert list(a.columns) == ["scene_id", "policy", "draw", *COLUMNS]
    assert (a[["policy", "draw"]] == b[["policy", "draw"]]).all(axis=None)
    assert np.abs(a["progress_m"] - b["progress_m"]).max() < 2.5
    assert np.abs(a["pdms"] - b["pdms"]).mean() < 0.1
    means = a.groupby("policy")["progress_m"].mean()
    assert means["slow"] < means[EXPERT]


def test_others_are_where_the_road_has_them(drives) -> None:
    """Everyone who is seen at the end, read from occupancy, lies near somebody of the road."""
    true, imagined = (part.executed for part in drives)
    checked = 0
    for row in range(len(true.ego)):
        real = np.stack([true.x, true.y], -1)[-1, row][np.asarray(true.active)[-1, row]][1:]
        for a in np.flatnonzero(np.asarray(imagined.active)[-1, row])[1:]:
            place = np.array([imagined.x[-1, row, a], imagined.y[-1, row, a]])
            inside = (GRID.x_min + 3 < place[0] < 45) & (abs(place[1]) < 29)
            if inside:
                checked += 1
                assert np.hypot(*(real - place).T).min() < 1.5
    assert checked > len(true.ego)


def test_draws_of_a_policy_without_chance_are_the_same_and_of_a_random_one_are_not(drives) -> None:
    true, _ = drives
    for p, name in enumerate(true.policies):
        first, second = true.executed.ego[p * DRAWS], true.executed.ego[p * DRAWS + 1]
        assert (np.abs(first - second).max() < 1e-5) == (name not in ("random", "holds")), name


def test_who_holds_decides_every_half_second_on_both_sides_and_others_at_each_step(drives) -> None:
    for side in drives:
        changes = {}
        for name in ("random", "holds"):
            row = side.policies.index(name) * DRAWS
            speed = side.executed.ego[row, :, 3]
            moving = speed[1:] > 0.5  # a car that stands brakes without an effect
            accel = np.round(np.diff(speed) / 0.1, 2)
            changes[name] = np.flatnonzero((np.abs(np.diff(accel)) > 0.05) & moving[1:]) + 1
        assert len(changes["holds"]) >= 2
        assert (changes["holds"] % 5 == 0).all(), changes["holds"]
        assert (changes["random"] % 5 != 0).any()


def test_what_nobody_can_see_changes_nothing(moment, drives) -> None:
    """Other drivers, other wishes, other noise, other routes of the others: the same drives."""
    scene, raster, alive = moment.scene, moment.raster, moment.alive
    state = alive.state
    others = jnp.arange(len(state.kind)) > 0
    hidden = state._replace(
        drivers=jax.tree.map(lambda leaf: jnp.where(others, leaf * 0 + 1, leaf), state.drivers),
        wanted=state.wanted + 3.0,
        noise=state.noise + 1.0,
        seed=jnp.where(others, state.seed + 7, state.seed),
        route=jnp.where(others, 0, state.route),
        s=jnp.where(others, state.s + 11.0, state.s),
    )
    model = RoadAsModel(alive, GRID, HORIZON)
    again = in_model(replace(alive, state=hidden), scene, raster, model, POLICIES, DRAWS, 0)
    for mine, other in zip(drives[1].executed, again.executed):
        assert np.array_equal(np.asarray(mine), np.asarray(other))


def test_a_model_that_looks_ahead_is_refused(moment) -> None:
    scene, raster, alive = moment.scene, moment.raster, moment.alive

    class Clairvoyant(RoadAsModel):
        def imagine(self, context, plans, noise) -> Imagined:
            true = super().imagine(context, plans, noise)
            late = torch.from_numpy(plans.states[:, -1, 0]).reshape(-1, 1, 1, 1, 1, 1)
            return Imagined(true.occupancy * torch.sigmoid(late / 10.0), true.velocity, true.latents, true.grid)

        def encode(self, raster) -> Context:
            return Context(raster, None)

    with pytest.raises(InputError, match="model road looks ahead"):
        in_model(alive, scene, raster, Clairvoyant(alive, GRID, HORIZON), POLICIES, DRAWS, 0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pushes:
    """Accelerates by a number of its own, a draw and a share of the speed."""

    accel: float
    share: float

    @property
    def deterministic(self) -> bool:
        return False

    def act(self, situation: Situation, key: jax.Array) -> jax.Array:
        speed = situation.worlds.speed[:, 0]
        return jnp.stack([self.accel + jax.random.normal(key, speed.shape), self.share * speed], axis=-1)

    def log_density(self, situation: Situation, actions: jax.Array) -> jax.Array:
        return jax.scipy.stats.norm.logpdf(actions[:, 0], self.accel)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Steers(Pushes):
    """The same to the other side."""

    def act(self, situation: Situation, key: jax.Array) -> jax.Array:
        return -super().act(situation, key)


def test_a_fleet_does_what_each_of_its_policies_does_alone(moment) -> None:
    policies = {"b": Pushes(1.0, 0.1), "s": Steers(3.0, 0.2), "a": Pushes(-2.0, 0.3), "h": Held(Pushes(5.0, 0.4), 5)}
    fleet = Fleet.of(policies, DRAWS)
    assert sorted(fleet.names) == sorted(policies)
    assert max(fleet.sizes) == 2  # what is of one class is one stack
    assert [fleet.rhythms[fleet.names.index(name)] for name in ("a", "h")] == [1, 5]
    network, keys = moment.alive.network, fleet.keys("scene", 0)
    worlds = driving.several(moment.alive.state, len(fleet) * DRAWS)
    worlds = worlds._replace(speed=worlds.speed + jnp.arange(float(len(fleet) * DRAWS))[:, None])
    observed = jax.jit(observe)(network, worlds)
    seen = jnp.zeros((len(fleet) * DRAWS, 1))
    together = fleet.act(Situation(network, worlds, observed, seen), keys)
    for p, name in enumerate(fleet.names):
        rows = slice(p * DRAWS, (p + 1) * DRAWS)
        mine = jax.tree.map(lambda leaf, rows=rows: leaf[rows], (worlds, observed, seen))
        alone = policies[name].act(Situation(network, *mine), keys[p])
        assert np.asarray(together[rows]) == pytest.approx(np.asarray(alone), abs=1e-5), name
    few = Fleet.of({"s": policies["s"]}, DRAWS)
    mine = keys[fleet.names.index("s")]
    assert (jax.random.key_data(few.keys("scene", 0)[0]) == jax.random.key_data(mine)).all()


def test_only_who_the_scene_shows_is_seen(moment) -> None:
    scene, alive = moment.scene, moment.alive
    assert _visible(alive, scene).sum() == 1 + len(BODIES)
    simulated = replace(scene, dataset="simulator", agents=replace(scene.agents.select([0, 2]), ids=("1", "3")))
    assert np.flatnonzero(_visible(alive, simulated)).tolist() == [0, 1, 3]


def test_the_expert_has_to_be_among_the_policies(moment, drives) -> None:
    scene, alive, true = moment.scene, moment.alive, drives[0]
    with pytest.raises(InputError, match="expected idm_normal among them"):
        judged(replace(true, policies=("a", "b", "c", "d")), by_road(alive), start_of(scene))


# --------------------------------------------------------------------------------------- from occupancy to places


def drawn(*boxes: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Occupancy and velocity of cars at x, y with a heading and a speed, scene frame."""
    states = np.array([[x, y, yaw, v * np.cos(yaw), v * np.sin(yaw)] for x, y, yaw, v in boxes], np.float32)
    count = len(boxes)
    frame = draw_dynamic(
        torch.from_numpy(states).reshape(1, 1, count, 5),
        torch.tensor([[4.6, 1.9]]).expand(1, count, 2),
        torch.zeros(1, count, dtype=torch.int64),
        torch.ones(1, 1, count, dtype=torch.bool),
        GRID,
    )[0, 0].numpy()
    return frame[:2], frame[2:4]


def places(*boxes: tuple[float, float, float, float], rows: int = 5) -> Places:
    """An ego at the origin, cars after it, free rows for more cars."""
    full = [(0.0, 0.0, 0.0, 5.0), *boxes, *[(0.0, 0.0, 0.0, 0.0)] * (rows - 1 - len(boxes))]
    x, y, yaw, speed = np.array(full).T
    active = np.arange(rows) <= len(boxes)
    kind = np.full(rows, int(Kind.VEHICLE))
    return Places(x, y, np.cos(yaw), np.sin(yaw), speed, active, kind, np.zeros(rows, dtype=int))


ANCHOR = Pose(100.0, -20.0, 0.7)
HERE = Pose(0.0, 0.0, 0.0)


def test_somebody_expected_is_found_with_place_heading_and_speed() -> None:
    found, crowded = updated(places((10.0, 3.0, 0.0, 6.0)), *drawn((11.2, 3.4, 0.3, 8.0)), GRID, HERE)
    assert crowded == 0
    assert (found.x[1], found.y[1]) == pytest.approx((11.2, 3.4), abs=0.15)
    assert np.arctan2(found.sin[1], found.cos[1]) == pytest.approx(0.3, abs=0.02)
    assert found.speed[1] == pytest.approx(8.0, abs=0.1)
    assert found.active.tolist() == [True, True, False, False, False]
    assert (found.x[0], found.speed[0]) == (0.0, 5.0)


def test_frames_are_read_in_the_scene_frame_and_places_are_in_the_roads() -> None:
    there = ANCHOR.to_outer(np.array([10.0, 3.0]))
    before = places((float(there[0]), float(there[1]), 0.7, 6.0))
    found, _ = updated(before, *drawn((10.5, 3.0, 0.3, 6.0)), GRID, ANCHOR)
    assert np.array([found.x[1], found.y[1]]) == pytest.approx(ANCHOR.to_outer(np.array([10.5, 3.0])), abs=0.15)
    assert np.arctan2(found.sin[1], found.cos[1]) == pytest.approx(1.0, abs=0.02)


def test_somebody_who_stands_keeps_its_heading() -> None:
    found, _ = updated(places((10.0, 3.0, 1.2, 0.0)), *drawn((10.0, 3.0, 0.2, 0.1)), GRID, HERE)
    assert np.arctan2(found.sin[1], found.cos[1]) == pytest.approx(1.2)
    assert found.speed[1] == 0.0


def test_who_is_not_seen_goes_on_for_a_frame_and_is_gone_after_two_but_never_outside_of_the_window() -> None:
    empty = drawn((-12.0, -28.0, 0.0, 0.0))
    before = places((10.0, 3.0, 0.0, 6.0), (60.0, 3.0, 0.0, 6.0), (-12.0, -28.0, 0.0, 0.0))
    once, _ = updated(before, *empty, GRID, HERE)
    assert once.active.tolist() == [True, True, True, True, False]
    twice, _ = updated(once, *empty, GRID, HERE)
    assert twice.active.tolist() == [True, False, True, True, False]


def test_somebody_new_takes_a_free_row_and_is_counted_where_there_is_none() -> None:
    before = places((10.0, 3.0, 0.0, 6.0), rows=3)
    frame = drawn((10.0, 3.0, 0.0, 6.0), (20.0, -8.0, 1.5, 7.0), (30.0, 12.0, 0.0, 7.0))
    found, crowded = updated(before, *frame, GRID, HERE)
    assert found.active.all()
    assert crowded == 1
    new = (found.x[2], found.y[2])
    assert min(np.hypot(new[0] - x, new[1] - y) for x, y in ((20.0, -8.0), (30.0, 12.0))) < 0.2
