"""Quantisers: one contract for all, and codebooks that find planted clusters, keep none idle and never move null."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_ar import make_raster, plans_of
from test_ar_training import SMALL, examples_of

from wmplan.errors import InputError
from wmplan.models import checkpoint, load_model
from wmplan.models.ar import Autoregressive
from wmplan.models.model_card import Card
from wmplan.models.presets import PRESETS
from wmplan.models.quantisers import QUANTISERS, null_bias, perplexity, quantiser_of
from wmplan.models.rollout import Network
from wmplan.models.training import train
from wmplan.models.vq import DEAD, Codebook, VectorQuantiser
from wmplan.randomness import NoiseBank

NAMES = sorted(QUANTISERS)
PRESET = PRESETS["nano"]


def learned(name: str):
    """A quantiser whose words have settled on some vectors, and other such vectors."""
    quantiser = quantiser_of(name, PRESET)
    generator = torch.Generator().manual_seed(0)
    centres = 2.0 * torch.randn(200, quantiser.width, generator=generator)
    member = torch.randint(200, (2, 700), generator=generator)
    raw = centres[member] + 0.05 * torch.randn(2, 700, quantiser.width, generator=generator)
    for _ in range(3):
        quantiser.learn(raw[0], torch.ones(700, dtype=torch.bool))
    return quantiser, raw[1]


@pytest.mark.parametrize("name", NAMES)
def test_codes_and_digits_say_the_same(name):
    quantiser, raw = learned(name)
    codes, digits = quantiser.quantise(raw), quantiser.digits(raw)
    assert torch.allclose(quantiser.codes_of(digits), codes, atol=1e-6)
    assert len(torch.unique(digits, dim=0)) > 100
    assert codes.abs().max() <= 1.0 + quantiser.books.count(512)  # residual words add up
    spiky = torch.cat(
        [torch.nn.functional.one_hot(d, n) * 9.0 for d, n in zip(digits.unbind(-1), quantiser.splits, strict=True)], -1
    )
    with torch.no_grad():
        assert torch.equal(quantiser.likeliest(spiky), quantiser.codes_of(digits))
    words = quantiser.words(digits)
    assert words.shape[-1] == len(quantiser.books)
    assert (words.max(0).values < torch.tensor(quantiser.books)).all()


@pytest.mark.parametrize("name", NAMES)
def test_null_is_all_zeros_and_favoured_by_its_bias(name):
    quantiser, _ = learned(name)
    null = torch.tensor([quantiser.null])
    assert torch.equal(quantiser.codes_of(null), torch.zeros(1, quantiser.width))
    with torch.no_grad():
        assert torch.equal(quantiser.likeliest(null_bias(quantiser, 1.0)[None]), torch.zeros(1, quantiser.width))
    untrained = quantiser_of(name, PRESET)
    assert torch.equal(untrained.quantise(torch.zeros(1, untrained.width)), torch.zeros(1, untrained.width))


@pytest.mark.parametrize("stages", [1, 2])
def test_gradient_passes_straight_through_the_bound(stages):
    quantiser = VectorQuantiser(stages, size=8, width=3)
    raw = torch.tensor([[0.3, -0.2, 1.0], [2.0, 0.1, 0.0]], requires_grad=True)
    quantiser.quantise(raw).sum().backward()
    assert torch.allclose(raw.grad, 1.0 - torch.tanh(raw.detach()).square(), atol=1e-6)


def test_likeliest_takes_the_mode_and_learns_by_the_mean():
    quantiser = VectorQuantiser(1, size=3, width=1)
    quantiser.codebooks[0].words = torch.tensor([[0.0], [0.5], [-1.0]])
    logits = torch.tensor([[0.0, 0.3, 0.1]], requires_grad=True)
    code = quantiser.likeliest(logits)
    assert code.item() == 0.5
    code.sum().backward()
    p, values = logits.detach().softmax(-1), torch.tensor([0.0, 0.5, -1.0])
    assert torch.allclose(logits.grad, p * (values - (p * values).sum()), atol=1e-6)


def test_codebook_finds_planted_clusters_and_a_shift_of_them():
    """Clusters of unequal weight: each gets a word, through resets alone, and again after all have moved."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.rand(12, 8, generator=generator) * 2.0 - 1.0
    often = 1.3 ** -torch.arange(12.0)
    book = Codebook(48, 8)
    for shift in (0.0, 0.7):
        for _ in range(600):
            member = torch.multinomial(often, 400, replacement=True, generator=generator)
            book.learn(centres[member] + shift + 0.02 * torch.randn(400, 8, generator=generator))
        off = (centres + shift - book.words[book.nearest(centres + shift)]).norm(dim=-1)
        assert off.max() < 0.08
        assert len(torch.unique(book.nearest(centres + shift))) == 12
    assert torch.equal(book.words[0], torch.zeros(8))
    assert (book.usage[1:] >= DEAD).all()


def test_words_placed_at_once_stand_on_different_vectors():
    raw = torch.randn(30, 3, generator=torch.Generator().manual_seed(4)).repeat_interleave(3, dim=0)
    book = Codebook(31, 3)
    book.learn(raw)
    assert (raw - book.words[book.nearest(raw)]).abs().max() < 1e-6


