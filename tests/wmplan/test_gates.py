"""Gates before dynamics: known answers for what is kept, lost, invented; a missed gate says so."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_ar import network_of
from test_ar_training import AHEAD, SMALL, examples_of

from critics import TaskConfig, TaskCritic
from wmplan.contracts import RASTER_HISTORY
from wmplan.models.training import train
from wmplan.models.training.gates import Reconstructed, from_json, reconstruct, to_json, tokenizer_gates
from wmplan.scene import Kind

CRITIC = TaskCritic(TaskConfig(horizon=AHEAD))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def crowded():
    """Twelve cars and walkers a scene, one on the ego's way: some candidates hit somebody, others do not."""
    examples = examples_of(6, agents=12, seed=4)
    kinds, states = examples.kinds.copy(), examples.states.copy()
    kinds[:, 6:] = Kind.CYCLIST
    states[:, :, 0] = 0.0
    states[:, :, 0, 0] = 15.5  # stands on the ego's way
    return replace(examples, kinds=kinds, states=states)


def gates_of(examples, rebuild):
    found = tokenizer_gates(network_of(0, 0.0), examples, AHEAD, CRITIC, rebuild)
    return {gate.name: gate for gate in found}


def truth_of(batch, horizon):
    return batch.frames[:, RASTER_HISTORY : RASTER_HISTORY + horizon, :4].clone()


def test_the_truth_itself_meets_every_gate_but_an_idle_codebook(crowded):
    for words, met in ((torch.arange(400), True), (torch.arange(200), False)):
        found = gates_of(crowded, lambda n, b, h, w=words: Reconstructed(truth_of(b, h), w[:, None]))
        assert found["vehicle_iou"].value == found["vru_iou"].value == 1.0
        assert found["verdicts_flipped"].value == 0.0
        assert found["verdicts_flipped"].count == 6 * 12
        assert found["codebook_perplexity_share"].value == pytest.approx(len(words) / 1000.0)
        assert found["codebook_perplexity_share"].met is met


def test_an_empty_world_flips_the_verdicts_of_all_who_collide(crowded):
    words = torch.zeros(9, 1, dtype=torch.long)
    found = gates_of(crowded, lambda n, b, h: Reconstructed(torch.zeros_like(truth_of(b, h)), words))
    assert found["vehicle_iou"].value == found["vru_iou"].value == 0.0
    assert found["vehicle_iou"].met is False
    assert "MISSED" in str(found["vehicle_iou"])
    lost = found["verdicts_flipped"].value
    assert 0.1 < lost < 1.0

    def without_bicycles(network, batch, horizon):
        frames = truth_of(batch, horizon)
        frames[:, :, 1] = 0.0
        return Reconstructed(frames, words)

    part = gates_of(crowded, without_bicycles)
    assert part["vehicle_iou"].value == 1.0
    assert part["vru_iou"].value == 0.0
    assert 0.0 <= part["verdicts_flipped"].value < lost


def test_unobserved_cells_do_not_count(crowded):
    observed = crowded.observed.copy() * 0
    states = crowded.states.copy()
    states[:, :, 6:, 0] = 500.0  # bicycles are elsewhere
    found = gates_of(
        replace(crowded, observed=observed, states=states),
        lambda n, b, h: Reconstructed(torch.ones_like(truth_of(b, h)), torch.zeros(3, 1, dtype=torch.long)),
    )
    assert found["vru_iou"].value == 0.0  # bicycles that are invented near others, where the log does tell
    assert found["vru_iou"].count < 64 * 64 * 6 * AHEAD / 2


def test_an_untrained_tokenizer_reconstructs_constant_velocity():
    """Cars that keep their velocity are reconstructed without any news, and no gate is met by having none."""
    examples = examples_of(4)
    found = gates_of(examples, reconstruct)
    assert found["vehicle_iou"].value > 0.85
    assert found["vru_iou"].met is None
    assert "not measured" in str(found["vru_iou"])
    braking = gates_of(examples_of(4, braking=5.0), reconstruct)
    assert braking["vehicle_iou"].value < 0.7
    assert braking["vehicle_iou"].met is False


def test_gates_survive_being_written(crowded):
    found = tokenizer_gates(network_of(0, 0.0), examples_of(2), AHEAD, CRITIC)
    again = from_json(to_json(found))
    assert [str(gate) for gate in again] == [str(gate) for gate in found]
    assert math.isnan(again[1].value)


@pytest.mark.parametrize("quantiser", ["fsq", "rvq2"])
def test_every_stage_is_told_with_what_it_left_whatever_the_quantiser(quantiser, tmp_path):
    examples = examples_of(3)
    seen: dict[str, list] = {}
    settings = replace(SMALL, quantiser=quantiser, steps=(2, 3, 1, 2))
    network, _ = train(examples, settings, tmp_path, staged=lambda stage, net: seen.__setitem__(stage, net))
    assert list(seen) == ["steering", "tokenizer", "dynamics", "on_policy"]
    last, first = seen["on_policy"].state_dict(), seen["tokenizer"].state_dict()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in last.items())
    assert any(not torch.equal(value, network.state_dict()[name]) for name, value in first.items())
    found = tokenizer_gates(seen["tokenizer"], examples, AHEAD, CRITIC)
    assert 0.0 < found[2].value <= 1.0
