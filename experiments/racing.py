"""Racing: one imagined sample for all candidates, two for the better half, four for its better half, up to M.

All candidates share the samples' noise, so a half is judged on equal terms. What leaves the race has a cost at fewer
samples than the others: it is compared with nothing afterwards, and never chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float32, Int, Int32
from numpy import ndarray
from torch import Tensor

from critics.composite import Composite
from critics.vista import VistaCritic
from experiments.scoring import AROUND, PASS_BYTES, SceneScorer, finite, row_bytes
from wmplan.contracts import Imagined, Terms
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank
from wmplan.ranking import Verdict

LEAST = 8
"""Fewer candidates are not raced: a handful decides nothing by one sample."""


@dataclass(frozen=True)
class Raced:
    """Terms at all M samples of those that stayed in the race to its end, NaN for the others; and with how many samples
    each candidate was scored (0: its states are not finite)."""

    terms: Terms
    samples: Int32[ndarray, "K"]


def race(scorer: SceneScorer, plans: Plans) -> Raced:
    """The race of these candidates. A halving keeps the cheaper ones, refused ones last; ties keep their order.

    With a single sample the reward, which is a variance over samples, has no part in the cost.

    Raises:
        InputError: a single candidate needs more memory than the budget.
    """
    composite, full = scorer.scorer.composite, scorer.noise.samples
    alive = np.flatnonzero(finite(plans))
    reached = np.zeros(len(plans), dtype=np.int32)
    values = np.full((len(plans), len(composite.columns)), np.nan, dtype=np.float32)
    scorer.count.steps_asked += len(alive) * full * scorer.scorer.model.horizon
    field_ = _Field(scorer, plans, len(alive))
    samples = 1 if len(alive) >= LEAST else full
    while len(alive):
        judge = composite if samples > 1 else _single(composite)
        terms = field_.terms(alive, judge, samples)
        reached[alive] = samples
        if samples >= full:
            values[alive] = terms
            break
        judged = judge.judge(Terms(judge.columns, terms))
        order = np.lexsort((judged.total, judged.verdict == Verdict.REFUSED))
        alive = np.sort(alive[order[: (len(alive) + 1) // 2]])
        field_.forget(alive)
        samples = min(2 * samples, full)
    scorer.count.imagined += len(field_.imagined)
    scorer.count.cached += int((reached > 0).sum()) - len(field_.imagined)
    return Raced(Terms(composite.columns, values), reached)


@dataclass
class _Field:
    """The candidates of a race and what was imagined of those in it, so that a sample is imagined once.

    Kept futures take as much memory at every stage: half the candidates, twice the samples. Where the budget has no
    room for them, each stage imagines its samples again.
    """

    scorer: SceneScorer
    plans: Plans
    starters: int
    imagined: set[int] = field(default_factory=set)
    _kept: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def terms(self, rows: Int[ndarray, "J"], composite: Composite, samples: int) -> Float32[ndarray, "J N"]:
        """The composite's terms of these candidates at so many samples."""
        known = self.plans.select(rows)

        def compute(which: Int[ndarray, "_J"]) -> Float32[ndarray, "_J _N"]:
            asked = rows[which]
            self.imagined.update(asked.tolist())
            values = np.empty((len(asked), len(composite.columns)), dtype=np.float32)
            for part in self.scorer.parts(self.plans.select(asked), samples, self._held):
                chosen = self.plans.select(asked[part])
                values[part] = composite.terms(self.scorer.context, chosen, self._upto(asked[part], samples)).values
            return values

        return self.scorer.remembered(known, composite, samples, compute)

    def forget(self, alive: Int[ndarray, "J"]) -> None:
        """Lets go of the futures of all others."""
        staying = set(alive.tolist())
        self._kept = {row: kept for row, kept in self._kept.items() if row in staying}

    @property
    def _held(self) -> int:
        """Bytes set apart for kept futures: one sample of every starter, half as much again while they are extended;
        0 where that leaves no room to imagine with."""
        model, samples = self.scorer.scorer.model, self.scorer.noise.samples
        wanted = int(1.5 * self.starters * row_bytes(model, 1))
        room = self.scorer.scorer.memory - PASS_BYTES - int(AROUND * row_bytes(model, samples))
        return wanted if wanted <= room else 0

    def _upto(self, rows: Int[ndarray, "J"], samples: int) -> Imagined:
        """The first so many samples of these candidates."""
        have = np.array([len(self._kept[row][0]) if row in self._kept else 0 for row in rows.tolist()])
        parts: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        for first in np.unique(have).tolist():
            chosen = rows[have == first]
            noise = NoiseBank(self.scorer.noise.seed, samples - first, first)
            new = self.scorer.imagine(self.plans.select(chosen), noise)
            for i, row in enumerate(chosen.tolist()):
                own = (new.occupancy[i], new.velocity[i], new.latents[i])
                parts[row] = own if not first else tuple(map(torch.cat, zip(self._kept[row], own)))  # type: ignore
        occupancy, velocity, latents = (torch.stack(part) for part in zip(*(parts[row] for row in rows.tolist())))
        if self._held and samples < self.scorer.noise.samples:
            for i, row in enumerate(rows.tolist()):
                self._kept[row] = (occupancy[i].clone(), velocity[i].clone(), latents[i].clone())
        return Imagined(occupancy, velocity, latents, self.scorer.scorer.model.grid)


def _single(composite: Composite) -> Composite:
    """The composite without what needs two samples."""
    return Composite([critic for critic in composite.critics if critic.name != VistaCritic.name], composite.weights)
