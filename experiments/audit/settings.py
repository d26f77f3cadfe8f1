"""What `wmplan audit` is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from critics.weights import CostWeights
from experiments.logs import LogsConfig
from wmplan.errors import InputError

IRRELEVANT = (
    "out", "cache", "workers", "memory_mib", "overwrite", "record", "page", "pictures", "weights", "resamples", "logs",
    "model", "tracking_uri", "experiment", "mlflow",
)  # fmt: skip
"""Fields that change no candidate, no term and no outcome: weights and intervals are applied afterwards. Logs and model
count by their content."""


@dataclass(frozen=True)
class AuditCommand:
    """Which critics of which model, on which scenes, on how many candidates."""

    logs: LogsConfig = field(default_factory=LogsConfig)
    model: str = "nano"
    """World model: a shipped checkpoint, a folder that `wmplan train` wrote, or a baseline (without a support)."""
    candidates: int = 64
    """Candidates of each scene's frozen pool."""
    samples: int = 2
    """Imagined futures per candidate."""
    drivers: Literal["logged", "twin"] = "logged"
    """Who drives on the road that tells the truth: drivers as in the logs, or the twin with wrong parameters."""
    placebos: bool = True
    """Whether the placebos are imagined and judged too; what is imagined of a scene must then fit into memory_mib."""
    horizon_s: float = 3.0
    """Length of plans and of imagination in seconds, a multiple of 0.5."""
    scenes: int = 0
    """At most so many scenes, a fixed random choice; 0 = all."""
    weights: CostWeights = field(default_factory=CostWeights)
    seed: int = 0
    """Seed of the pools, the imagination, the placebos and every interval."""
    resamples: int = 1000
    """Bootstrap resamples over groups of scenes, for 95 % intervals."""
    workers: int = 2
    """Single-threaded processes; results do not depend on their number."""
    memory_mib: int = 512
    """Most memory that imagination may take in each worker, MiB; results do not depend on it."""
    out: str = ""
    """Folder of the results; empty = runs/audit-<digest of everything that shapes pools, terms and outcomes>."""
    cache: str = "runs/cache"
    """Folder of ingested logs and compiled programs."""
    tracking_uri: str = ""
    """MLflow server or store; empty = SQLite file inside the results folder."""
    experiment: str = "wmplan"
    """MLflow experiment."""
    mlflow: bool = True
    """Whether the audit is logged to MLflow."""
    overwrite: bool = False
    """Delete another audit's results where `out` holds them."""
    record: bool = False
    """Whether to write the figures with their goals to docs/results/6.json."""
    page: bool = True
    """Whether to write the page."""
    pictures: int = 12
    """Scenes of the review queue that are drawn on the page."""

    def check(self) -> None:
        """Raises InputError for what cannot be."""
        for name, least in (("candidates", 16), ("samples", 2), ("workers", 1), ("scenes", 0), ("resamples", 100)):
            if getattr(self, name) < least:
                raise InputError(f"audit: {name} is {getattr(self, name)}, expected at least {least}")
        if not 0.5 <= self.horizon_s <= 8.0 or (2.0 * self.horizon_s) % 1.0:
            raise InputError(f"audit: horizon_s is {self.horizon_s}, expected a multiple of 0.5 between 0.5 and 8")
        if self.pictures < 0:
            raise InputError(f"audit: pictures is {self.pictures}, expected at least 0")
