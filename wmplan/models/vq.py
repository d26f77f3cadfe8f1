"""Vector quantisation: a code is a word of a learned codebook, or the sum of a word from each of several.

Words follow the vectors that choose them by a running mean; words that nobody chooses are put where the codebook is
worst. Word 0 of every codebook is the null word, all zeros, and stays there: the code of no news.

References:
    van den Oord et al. (2017), "Neural discrete representation learning", eq. 3 and appendix A.1 (running means).
    Zeghidour et al. (2021), "SoundStream", section III.C (residual stages, dead words).
"""

from __future__ import annotations

from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

DECAY = 0.99
"""Of the running means of how often a word is chosen and of what chooses it, per call of `learn`."""
DEAD = 0.02
"""A word that is chosen less often than this a call is put elsewhere. A word just placed counts as chosen once, so it
has about 390 calls to be of use."""
COMMITMENT = 1.0
"""Weight of the squared distance between vectors and their codes."""


class Codebook(nn.Module):
    """Words of equal width, all at zero until the first `learn`."""

    words: Tensor
    usage: Tensor
    calls: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("words", torch.zeros(size, width))
        self.register_buffer("usage", torch.zeros(size))
        # A float: running averages of a network's state must be able to blend it.
        self.register_buffer("calls", torch.zeros(()))

    def nearest(self, raw: Float[Tensor, "*B D"]) -> Int[Tensor, "*B"]:
        """The word nearest to each vector; of equals the first, so the null word where nothing is learned yet."""
        return (self.words.square().sum(-1) - 2.0 * (raw @ self.words.T)).argmin(-1)

    @torch.no_grad()
    def learn(self, raw: Float[Tensor, "N D"]) -> None:
        """Move the words towards the vectors that choose them; put dead words on vectors far from every word.

        Those are drawn one after another with a probability in proportion to the squared distance from the nearest
        word, as k-means++ chooses its centres, by numbers that only the count of calls decides. New tensors take the
        old ones' place: a graph that saved the old words for its backward pass keeps them. Vectors that are not finite
        teach nothing: a training that stops at them keeps its words.
        """
        if not len(raw) or not bool(torch.isfinite(raw).all()):
            return
        chosen = self.nearest(raw)
        count = torch.zeros_like(self.usage).scatter_add_(0, chosen, torch.ones_like(raw[:, 0]))
        total = torch.zeros_like(self.words).index_add_(0, chosen, raw)
        usage = DECAY * self.usage + (1.0 - DECAY) * count
        words = (DECAY * self.usage[:, None] * self.words + (1.0 - DECAY) * total) / usage.clamp(min=1e-12)[:, None]
        words = torch.where(usage[:, None] > 0.0, words, self.words)
        words[0] = 0.0
        far = (raw - words[chosen]).square().sum(-1)
        dead = usage < DEAD
        dead[0] = False
        draws = torch.rand(int(dead.sum()), generator=torch.Generator().manual_seed(int(self.calls))).tolist()
        for word, draw in zip(dead.nonzero()[:, 0].tolist(), draws, strict=True):
            reached = far.cumsum(0)
            if not float(reached[-1]) > 0.0:
                break
            vector = raw[int(torch.searchsorted(reached, draw * reached[-1]).clamp(max=len(raw) - 1))]
            words[word], usage[word] = vector, 1.0
            far = torch.minimum(far, (raw - vector).square().sum(-1))
        self.words, self.usage, self.calls = words, usage, self.calls + 1.0


class VectorQuantiser(nn.Module):
    """`stages` codebooks, each for what the ones before leave; one digit of a code for each."""

    def __init__(self, stages: int = 1, size: int = 512, width: int = 64) -> None:
        super().__init__()
        self.codebooks = nn.ModuleList(Codebook(size, width) for _ in range(stages))
        self.width = width
        self.splits = self.books = (size,) * stages
        self.null = (0,) * stages

    def quantise(self, raw: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The code of each vector, values in [-1, 1]; the gradient passes straight through."""
        bounded = torch.tanh(raw)
        return bounded + (self.codes_of(self._digits(bounded)) - bounded).detach()

    def digits(self, raw: Float[Tensor, "*B D"]) -> Int[Tensor, "*B G"]:
        """Which word of each codebook the vector's code is made of."""
        return self._digits(torch.tanh(raw))

    def codes_of(self, digits: Int[Tensor, "*B G"]) -> Float[Tensor, "*B D"]:
        """The sum of these words."""
        codes = [book.words[digit] for book, digit in zip(self._books, digits.unbind(-1), strict=True)]
        return list(accumulate(codes))[-1]

    def words(self, digits: Int[Tensor, "*B G"]) -> Int[Tensor, "*B G"]:
        """The digits themselves: one word of each codebook."""
        return digits

    def likeliest(self, logits: Float[Tensor, "*B S"]) -> Float[Tensor, "*B D"]:
        """The code of the likeliest words; its gradient is that of the expected code."""
        parts = logits.split(self.splits, dim=-1)
        hard = self.codes_of(torch.stack([part.argmax(-1) for part in parts], dim=-1))
        if not torch.is_grad_enabled():
            return hard
        expected = [part.softmax(-1) @ book.words for book, part in zip(self._books, parts, strict=True)]
        soft = list(accumulate(expected))[-1]
        return soft + (hard - soft).detach()

    def learn(self, raw: Float[Tensor, "*B D"], told: Bool[Tensor, "*B"]) -> Float[Tensor, ""]:
        """How far the vectors are from their codes, after each stage; moves the words. Only vectors of `told` count."""
        left = torch.tanh(raw[told])
        loss = raw.new_zeros(())
        for book in self._books:
            before = left
            left = before - book.words[book.nearest(before)]
            if len(left):
                loss = loss + COMMITMENT * left.square().mean() / len(self.splits)
            book.learn(before.detach())
        return loss

    @property
    def _books(self) -> list[Codebook]:
        return list(self.codebooks)  # type: ignore[arg-type]  # a ModuleList says Module of its parts

    def _digits(self, bounded: Float[Tensor, "*B D"]) -> Int[Tensor, "*B G"]:
        digits, left = [], bounded
        for book in self._books:
            digits.append(book.nearest(left))
            left = left - book.words[digits[-1]]
        return torch.stack(digits, dim=-1)
