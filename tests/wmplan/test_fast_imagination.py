"""Futures do not depend on how rollouts are cut into passes or on how many threads take the passes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from wmplan import threads
from wmplan.models.ar import LEAST_ROWS, Autoregressive, passes_of
from wmplan.models.precision import has_bfloat16, lowered
from wmplan.models.presets import preset_of
from wmplan.models.rollout import Network
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.raster import rasterize
from wmplan.testing.scenes import Body, straight_road


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in every process that imagines."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def one_at_a_time() -> Iterator[None]:
    """Whatever a test sets, others start with one thread."""
    yield
    threads.work_side_by_side(1)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest) -> Autoregressive:
    """A small world model with random weights everywhere, so that every part of it moves something."""
    if request.param == "bfloat16" and not has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    torch.manual_seed(4)
    network = Network(preset_of("nano"))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    lowered(network, request.param)
    return Autoregressive(network, "random", horizon=3)


@pytest.fixture(scope="module")
def context(model: Autoregressive):
    """Five road users around the ego."""
    bodies = [Body(8.0 * i - 12.0, (3.5, -3.5, 0.0)[i % 3], speed=7.0 + i) for i in range(5) if i != 2]
    return model.encode(rasterize(straight_road(bodies, 9.0, "busy")[0], model.grid))


def plans(count: int) -> Plans:
    """Candidates that differ from their first step on."""
    controls = np.repeat(np.random.default_rng(1).normal(size=(count, 1, 2)) * [1.5, 0.02], 30, axis=1)
    return Plans.from_controls(controls, 9.0)


def test_a_candidate_alone_has_the_bytes_that_it_has_among_many(model: Autoregressive, context):
    """From 3 rollouts (a padded pass of the least rows) to 36 (two passes)."""
    together = model.imagine(context, plans(12), NoiseBank(3, 3))
    assert together.occupancy.std() > 0.03
    assert not torch.equal(together.occupancy[0], together.occupancy[1])
    for first, last in ((0, 1), (3, 5), (4, 8), (2, 9), (11, 12)):
        alone = model.imagine(context, plans(12).select(slice(first, last)), NoiseBank(3, 3))
        assert torch.equal(alone.occupancy, together.occupancy[first:last])
        assert torch.equal(alone.velocity, together.velocity[first:last])
        assert torch.equal(alone.latents, together.latents[first:last])


@pytest.mark.parametrize("count", [2, 3])
def test_threads_change_no_bit(model: Autoregressive, context, count: int):
    one = model.imagine(context, plans(11), NoiseBank(3, 2))
    threads.work_side_by_side(count)
    several = model.imagine(context, plans(11), NoiseBank(3, 2))
    assert torch.equal(one.occupancy, several.occupancy)
    assert torch.equal(one.velocity, several.velocity)


def test_particles_leave_no_rest_of_a_vector(context):
    particles = context.encoded.particles
    assert particles.position.shape[1] % 32 == 0  # the widest vectors are two of 16 numbers, unrolled
    used = particles.mass.sum(-1) > 0
    assert 0 < int(used.sum()) <= used.numel()
    assert not particles.velocity[~used].any()


@pytest.mark.parametrize("count", [1, 7, 20, 31, 32, 33, 64, 65, 128, 500])
@pytest.mark.parametrize("crew", [1, 2, 5])
def test_passes_hold_every_rollout_once_within_bounds(count: int, crew: int):
    rows, passes = passes_of(count, 32, crew)
    assert [i for rollouts in passes for i in rollouts] == list(range(count))
    assert LEAST_ROWS <= rows <= 32
    assert all(0 < len(rollouts) <= rows for rollouts in passes)
    rounds = -(-len(passes) // crew)
    assert rounds == -(-count // (32 * crew)), "more rounds than rollouts need"
    assert rows * crew * rounds >= count


def test_the_example_of_the_figures_is_cut_in_two():
    assert passes_of(20, 32, 2) == (10, [range(10), range(10, 20)])
    assert passes_of(128, 32, 2)[0] == 32


def test_every_item_is_worked_on_once_by_several_threads():
    threads.work_side_by_side(2)
    met, done = threading.Barrier(2, timeout=20), []

    def work(item: int) -> None:
        if item < 2:
            met.wait()  # two at once, or this never ends
        done.append(item)

    threads.each(work, range(9))
    assert sorted(done) == list(range(9))


def test_what_goes_wrong_in_a_thread_is_raised():
    threads.work_side_by_side(2)
    with pytest.raises(ZeroDivisionError):
        threads.each(lambda item: print(1 // item), [1, 0, 2])


def test_several_passes_at_once_want_one_thread_each(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="expected torch to have one"):
        threads.work_side_by_side(0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(ValueError, match="expected torch to have one"):
        threads.work_side_by_side(2)
