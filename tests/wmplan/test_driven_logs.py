"""Propensities of logged decisions: where they go when scenes are cut, and what the store makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from wmplan.scene import FUTURE_STEPS, Driven, Log
from wmplan.sealed import SealedFutures
from wmplan.simulator.policies.mixture import sequential
from wmplan.store_writer import StoreWriter
from wmplan.testing.logs import driving_log
from wmplan.windows import WindowConfig, cut

HOLD = 5


def a_driven_log() -> Log:
    log = driving_log("driven", seed=1)
    steps = np.arange(0, log.tracks.valid.shape[1] - 1, HOLD, dtype=np.int32)
    draw = np.random.default_rng(0)
    actions = draw.normal(size=(len(steps), 2)).astype(np.float32)
    return replace(log, driven=Driven("brisk", steps, actions, draw.normal(size=len(steps))))


def test_a_future_has_the_decisions_from_t0_on_and_only_the_recorded_egos():
    log = a_driven_log()
    assert log.driven is not None
    futures = list(cut(log, WindowConfig(ego="any", stride_s=0.7)))
    assert any(not scene.recorded_ego for scene, _ in futures)
    for scene, future in futures:
        if not scene.recorded_ego:
            assert future.driven is None
            continue
        assert future.driven is not None
        t0 = round(scene.t0_s / log.dt_s)
        mine = (log.driven.steps >= t0) & (log.driven.steps < t0 + FUTURE_STEPS)
        assert future.driven.component == "brisk"
        np.testing.assert_array_equal(future.driven.steps, log.driven.steps[mine] - t0)
        np.testing.assert_array_equal(future.driven.actions, log.driven.actions[mine])
        np.testing.assert_array_equal(future.driven.log_density, log.driven.log_density[mine])


def test_the_store_gives_decisions_back_to_the_last_bit_and_none_as_none(tmp_path: Path):
    driven, undriven = a_driven_log(), driving_log("undriven", seed=2)
    put = {}
    with StoreWriter(tmp_path / "store", 150.0, 0.2, {}) as writer:
        for log in (driven, undriven):
            for scene, future in cut(log, WindowConfig()):
                writer.add(log, scene, future)
                put[scene.scene_id] = future
        writer.finish([], [])
    assert {future.driven is None for future in put.values()} == {True, False}
    for future in SealedFutures.open(tmp_path / "store").futures():
        before, after = put[future.scene_id].driven, future.driven
        if before is None:
            assert after is None
            continue
        assert after is not None
        assert after.component == before.component
        for name in ("steps", "actions", "log_density"):
            one, other = getattr(before, name), getattr(after, name)
            assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())


def test_the_sealed_digest_knows_the_densities(tmp_path: Path):
    log = a_driven_log()
    assert log.driven is not None
    other = replace(log, driven=replace(log.driven, log_density=log.driven.log_density + 1e-12))
    digests = []
    for name, which in (("a", log), ("b", log), ("c", other)):
        with StoreWriter(tmp_path / name, 150.0, 0.2, {}) as writer:
            for scene, future in cut(which, WindowConfig()):
                writer.add(which, scene, future)
            digests.append(writer.finish([], []).sealed_digest)
    assert digests[0] == digests[1] != digests[2]


def test_densities_given_what_was_before_are_those_of_the_whole_drive():
    draw = np.random.default_rng(5)
    weights, each = (0.2, 0.5, 0.3), draw.normal(size=(3, 16)) * 3.0
    log_density, posterior = sequential(weights, each)
    whole = np.log(np.dot(weights, np.exp(each.sum(axis=1))))
    np.testing.assert_allclose(log_density.sum(), whole, rtol=1e-12)
    np.testing.assert_allclose(posterior.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(posterior[0], weights)
    # Step by step by Bayes' rule.
    belief = np.asarray(weights)
    for t in range(each.shape[1]):
        joint = belief * np.exp(each[:, t])
        np.testing.assert_allclose(log_density[t], np.log(joint.sum()), rtol=1e-9)
        belief = joint / joint.sum()
        np.testing.assert_allclose(posterior[t + 1], belief, rtol=1e-9)


def test_a_component_that_could_not_have_done_it_is_out_and_one_alone_is_itself():
    each = np.array([[-1.0, -np.inf, -1.0], [-2.0, -1.0, -3.0]])
    log_density, posterior = sequential((0.5, 0.5), each)
    np.testing.assert_array_equal(posterior[2:, 0], 0.0)
    np.testing.assert_allclose(log_density[2], -3.0)
    alone, certain = sequential((1.0,), each[1:])
    np.testing.assert_allclose(alone, each[1])
    np.testing.assert_array_equal(certain, 1.0)
