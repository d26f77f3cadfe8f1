"""Terms of candidates: from the rollout cache where they are known, imagined and judged by the critics where not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from critics.composite import Composite
from rollout_cache import TermsCache
from wmplan.contracts import IMAGINED_STEP_S, Context, SceneRaster, Terms, WorldModel
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
    cache: TermsCache | None
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
        drawable = finite(plans)
        keys = [self._key(plans, row) if ok else b"" for row, ok in enumerate(drawable)]
        known = self._known([key for key in keys if key])
        missing: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key and key not in known:
                missing.setdefault(key, row)
        if missing:
            known |= self._imagine(plans, missing)
        for row, key in enumerate(keys):
            if key:
                values[row] = known[key]
        self.count.imagined += len(missing)
        self.count.cached += int(drawable.sum()) - len(missing)
        return Terms(columns, values)

    def _key(self, plans: Plans, row: int) -> bytes:
        raise NotImplementedError

    def _known(self, keys: list[bytes]) -> dict[bytes, ndarray]:
        raise NotImplementedError

    def _imagine(self, plans: Plans, missing: dict[bytes, int]) -> dict[bytes, ndarray]:
        raise NotImplementedError


def chunk_rows(model: WorldModel, samples: int, steps: int) -> int:
    """Candidates imagined at once, so that their arrays stay within `CHUNK_BYTES`."""
    row = samples * steps * 4 * model.grid.rows * model.grid.cols * 4
    return int(np.clip(CHUNK_BYTES // row, 1, 64))


def finite(plans: Plans) -> Bool[ndarray, "K"]:
    """Which candidates have finite controls and states."""
    return np.isfinite(plans.controls).all(axis=(1, 2)) & np.isfinite(plans.states).all(axis=(1, 2))


def imagined_steps(horizon_s: float) -> int:
    """Steps of imagination that a horizon needs."""
    return round(horizon_s / IMAGINED_STEP_S)
