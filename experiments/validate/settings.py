"""What `wmplan validate` is asked, and what each of its processes is told."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from wmplan.errors import InputError
from wmplan.validation.controllability import Sweep
from wmplan.validation.memorisation import Bank

LAYERS = ("L1", "L2", "L3", "L4", "diagnostics")
IRRELEVANT = ("out", "workers", "record", "page", "cache", "results")
"""Fields that cannot change a result."""


@dataclass(frozen=True)
class ValidateCommand:
    """Which model, on which scenes, by which layers."""

    model: str = "nano"
    """A shipped checkpoint, a folder that wmplan train wrote, or a baseline."""
    store: str = ""
    """A store with scenes that the model was not trained on; empty = the simulator's."""
    source: str = "simulator:n=200,seed=5000"
    """Simulated logs to validate on where no store is given."""
    layers: tuple[str, ...] = LAYERS
    """Some of L1, L2, L3, L4, diagnostics."""
    out: str = ""
    """Folder of the results; empty = runs/validate-<digest>."""
    split: str = "val"
    """Scenes of a store that count: train, val, or empty for all."""
    scenes: int = 0
    """At most so many scenes of a store, a fixed random choice; 0 = all."""
    stride_s: float = 3.0
    """Seconds between the scenes of a simulated log; groups of logs are what is drawn again, never single scenes."""
    samples: int = 2
    """Imagined futures of each plan."""
    fit_scenes: int = 48
    """Scenes of the training side for what is fitted: the temperature, and the range of commands that is swept."""
    still_share: float = 0.25
    """Share of the scenes without anybody who reacts in which L4 is measured all the same, for spurious effects."""
    long_scenes: int = 0
    """Simulated scenes that are imagined for 45 s, the model's own frames as its history; 0 = none."""
    seed: int = 0
    """Seed of the noise and of every interval."""
    workers: int = 2
    """Processes."""
    cache: str = "runs/cache"
    """Folder of compiled programs; empty = compile anew."""
    record: bool = False
    """Whether to write what was cleared beside the checkpoint, where a study's report looks for it."""
    results: str = ""
    """Folder that gets the figures that were promised, e.g. docs/results; empty = none."""
    page: bool = True
    """Whether to write the page and its plots."""

    def check(self) -> None:
        """Raises InputError for what cannot be."""
        for layer in self.layers:
            if layer not in LAYERS:
                raise InputError(f"validate: layers holds {layer!r}, expected some of {', '.join(LAYERS)}")
        if not self.layers:
            raise InputError(f"validate: layers is empty, expected some of {', '.join(LAYERS)}")
        if self.split not in ("", "train", "val"):
            raise InputError(f"validate: split is {self.split!r}, expected train, val or nothing")
        for name, least in (("samples", 1), ("workers", 1), ("scenes", 0), ("fit_scenes", 1), ("long_scenes", 0)):
            if getattr(self, name) < least:
                raise InputError(f"validate: {name} is {getattr(self, name)}, expected at least {least}")
        if not 0.0 <= self.still_share <= 1.0:
            raise InputError(f"validate: still_share is {self.still_share}, expected 0 to 1")
        if not 0.5 <= self.stride_s < float("inf"):
            raise InputError(f"validate: stride_s is {self.stride_s}, expected at least 0.5")

    def digest(self, model: str, data: str) -> str:
        """Names what is measured: the fields that matter, the model's digest, the data's."""
        relevant = {name: value for name, value in asdict(self).items() if name not in (*IRRELEVANT, "model")}
        text = json.dumps([relevant, model, data], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Settings:
    """What every process is told; picklable. `model` is the spec of the one that is validated. `temperatures`,
    `sweep` and `bank` come from training scenes; while those are looked at they are not there."""

    command: ValidateCommand
    model: str
    temperatures: tuple[tuple[str, float], ...] = ()
    sweep: Sweep | None = None
    bank: Bank | None = None
