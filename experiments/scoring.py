"""Terms of candidates: from the rollout cache where they are known, imagined and judged by the critics where not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float32
from numpy import ndarray

from critics.composite import Composite
from rollout_cache import KeyParts, NoCache, TermsCache, evaluate_cached, term_keys
from wmplan.contracts import Context, SceneRaster, Terms, WorldModel
from wmplan.plans import Plans
from wmplan.randomness import NoiseBank, fold_in
from wmplan.raster import rasterize
from wmplan.scene import Scene

CHUNK_BYTES = 128 * 2**20
"""Size of the imagined arrays of one chunk; what the model needs besides is a small multiple."""


@dataclass
class Count:
    """How many candidates were imagined and how many were found in the cache."""

    imagined: int = 0
    cached: int = 0


@dataclass(frozen=True)
class Scorer:
    """Scores candidates of any scene with one world model and one set of critics."""

    model: WorldModel
    composite: Composite
    cache: TermsCache | NoCache
    seed: int
    samples: int

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

    def terms(self, plans: Plans) -> Terms:
        """Terms of each candidate; NaN in every column of one whose states are not finite (nothing can be imagined)."""
        columns = self.scorer.composite.columns
        values = np.full((len(plans), len(columns)), np.nan, dtype=np.float32)
        rows = np.flatnonzero(finite(plans))
        if len(rows):
            known = plans.select(rows)
            imagined = self.count.imagined
            values[rows] = evaluate_cached(
                self.scorer.cache, self._keys(known), len(columns), lambda which: self._imagine(known.select(which))
            )
            self.count.cached += len(rows) - (self.count.imagined - imagined)
        return Terms(columns, values)

    def _keys(self, plans: Plans) -> list[bytes]:
        scorer = self.scorer
        parts = KeyParts(
            model=scorer.model.digest,
            critic=scorer.composite.terms_digest,
            raster=self.raster.digest,
            noise_seed=self.noise.seed,
            samples=self.noise.samples,
            horizon=scorer.model.horizon,
        )
        return term_keys(parts, plans)

    def _imagine(self, plans: Plans) -> Float32[ndarray, "K N"]:
        """Terms by imagination, in chunks that fit in memory."""
        model, composite = self.scorer.model, self.scorer.composite
        self.count.imagined += len(plans)
        parts = []
        with torch.inference_mode():
            if self._context is None:
                self._context = model.encode(self.raster)
            size = chunk_rows(model, self.noise.samples)
            for first in range(0, len(plans), size):
                chunk = plans.select(slice(first, first + size))
                imagined = model.imagine(self._context, chunk, self.noise)
                parts.append(composite.terms(self._context, chunk, imagined).values)
        return np.concatenate(parts)


def chunk_rows(model: WorldModel, samples: int) -> int:
    """Candidates imagined at once, so that their arrays stay within `CHUNK_BYTES`."""
    row = samples * model.horizon * 4 * model.grid.rows * model.grid.cols * 4
    return int(np.clip(CHUNK_BYTES // row, 1, 64))


def finite(plans: Plans) -> Bool[ndarray, "K"]:
    """Which candidates have finite controls and states."""
    return np.isfinite(plans.controls).all(axis=(1, 2)) & np.isfinite(plans.states).all(axis=(1, 2))
