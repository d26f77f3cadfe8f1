"""The quantiser: codes and indices are the same thing said twice; its gradient passes straight through."""

from __future__ import annotations

import math

import pytest
import torch

from wmplan.models import fsq

LEVELS = [(8, 5, 5, 5), (3,), (4, 3), (7, 6)]


@pytest.mark.parametrize("levels", LEVELS)
def test_every_index_has_its_own_code_and_back(levels):
    index = torch.arange(math.prod(levels))
    codes = fsq.code_at(index, levels)
    assert torch.equal(fsq.index_of(codes, levels), index)
    assert len(torch.unique(codes, dim=0)) == len(index)
    assert torch.equal(fsq.codes_of(fsq.levels_of(codes, levels), levels), codes)


@pytest.mark.parametrize("levels", LEVELS)
def test_quantising_reaches_exactly_the_levels(levels):
    raw = torch.linspace(-6.0, 6.0, 4001)[:, None].expand(-1, len(levels))
    codes = fsq.quantise(raw, levels)
    for i, n in enumerate(levels):
        reached = torch.unique(fsq.levels_of(codes, levels)[:, i])
        assert torch.equal(reached, torch.arange(n))
    assert torch.allclose(fsq.codes_of(fsq.levels_of(codes, levels), levels), codes, atol=1e-6)


def test_zero_is_the_null_code():
    levels = (8, 5, 4, 3)
    assert torch.equal(fsq.quantise(torch.zeros(1, 4), levels), torch.zeros(1, 4))


def test_gradient_passes_straight_through():
    levels = (5, 5)
    raw = torch.tensor([[0.3, -0.2]], requires_grad=True)
    fsq.quantise(raw, levels).sum().backward()
    expected = (1.0 - torch.tanh(raw.detach()).square()) * (1.0 - 1e-3)
    assert torch.allclose(raw.grad, expected, atol=1e-5)


def test_likeliest_takes_the_mode_and_learns_by_the_mean():
    levels = (3,)
    logits = torch.tensor([[0.0, 0.1, 2.0]], requires_grad=True)
    code = fsq.likeliest(logits, levels)
    assert code.item() == 1.0
    code.sum().backward()
    p = logits.detach().softmax(-1)
    values = torch.tensor([-1.0, 0.0, 1.0])
    assert torch.allclose(logits.grad, p * (values - (p * values).sum()), atol=1e-6)
