"""Policies of graded skill: their actions, their densities, their worth."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.policies import CHECKPOINTS, read_values, stages
from wmplan import bicycle
from wmplan.errors import InputError
from wmplan.simulator.choices import log_volume, to_actions, to_choices
from wmplan.simulator.ego_view import OBSERVATION, see
from wmplan.simulator.policies.episodes import play
from wmplan.simulator.policies.following import Following
from wmplan.simulator.policies.graded import graded
from wmplan.simulator.policies.learned import Learned
from wmplan.simulator.policies.protocol import Situation, WithDensity
from wmplan.simulator.policies.shaky import Shaky
from wmplan.simulator.policies.steady import ConstantVelocity
from wmplan.simulator.policies.weights import Card, load_policy, save_policy
from wmplan.simulator.policies.worth import ground, per_map, returns, true_value
from wmplan.simulator.task import CONTACT, EPISODE_STEPS, LOST, Seat, drive, sit

MAPS, EPISODES = 16, 256
POLICIES = graded(CHECKPOINTS)
STORED = {(worth.policy, worth.maps): worth for worth in read_values()}
FEW = 8
"""Worlds where a whole chunk is not needed."""


@pytest.fixture(scope="module")
def where():
    return ground("merge", MAPS, EPISODES)


@pytest.fixture(scope="module")
def situation(where) -> Situation:
    seat = jax.tree.map(lambda leaf: leaf[:FEW], where.starts)
    return Situation(where.network, *seat, jax.jit(see)(where.network, *seat))


@pytest.fixture(scope="module")
def acted(situation):
    """Every policy's actions under two keys, compiled once a class."""
    act = jax.jit(lambda policy, situation, key: policy.act(situation, key))
    keys = jax.random.key(1), jax.random.key(2)
    return {name: [np.asarray(act(policy, situation, key)) for key in keys] for name, policy in POLICIES.items()}


@pytest.mark.parametrize("name", POLICIES)
def test_actions_are_within_the_bounds_of_the_bicycle_and_follow_from_the_situation_alone_if_they_say_so(acted, name):
    one, other = acted[name]
    assert np.isfinite(one).all()
    assert (np.abs(one) <= np.array([[bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM]]) * (1.0 + 1e-6)).all()
    assert (one == other).all() == POLICIES[name].deterministic


def test_there_are_enough_of_every_sort():
    names = set(POLICIES)
    assert len(names) >= 16
    assert sum(name.startswith("idm_") for name in names) >= 6
    assert sum(name.startswith("lane_keeping_noise") for name in names) == 2
    assert sum(name.startswith("ppo_merge_") and not name.endswith("greedy") for name in names) >= 4


def test_choices_and_actions_undo_each_other_and_corners_are_no_clipped_actions(situation):
    network, worlds = situation.network, situation.worlds
    for corner in ((-1.0, -1.0), (1.0, 1.0), (0.3, -0.7)):
        choices = jnp.broadcast_to(jnp.array(corner), (FEW, 2))
        actions = to_actions(network, worlds, choices)
        assert (jnp.abs(actions[:, 0]) <= bicycle.MAX_ACCEL_MPS2).all()
        assert (jnp.abs(actions[:, 1]) <= bicycle.MAX_CURVATURE_PM).all()
        np.testing.assert_allclose(to_choices(network, worlds, actions), choices, atol=1e-4)
    box = [to_actions(network, worlds, jnp.full((FEW, 2), c)) for c in (0.0, 1.0)]
    np.testing.assert_allclose(log_volume(network, worlds), jnp.sum(jnp.log(box[1] - box[0]), axis=-1), rtol=1e-4)


def a_network() -> Learned:
    draw = np.random.default_rng(3)
    sizes = [OBSERVATION, 8, 4]
    kernels = tuple(0.3 * draw.normal(size=pair).astype(np.float32) for pair in pairwise(sizes))
    biases = tuple(np.zeros(size, np.float32) for size in sizes[1:])
    zero = np.zeros(OBSERVATION, np.float32)
    return Learned(zero, zero + 1.0, kernels, biases, np.zeros((), np.float32))


