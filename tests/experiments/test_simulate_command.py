"""Simulated logs with known propensities: the densities, the worlds they belong to, the command that writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import truncnorm

from experiments import simulate
from experiments.processes import Done
from experiments.simulate import SimulateCommand
from wmplan import bicycle
from wmplan.errors import InputError
from wmplan.scene import FUTURE_STEPS, HISTORY_STEPS, Driven, Log
from wmplan.sealed import SealedFutures
from wmplan.simulator.policies.mixture import (
    COMPONENTS,
    HOLD_STEPS,
    PER_LOG,
    Mixture,
    each_density,
    log_densities,
    named,
    sequential,
)
from wmplan.simulator.policies.protocol import Situation, WithDensity
from wmplan.simulator.policies.shaky import Shaky
from wmplan.simulator.policies.steady import ConstantVelocity
from wmplan.simulator.propensities import densities
from wmplan.simulator.reader import log, resume
from wmplan.simulator.recording import CHUNK, LOG_STEPS
from wmplan.simulator.source import Source
from wmplan.simulator.traffic import rollout
from wmplan.store import SceneStore
from wmplan.windows import WindowConfig, cut

MIXED = Source(CHUNK, 5, "mixed", "mixture")
RANDOM = Source(CHUNK, 5, "mixed", "random")
MIXTURE = named("mixture")
AT_T0 = HISTORY_STEPS // HOLD_STEPS
"""The first decision of a scene's future."""
GO_ON = jax.jit(rollout)


@pytest.fixture(scope="module")
def logs() -> list[Log]:
    return [log(MIXED, i) for i in range(CHUNK)]


def driven(made: Log) -> Driven:
    assert made.driven is not None
    return made.driven


def by_hand(row: int) -> np.ndarray:
    """The density of each decision of a world under each component, from the law that the documentation states."""
    chunk, _ = MIXED.world(row)
    _, situation, actions = chunk.decisions(row)
    speed = np.maximum(np.asarray(situation.worlds.speed)[:, 0], 1.0)
    bound = np.array([bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM])
    wish = jax.jit(lambda driver, situation: driver.act(situation, jax.random.key(0)))
    table = []
    for policy in MIXTURE.policies:
        assert isinstance(policy, Shaky)
        middle = np.asarray(wish(policy.driver, situation), np.float64)
        spread = np.stack([np.full(speed.shape, policy.accel), np.minimum(policy.aside / speed**2, 0.05)], -1)
        law = truncnorm((-bound - middle) / spread, (bound - middle) / spread, middle, spread)
        table.append(law.logpdf(actions).sum(axis=-1))
    return np.stack(table)


def test_recorded_densities_are_those_of_the_law(logs):
    # The driver is drawn at first and anew at t0: two drives, each by whoever.
    each, recorded = by_hand(3), driven(logs[3]).log_density
    for drive in (slice(0, AT_T0), slice(AT_T0, None)):
        joint = np.log(MIXTURE.weights)[:, None] + np.cumsum(each[:, drive], axis=1)
        np.testing.assert_allclose(np.cumsum(recorded[drive]), logsumexp(joint, axis=0), atol=2e-3)


def test_weights_from_t0_have_mean_one_and_are_bounded_by_one_over_the_drivers_share(logs):
    futures = [cut(x, simulate.WINDOWS) for x in logs]
    pairs = [(scene.log_id, future.driven) for ((scene, future),) in futures]
    for policy, share in zip(MIXTURE.policies, MIXTURE.weights):
        assert isinstance(policy, Shaky)
        target = [densities(policy, name, made, first=HISTORY_STEPS) for name, made in pairs]
        weight = np.exp([float((one - made.log_density).sum()) for one, (_, made) in zip(target, pairs)])
        assert (weight <= (1.0 + 1e-3) / share).all()
        assert abs(weight.mean() - 1.0) < 3.0 * weight.std(ddof=1) / np.sqrt(len(weight))
        assert weight.sum() ** 2 / (weight**2).sum() > 0.5 * share * len(weight), "effective sample size"


def test_densities_begin_afresh_where_the_driver_is_drawn_anew():
    draw = np.random.default_rng(0)
    steps, each = HOLD_STEPS * np.arange(9), draw.normal(size=(len(COMPONENTS), 9))
    once, anew = (log_densities(named(name), steps, each) for name in (PER_LOG, "mixture"))
    np.testing.assert_array_equal(once, sequential(MIXTURE.weights, each)[0])
    np.testing.assert_array_equal(anew[:AT_T0], once[:AT_T0])
    np.testing.assert_allclose(anew[AT_T0], logsumexp(np.log(MIXTURE.weights) + each[:, AT_T0]))
    assert (anew[AT_T0:] != once[AT_T0:]).all()
    with pytest.raises(ValueError, match="redrawn"):
        replace(MIXTURE, redrawn=(HOLD_STEPS + 1,))


