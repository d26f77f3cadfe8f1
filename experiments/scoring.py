"""Terms of candidates: from the rollout cache where they are known, imagined and judged by the critics where not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int
from numpy import ndarray

from critics.composite import Composite
from rollout_cache import Compute, KeyParts, NoCache, TermsCache, evaluate_cached, term_keys
from wmplan.contracts import Context, Imagined, SceneRaster, Terms, WorldModel
from wmplan.errors import InputError
from wmplan.models.prefixes import prefix_order
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank, fold_in
from wmplan.raster import STRIDE, rasterize
from wmplan.scene import Scene

PASS_BYTES = 64 * 2**20
"""What a model needs for one pass, whatever is asked; measured 45 MiB for the largest preset."""
AROUND = 2.0
"""What is held for a candidate, in sizes of its imagined arrays: rollouts in flight and the critics' working arrays are
the rest; measured 1.4 to 1.6."""


@dataclass
class Count:
    """What a decision asked of the imagination. Steps are rollout steps: candidate x sample x 0.5 s."""

    imagined: int = 0
    """Candidates whose futures were imagined."""
    cached: int = 0
    """Candidates whose terms were found in the rollout cache."""
    steps_asked: int = 0
    """Steps of all candidates that were asked for, at all samples."""
    steps_imagined: int = 0
    """Steps that were computed: not those in the cache, and those that candidates share once."""


@dataclass(frozen=True)
class Scorer:
    """Scores candidates of any scene with one world model and one set of critics.

    `memory` bounds the bytes that imagination holds at once; scores do not depend on it. `racing` says whether the
    rounds of an optimizer may be raced (`experiments.racing`).
    """

    model: WorldModel
    composite: Composite
    cache: TermsCache | NoCache
    seed: int
    samples: int
    memory: int
    racing: bool

    def scene(self, scene: Scene) -> SceneScorer:
        """Scores candidates of this scene. All planners of a scene share noise: common random numbers."""
        raster = rasterize(scene, self.model.grid)
        return SceneScorer(self, raster, NoiseBank(fold_in(self.seed, scene.scene_id, "imagine"), self.samples))


@dataclass
class SceneScorer:
    """One scene's candidates to terms. The scene is encoded when the first unknown candidate comes."""

    scorer: Scorer
    raster: SceneRaster
    noise: NoiseBank
    count: Count = field(default_factory=Count)
    _context: Context | None = None

    @property
    def context(self) -> Context:
        """The encoded scene."""
        if self._context is None:
            with torch.inference_mode():
                self._context = self.scorer.model.encode(self.raster)
        return self._context

    def terms(self, plans: Plans) -> Terms:
        """Terms of each candidate; NaN in every column of one whose states are not finite (nothing can be imagined).

        Raises:
            InputError: a single candidate needs more memory than the budget.
        """
        composite, samples = self.scorer.composite, self.noise.samples
        rows = np.flatnonzero(finite(plans))
        known = plans.select(rows)
        self.count.steps_asked += len(rows) * samples * self.scorer.model.horizon

        def compute(which: Int[ndarray, "_J"]) -> Float32[ndarray, "_J _N"]:
            asked = known.select(which)
            self.count.imagined += len(asked)
            self.count.cached -= len(asked)
            values = np.empty((len(asked), len(composite.columns)), dtype=np.float32)
            for part in self.parts(asked, samples):
                chosen = asked.select(part)
                # Without a name for the futures: they are gone before the next part's are imagined.
                values[part] = composite.terms(self.context, chosen, self.imagine(chosen, self.noise)).values
            return values

        values = np.full((len(plans), len(composite.columns)), np.nan, dtype=np.float32)
        values[rows] = self.remembered(known, composite, samples, compute)
        self.count.cached += len(rows)
        return Terms(composite.columns, values)

    def remembered(self, plans: Plans, composite: Composite, samples: int, compute: Compute) -> Float32[ndarray, "K N"]:
        """The composite's terms of these candidates at so many samples; `compute` gives those that the cache lacks."""
        keys = self.keys(plans, composite, samples)
        return evaluate_cached(self.scorer.cache, keys, len(composite.columns), compute)

    def keys(self, plans: Plans, composite: Composite, samples: int) -> list[bytes]:
        """Where the cache keeps the terms of these candidates."""
        model = self.scorer.model
        parts = KeyParts(
            model=model.digest,
            critic=composite.terms_digest,
            raster=self.raster.digest,
            noise_seed=self.noise.seed,
            samples=samples,
            horizon=model.horizon,
        )
        return term_keys(parts, plans)

    def parts(self, plans: Plans, samples: int, held: int = 0) -> Iterator[Int[ndarray, "_J"]]:
        """Which candidates to imagine together, those that share prefixes side by side: within the memory budget, of
        which `held` bytes are taken."""
        size = rows_within(self.scorer.memory - held, self.scorer.model, samples)
        order = prefix_order(plans.states[:, : self.scorer.model.horizon * STRIDE + 1 : STRIDE])
        for first in range(0, len(order), size):
            yield np.sort(order[first : first + size])

    def imagine(self, plans: Plans, noise: NoiseBank) -> Imagined:
        """Their futures, counted."""
        with torch.inference_mode():
            imagined = self.scorer.model.imagine(self.context, plans, noise)
        all_steps = len(plans) * noise.samples * self.scorer.model.horizon
        self.count.steps_imagined += all_steps if imagined.steps is None else imagined.steps
        return imagined


def rows_within(memory: int, model: WorldModel, samples: int) -> int:
    """Candidates that can be imagined and judged at once within so many bytes.

    Raises:
        InputError: not even one.
    """
    one = int(AROUND * row_bytes(model, samples))
    if memory < PASS_BYTES + one:
        raise InputError(
            f"memory for imagination is {memory / 2**20:.0f} MiB, expected at least "
            f"{(PASS_BYTES + one) / 2**20:.0f} MiB for one candidate of {samples} samples x {model.horizon} steps"
        )
    return (memory - PASS_BYTES) // one


def row_bytes(model: WorldModel, samples: int) -> int:
    """Bytes of one candidate's imagined arrays: occupancy and velocity; latents are few beside them."""
    return samples * model.horizon * 4 * model.grid.rows * model.grid.cols * 4


def finite(plans: Plans) -> Bool[ndarray, "K"]:
    """Which candidates have finite controls and states."""
    return np.isfinite(plans.controls).all(axis=(1, 2)) & np.isfinite(plans.states).all(axis=(1, 2))