@pytest.mark.parametrize("policy", [POLICIES["random"], Shaky(Following(lanes=False), 2.0, 3.0), a_network()])
def test_densities_are_densities_of_what_is_drawn(situation, policy):
    assert isinstance(policy, WithDensity)
    one = situation._replace(
        **{
            name: jax.tree.map(lambda leaf: leaf[:1], getattr(situation, name))
            for name in ("worlds", "observed", "seen")
        }
    )
    # Over all that can be done: the density integrates to one, and its mean is the mean of draws.
    accel = np.linspace(-bicycle.MAX_ACCEL_MPS2, bicycle.MAX_ACCEL_MPS2, 241)
    curvature = np.linspace(-bicycle.MAX_CURVATURE_PM, bicycle.MAX_CURVATURE_PM, 4001)
    density = jax.jit(lambda a: jnp.exp(policy.log_density(one, a)))
    grid = np.stack(np.meshgrid(accel, curvature, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
    # One situation, many actions: rows of the situation broadcast.
    values = np.asarray(jax.vmap(density)(grid[:, None]))[:, 0].astype(np.float64)
    cell = (accel[1] - accel[0]) * (curvature[1] - curvature[0])
    assert values.sum() * cell == pytest.approx(1.0, abs=0.02)
    draws = jax.vmap(lambda key: policy.act(one, key)[0])(jax.random.split(jax.random.key(0), 4000))
    mean = (values[:, None] * grid).sum(axis=0) * cell
    error = np.std(draws, axis=0) / np.sqrt(len(draws))
    assert (np.abs(np.mean(draws, axis=0) - mean) < 4.0 * error + 0.02 * np.abs(mean)).all()


def test_nothing_beyond_the_choices_has_a_density(situation):
    beyond = to_actions(situation.network, situation.worlds, jnp.full((FEW, 2), 1.1))
    for name in ("random", "ppo_merge_1"):
        assert np.isneginf(POLICIES[name].log_density(situation, beyond)).all()


def lonely(where) -> Seat:
    """One world per start without anybody else, the ego in the middle of its lane at the allowed speed."""
    worlds = jax.tree.map(lambda leaf: leaf[:FEW], where.starts.worlds)
    others = jnp.arange(worlds.active.shape[1])[None] > 0
    worlds = worlds._replace(active=worlds.active & ~others)
    place = jnp.round(worlds.s[:, 0] / where.network.spacing[worlds.road]).astype(int)
    limit = where.network.limit[worlds.road, worlds.route[:, 0], place]
    return jax.jit(sit)(where.network, worlds._replace(speed=worlds.speed.at[:, 0].set(limit)))


def test_a_drive_at_the_allowed_speed_is_worth_its_seconds(where):
    seat = lonely(where)
    on_main = ~np.asarray(where.network.dead_end[seat.worlds.road, seat.worlds.route[:, 0]])
    drives = play(where.network, seat, ConstantVelocity(in_lane=True), jax.random.key(0))
    assert on_main.any()
    seconds = 0.1 * EPISODE_STEPS
    np.testing.assert_allclose(drives.value[on_main], seconds, rtol=0.02)
    assert not drives.contact.any()


def test_contact_and_leaving_the_road_end_a_drive_and_cost(where):
    seat = lonely(where)
    worlds = seat.worlds
    stuck = jax.tree.map(lambda leaf: leaf, worlds)
    for name in ("route", "s", "lateral", "x", "y", "cos", "sin", "speed"):
        row = getattr(stuck, name)
        stuck = stuck._replace(**{name: row.at[:, 1].set(row[:, 0])})
    stuck = stuck._replace(active=stuck.active.at[:, 1].set(True))
    still = jnp.zeros((FEW, 2))
    go = jax.jit(drive)
    _, brought = go(where.network, sit(where.network, stuck), still)
    assert brought.contact.all()
    assert (brought.reward < -CONTACT + 0.2).all()
    hard = jnp.broadcast_to(jnp.array([0.0, bicycle.MAX_CURVATURE_PM]), (FEW, 2))
    lost = np.zeros(FEW, bool)
    for _ in range(25):
        seat, brought = go(where.network, seat, hard)
        new = np.asarray(brought.lost) & ~lost
        assert (np.asarray(brought.reward)[new] < -LOST + 0.2).all()
        lost |= new
    assert lost.mean() > 0.5  # a tight circle may fit into two lanes


def test_after_a_drive_is_over_nothing_counts(where):
    # Straight on from a bend: sooner or later off the road, and paid once for it.
    drives = jax.device_get(play(where.network, where.starts, ConstantVelocity(), jax.random.key(0)))
    lost = drives.lost & ~drives.contact
    assert lost.any()
    assert (drives.value[lost] <= drives.progress[lost] - LOST + 1e-3).all()
    assert (drives.value[lost] > -LOST - 3.0).all()


def test_stored_values_come_out_again(where):
    for name in ("idm_timid", "idm_aggressive", "constant_velocity", "ppo_merge_1", "ppo_merge_5"):
        again, stored = true_value(name, POLICIES[name], where), STORED[name, "merge"]
        bound = 4.0 * np.hypot(again.standard_error, stored.standard_error)
        assert abs(again.value - stored.value) < bound, name


def test_every_policy_has_a_true_value_and_the_stages_of_ppo_are_clearly_ordered():
    kinds = {maps for _, maps in STORED}
    assert {(name, maps) for name in POLICIES for maps in kinds} == set(STORED)
    for _, worth in STORED.items():
        assert worth.standard_error > 0.0
        assert worth.episodes >= 1000
    series = [STORED[f"ppo_merge_{i}", "merge"] for i in range(1, 6)]
    assert sum(b.above(a)[0] > 0.0 for a, b in pairwise(series)) >= 3


def test_ppo_is_better_than_every_idm_driver_on_the_merge_but_the_aggressive_ones():
    for (name, maps), worth in STORED.items():
        if name.startswith("idm_") and "aggressive" not in name and maps == "merge":
            assert STORED["ppo_merge_greedy", "merge"].above(worth)[0] > 0.0, name


def test_the_standard_error_is_that_of_maps(where):
    policy = POLICIES["idm_timid"]
    values = np.asarray(returns(policy, where).value, np.float64)
    by_hand = np.array([values[where.maps == i].mean() for i in range(MAPS)])
    np.testing.assert_allclose(per_map(values, where), by_hand)
    worth = true_value("x", policy, where)
    assert worth.standard_error == pytest.approx(by_hand.std(ddof=1) / 4.0)
    assert worth.value == pytest.approx(values.mean(), abs=1e-5)


def test_weights_come_back_and_bad_ones_are_refused(tmp_path):
    policy = a_network()
    card = Card("merge", 3, "wmplan policies", "abc", "2 cores")
    path = save_policy(tmp_path / "ppo_1.safetensors", policy, card)
    for a, b in zip(jax.tree.leaves(load_policy(path)), jax.tree.leaves(policy)):
        assert (a == b).all()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ppo_1.json", "ppo_1.safetensors"]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"ppo_1\.safetensors"):
        load_policy(path)
    with pytest.raises(InputError, match="expected weights"):
        load_policy(tmp_path / "missing.safetensors")


@pytest.mark.parametrize(("maps", "episodes", "kind"), [(1, 256, "merge"), (2, 100, "merge"), (2, 256, "motorway")])
def test_ground_that_cannot_be(maps, episodes, kind):
    with pytest.raises(InputError, match="expected"):
        ground(kind, maps, episodes)


def test_stages_are_spread_over_the_rise():
    assert stages([0.0, 1.0, 2.0, 3.0, 4.0, 3.5], 5) == [0, 1, 2, 3, 4]
    assert stages([0.0, 0.1, 4.0, 6.1, 5.0, 8.0, 7.0], 3) == [0, 2, 5]
    with pytest.raises(InputError, match="stages"):
        stages([0.0, 1.0, 0.5], 3)