def test_decisions_are_held_and_anew_every_half_second(logs):
    for row in (0, 11):
        chunk, _ = MIXED.world(row)
        accel = chunk.recorded.actions[: LOG_STEPS - 1, row, 0].reshape(-1, HOLD_STEPS)
        np.testing.assert_allclose(accel, np.broadcast_to(accel[:, :1], accel.shape), atol=1e-5)
        np.testing.assert_array_equal(accel[:, 0], driven(logs[row]).actions[:, 0])
        assert (np.diff(accel[:, 0]) != 0.0).all()
        np.testing.assert_array_equal(driven(logs[row]).steps, np.arange(0, LOG_STEPS - 1, HOLD_STEPS))


def test_densities_integrate_to_one_whatever_has_been_before():
    chunk, row = MIXED.world(3)
    _, situation, actions = chunk.decisions(row)
    each = np.asarray(each_density(MIXTURE.stacked, len(COMPONENTS), situation, actions))
    posterior = np.concatenate([sequential(MIXTURE.weights, part)[1][:-1] for part in np.split(each, [AT_T0], axis=1)])
    bounds = (bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM)
    for t in (0, 9):
        now = jax.tree.map(lambda leaf, t=t: leaf[t : t + 1], (situation.worlds, situation.observed, situation.seen))
        then = situation._replace(worlds=now[0], observed=now[1], seen=now[2])
        here = actions[t : t + 1]
        # The law of each driver is a product over both axes, so two lines through the decision tell the plane.
        sums = []
        for axis, bound in enumerate(bounds):
            line = np.repeat(here, 3001, axis=0)
            line[:, axis] = np.linspace(-bound, bound, 3001)
            sums.append(np.exp(along_line(then, line)).sum(axis=0) * 2.0 * bound / 3000)
        at_decision = np.exp(along_line(then, np.repeat(here, 3001, axis=0))[0])
        assert (posterior[t] * sums[0] * sums[1] / at_decision).sum() == pytest.approx(1.0, abs=0.01)


@jax.jit
def along_line(then: Situation, actions: jax.Array) -> jax.Array:
    """The density of many actions in one situation under each component, [N, M]."""
    return jax.vmap(lambda action: each_density(MIXTURE.stacked, len(COMPONENTS), then, action[None])[:, 0])(actions)


def test_weights_are_exactly_one_where_the_target_is_the_behaviour(logs):
    for i in (0, 7, 31):
        again = densities(MIXTURE, logs[i].log_id, driven(logs[i]))
        np.testing.assert_array_equal(np.exp(again - driven(logs[i]).log_density), 1.0)
        ((scene, future),) = cut(logs[i], simulate.WINDOWS)
        assert future.driven is not None
        assert len(future.driven.steps) == FUTURE_STEPS // HOLD_STEPS
        again = densities(MIXTURE, scene.log_id, future.driven, first=round(scene.t0_s / 0.1))
        np.testing.assert_array_equal(again, future.driven.log_density)


def test_decisions_are_drawn_from_the_densities_that_are_recorded(logs):
    # A component's density over that of the mixture has mean one; at first it is one over its weight at most.
    for policy, weight in zip(MIXTURE.policies, MIXTURE.weights):
        assert isinstance(policy, Shaky)
        ratio = np.array([np.exp((densities(policy, x.log_id, driven(x)) - driven(x).log_density)[0]) for x in logs])
        assert (ratio <= 1.0 / weight + 1e-3).all()
        assert abs(ratio.mean() - 1.0) < 4.0 * ratio.std() / np.sqrt(CHUNK) + 1e-3


def test_what_a_driver_does_gives_it_away(logs):
    found = []
    for i in range(CHUNK):
        chunk, row = MIXED.world(i)
        _, situation, actions = chunk.decisions(row)
        each = np.asarray(each_density(MIXTURE.stacked, len(COMPONENTS), situation, actions))
        _, posterior = sequential(MIXTURE.weights, each[:, AT_T0:])
        np.testing.assert_allclose(posterior.sum(axis=1), 1.0)
        found.append(posterior[-1, MIXTURE.names.index(driven(logs[i]).component)])
    assert {driven(x).component for x in logs} == set(COMPONENTS)
    assert np.mean(found) > 0.6, "by chance it would be 0.26"


def test_decisions_of_another_world_are_refused(logs):
    with pytest.raises(InputError, match="decisions differ"):
        densities(MIXTURE, logs[1].log_id, driven(logs[0]))


@pytest.mark.parametrize("source", [MIXED, RANDOM], ids=lambda source: source.behaviour)
def test_a_log_goes_on_from_any_step_as_it_was_logged(source):
    step, row = 60, 13
    made = log(source, row)
    road, network, state = resume(made.log_id, step)
    assert road.road_map.ids == made.road_map.ids
    chunk, _ = source.world(row)
    actions = chunk.recorded.actions[step : LOG_STEPS - 1, row]
    bound = np.array([[bicycle.MAX_ACCEL_MPS2, bicycle.MAX_CURVATURE_PM]])
    assert (np.abs(actions) <= bound * (1.0 + 1e-6)).all()
    worlds = jax.tree.map(lambda leaf: leaf[None], state)
    _, seen = GO_ON(network, worlds, jnp.asarray(actions)[None])
    logged = chunk.world(row).states
    for name in ("x", "y", "cos", "sin", "speed", "active"):
        after = np.asarray(getattr(seen, name))[:, 0]
        np.testing.assert_array_equal(after, np.asarray(getattr(logged, name))[step:], err_msg=name)