def test_words_are_the_means_of_what_chooses_them():
    book = Codebook(3, 2)
    book.words = torch.tensor([[0.0, 0.0], [0.9, 0.0], [-0.6, 0.4]])
    raw = torch.tensor([[1.0, 0.0], [1.0, 0.2], [-1.0, 0.0], [-1.0, -0.2]])
    for _ in range(1200):
        book.learn(raw)
    assert torch.allclose(book.words[1:].sort(dim=0).values, torch.tensor([[-1.0, -0.1], [1.0, 0.1]]), atol=1e-3)
    assert torch.allclose(book.usage[1:], torch.tensor([2.0, 2.0]), atol=1e-3)


def test_learning_is_decided_by_the_calls_and_leaves_global_randomness_alone():
    raw = torch.randn(50, 4, generator=torch.Generator().manual_seed(2))
    before = torch.get_rng_state()
    first, second = Codebook(9, 4), Codebook(9, 4)
    for book in (first, second):
        for _ in range(5):
            book.learn(raw)
        torch.rand(1, generator=torch.Generator().manual_seed(5))
    assert torch.equal(first.words, second.words)
    assert torch.equal(before, torch.get_rng_state())


def test_commitment_counts_told_vectors_only_and_pulls_to_the_code():
    quantiser = VectorQuantiser(1, size=4, width=2)
    raw = torch.tensor([[0.5, 0.5], [3.0, 3.0]], requires_grad=True)
    told = torch.tensor([True, False])
    first = quantiser.learn(raw, told)  # every word is still zero
    assert torch.allclose(first, torch.tanh(torch.tensor(0.5)).square())
    first.backward()
    assert raw.grad[0].min() > 0.0
    assert torch.equal(raw.grad[1], torch.zeros(2))
    assert quantiser.learn(raw, told) < 1e-9  # a word was put on the told vector
    assert quantiser.learn(raw, ~told) > 0.1
    assert quantiser.learn(raw, torch.zeros(2, dtype=torch.bool)) == 0.0


def test_vectors_that_are_not_finite_leave_the_words_alone():
    book = Codebook(4, 2)
    book.learn(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    before = book.words.clone()
    book.learn(torch.tensor([[1.0, 0.0], [torch.nan, 1.0]]))
    assert torch.equal(book.words, before)


def test_second_stage_explains_what_the_first_leaves():
    generator = torch.Generator().manual_seed(3)
    raw = 0.5 * torch.randn(400, 4, generator=generator)
    told = torch.ones(400, dtype=torch.bool)
    error = {}
    for stages in (1, 2):
        quantiser = VectorQuantiser(stages, size=16, width=4)
        for _ in range(200):
            quantiser.learn(raw, told)
        error[stages] = float((quantiser.quantise(raw) - torch.tanh(raw)).square().mean())
    assert error[2] < 0.5 * error[1]


def test_a_model_with_learned_words_imagines_rows_alone_and_loads_to_the_same_bytes(tmp_path):
    network = Network(PRESET, "rvq2")
    generator = torch.Generator().manual_seed(0)
    for book in network.tokenizer.quantiser.codebooks:
        book.words = torch.randn(book.words.shape, generator=generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    raster, plans, noise = make_raster(), plans_of(3), NoiseBank(0, 2)
    model = Autoregressive(network, "any", horizon=2)
    whole = model.imagine(model.encode(raster), plans, noise)
    assert whole.latents.shape == (3, 2, 2, 96 * 64)
    assert len(torch.unique(whole.latents[0, 0, 0].reshape(96, 64), dim=0)) > 2
    part = model.imagine(model.encode(raster), plans.select([2]), noise)
    assert torch.equal(part.occupancy[0], whole.occupancy[2])
    checkpoint.save(tmp_path, network, Card("nano", 2, "", {"quantiser": "rvq2"}, {}, (), ()))
    again = load_model(tmp_path)
    assert torch.equal(again.imagine(again.encode(raster), plans, noise).occupancy, whole.occupancy)


def test_killed_training_resumes_to_the_same_words(tmp_path):
    examples = examples_of(4)
    settings = replace(SMALL, quantiser="vq_ema", steps=(0, 3, 0, 1))
    whole, _ = train(examples, settings, tmp_path / "whole")

    def kill(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(examples, settings, tmp_path / "killed", kill)
    again, _ = train(examples, settings, tmp_path / "killed")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert whole.tokenizer.quantiser.codebooks[0].usage.count_nonzero() > 20


def test_perplexity_of_known_shares():
    assert perplexity(torch.arange(7), 10) == pytest.approx(7.0)
    assert perplexity(torch.zeros(5, dtype=torch.long), 10) == pytest.approx(1.0)
    words = torch.tensor([0, 0, 1, 2])
    assert perplexity(words, 3) == pytest.approx(math.exp(0.5 * math.log(2) + 0.5 * math.log(4)))


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match=r"quantiser is 'lfq', expected one of \['fsq', 'rvq2', 'vq_ema'\]"):
        quantiser_of("lfq", PRESET)