def test_every_step_is_a_decision_of_a_policy_by_name():
    made = driven(log(RANDOM, 2))
    assert made.component == "random"
    np.testing.assert_array_equal(made.steps, np.arange(LOG_STEPS - 1))
    assert np.isfinite(made.log_density).all()
    (policy,) = named("random").policies
    assert isinstance(policy, WithDensity)
    np.testing.assert_array_equal(densities(policy, RANDOM.log_id(2), made), made.log_density)


def test_all_behaviours_begin_in_the_same_worlds():
    one, other = log(MIXED, 4), log(RANDOM, 4)
    assert (one.log_id, other.log_id) == ("sim-mixed.mixture-5-4", "sim-mixed.random-5-4")
    assert one.group == other.group == "sim-mixed-5-map1"
    np.testing.assert_array_equal(one.tracks.states[:, 0], other.tracks.states[:, 0])
    assert not np.array_equal(one.tracks.states[0, 20], other.tracks.states[0, 20])


def test_ids_tell_the_source():
    for source in (MIXED, RANDOM, Source(3, 7, "merge"), Source(9, 0, "t_junction", "idm_normal_in_lane")):
        again, number = Source.of_log(source.log_id(2))
        assert (again.seed, again.map, again.behaviour, number) == (source.seed, source.map, source.behaviour, 2)
    assert Source(3, 7, "merge").log_id(2) == "sim-merge-7-2"
    for bad in ("sim-mixed.drunk-0-1", "sim-town-0-1", "sim-mixed-0", "log", "sim-mixed-x-1"):
        with pytest.raises(InputError, match=bad):
            Source.of_log(bad)


def test_a_policy_without_density_has_no_propensities():
    assert not named("idm_normal").has_density
    assert not named("constant_velocity").has_density
    assert MIXTURE.has_density
    with pytest.raises(ValueError, match="one class"):
        Mixture(("a", "b"), (0.5, 0.5), (ConstantVelocity(), MIXTURE.policies[0]), 5)
    with pytest.raises(ValueError, match="weights"):
        Mixture(("a",), (0.9,), (ConstantVelocity(),), 5)


def here(factory: str, settings: Any, tasks: Sequence[str], workers: int) -> Iterator[Done]:
    """Tasks in this process, where all is compiled already; the last first, as it may happen."""
    handle = simulate.job(settings)
    return (Done(task, handle(task)) for task in reversed(tasks))


def test_the_command_writes_one_scene_of_ten_seconds_a_log_the_first_ones_whatever_follows(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(simulate, "run_tasks", here)
    few = SimulateCommand(out=str(tmp_path / "few"), n=3, seed=5)
    assert simulate.run(few) == 0
    assert "3 scenes" in capsys.readouterr().out
    many = simulate.simulate(SimulateCommand(out=str(tmp_path / "many"), n=CHUNK + 2, seed=5))
    assert many.scenes == CHUNK + 2
    assert many.decisions == many.scenes * FUTURE_STEPS // HOLD_STEPS
    stores = [SceneStore.open(tmp_path / name) for name in ("few", "many")]
    assert stores[1].scene_ids[:3] == stores[0].scene_ids
    assert list(stores[1].index().log_id) == [Source(1, 5, "mixed", "mixture").log_id(i) for i in range(CHUNK + 2)]
    futures = [list(SealedFutures.open(tmp_path / name).futures()) for name in ("few", "many")]
    for a, b, one, other in zip(*futures, *(store.scenes() for store in stores)):
        for name in ("steps", "actions", "log_density"):
            assert getattr(a.driven, name).tobytes() == getattr(b.driven, name).tobytes()
        assert a.ego.valid.all()
        assert a.ego.states.tobytes() == b.ego.states.tobytes()
        assert one.agents.states.tobytes() == other.agents.states.tobytes()
        assert one.ego.valid.all()
        assert one.t0_s == pytest.approx(HISTORY_STEPS * 0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n": 0}, "n is 0, expected 1 or more"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": -1}, "workers -1"),
        ({"behaviour": "drunk"}, "behaviour is 'drunk', expected explore, mixture, mixture_per_log, constant_velocity"),
        ({"map": "town"}, "map is 'town', expected straight"),
        ({"val_fraction": 1.0}, "val_fraction is 1.0"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_and_leaves_nothing(tmp_path: Path, change: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said) as told:
        simulate.simulate(SimulateCommand(out=str(tmp_path / "store"), **change))
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_fails_leaves_nothing_and_an_existing_folder_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(simulate, "run_tasks", lambda *_: iter([Done("0", None, "out of memory")]))
    with pytest.raises(InputError, match="logs from 0 on: out of memory"):
        simulate.simulate(SimulateCommand(out=str(tmp_path / "store"), n=2))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="exists already"):
        simulate.simulate(SimulateCommand(out=str(tmp_path / "mine"), n=2))
    assert WindowConfig().min_future_s < simulate.WINDOWS.min_future_s
