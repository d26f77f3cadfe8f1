"""What `wmplan ope` is asked, and what each of its processes is told."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from experiments.ope.closed_loop import COLUMNS
from experiments.processes import Executor
from wmplan.errors import InputError

BESIDE = ("cv", "persistence", "random-init", "log-replay", "open-loop")
"""Cheap critics to beat."""
ORACLE = "oracle"
"""The road itself as the world model: the ceiling, which shows what reading a policy's world from occupancy costs."""
IRRELEVANT = (
    "out", "truth", "workers", "executor", "ray_address", "cache", "tracking_uri", "experiment", "mlflow", "page",
    "executed", "record", "label", "results", "overwrite",
)  # fmt: skip
"""Fields that change no drive: `executed` only chooses what is done with the truth when all is joined."""


LEAST_EXECUTED = 3
"""Executed scenes, and scenes that are not, from which there is a prediction-powered interval."""


@dataclass(frozen=True)
class OpeCommand:
    """Which policies, on which scenes, by which estimators, against which road."""

    policies: tuple[str, ...] = ("all",)
    """Names of policies; all = graded + held; graded = the simulator's, held = IDM drivers that decide as the logged
    mixture does; `module:name` = one of your own, an object or a function that makes it."""
    logs: str = "simulator:n=200,seed=7000,behaviour=mixture"
    """Where the scenes come from: simulated logs; highway-env (highway:n=60,seed=0,kind=mixed), which then is the road,
    too; or the folder of a store, whose scenes become roads. Logs with propensities: a store that
    `wmplan simulate` wrote, or simulator:n=..,seed=..,behaviour=mixture."""
    models: tuple[str, ...] = ("nano",)
    """World models that policies are driven in: shipped ones, folders that wmplan train wrote. Differences are to the
    first."""
    beside: tuple[str, ...] = BESIDE
    """Cheap critics beside them: cv and persistence as world models, random-init (the first model's network untrained),
    log-replay (others do as logged and do not react; it uses the true future), open-loop (distance of the policy's plan
    from the log). Also oracle, the road itself as the world model: the ceiling."""
    road: Literal["original", "twin"] = "original"
    """Drivers on the road that truth comes from: as in the logs, or the twin with wrong parameters."""
    draws: int = 2
    """Drives of each policy from each scene, on each side."""
    scores: tuple[str, ...] = ("pdms", "nuplan_score", "progress_m")
    """Returns that are estimated: columns of the judge."""
    horizon_s: float = 3.0
    """Length of the drives, seconds; what happens within 8 s stands beside it."""
    stride_s: float = 3.0
    """Seconds between the scenes of a simulated log; one a log where it has propensities."""
    split: str = ""
    """Scenes of a store that count: train, val, or empty for all. Groups that a model was trained on never do."""
    scenes: int = 0
    """At most so many scenes, a fixed random choice; 0 = all."""
    seed: int = 0
    """Seed of draws, noise and intervals."""
    executed: int = 0
    """So many scenes, drawn by seed, whose truth is given to the estimators: returns by prediction-powered inference
    stand beside those of the executed scenes alone. 0 = none."""
    timeout_s: float = 120.0
    """Seconds that a policy of your own may take to drive a few steps on trial."""
    truth: str = ""
    """Folder of an earlier run whose truth is taken; it has to be of the same scenes and policies."""
    out: str = ""
    """Folder of the results; empty = runs/ope-<digest>."""
    workers: int = 2
    """Single-threaded processes; results do not depend on their number."""
    executor: Literal["processes", "ray"] = "processes"
    """What carries the work out: `processes` of this machine, or the workers of a Ray cluster."""
    ray_address: str = ""
    """Address of a running Ray cluster; empty = one that is started here."""
    cache: str = "runs/cache"
    """Folder of compiled programs; empty = compile anew."""
    tracking_uri: str = ""
    """MLflow server or store; empty = SQLite file inside the results folder."""
    experiment: str = "wmplan"
    """MLflow experiment."""
    mlflow: bool = True
    """Whether the run is logged to MLflow."""
    page: bool = True
    """Whether the HTML page is written."""
    record: bool = False
    """Whether the figures go into the results of the issue."""
    label: str = ""
    """Put into the recorded figures' names, to tell logs or roads apart."""
    results: str = "docs/results"
    """Folder of recorded figures."""
    overwrite: bool = False
    """Delete another run's results where `out` holds them."""

    @property
    def carried_out_by(self) -> Executor:
        """What carries the work out."""
        return Executor(self.executor, self.ray_address)

    def check(self) -> None:
        """Raises InputError for what cannot be."""
        for field, names, known in (("beside", self.beside, (*BESIDE, ORACLE)), ("scores", self.scores, COLUMNS)):
            for name in names:
                if name not in known:
                    raise InputError(f"ope: {field} holds {name!r}, expected some of {', '.join(known)}")
            if len(set(names)) != len(names):
                raise InputError(f"ope: {field} is {list(names)}, expected each name once")
        if not self.policies or not self.models or not self.scores:
            raise InputError("ope: policies, models or scores is empty, expected one name or more of each")
        for name, least in (("draws", 1), ("workers", 1), ("scenes", 0), ("executed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"ope: {name} is {getattr(self, name)}, expected at least {least}")
        if not 0.5 <= self.horizon_s <= 8.0 or (2.0 * self.horizon_s) % 1.0:
            raise InputError(f"ope: horizon_s is {self.horizon_s}, expected a multiple of 0.5 between 0.5 and 8")
        if not 0.5 <= self.stride_s < float("inf"):
            raise InputError(f"ope: stride_s is {self.stride_s}, expected at least 0.5")
        if self.logs.startswith("highway") and (self.road != "original" or ORACLE in self.beside):
            raise InputError("ope: road=twin and beside=[oracle] are the simulator's, expected neither on highway-env")
        if self.split not in ("", "train", "val"):
            raise InputError(f"ope: split is {self.split!r}, expected train, val or nothing")

    def check_executed(self, scenes: int) -> None:
        """Raises InputError where so many scenes are too few for those that are to be executed."""
        least = LEAST_EXECUTED
        if self.executed and not least <= self.executed <= scenes - least:
            raise InputError(f"ope: executed is {self.executed}, expected 0 or {least} to {scenes - least} of {scenes}")

    def digest(self, models: dict[str, str], data: str, code: str) -> str:
        """Names what is estimated: the fields that matter, digests of models, data and code."""
        relevant = {name: value for name, value in asdict(self).items() if name not in (*IRRELEVANT, "models")}
        text = json.dumps([relevant, models, data, code], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Listed:
    """One scene: its id, the group that it shares traffic with, and the store's scene or the number of the simulated
    log that it is found in."""

    scene_id: str
    group: str
    item: str


@dataclass(frozen=True)
class Settings:
    """What every process is told; picklable. `specs` names each model and what `load_model` takes for it. `policies`
    are those that passed their trial."""

    command: OpeCommand
    specs: tuple[tuple[str, str], ...]
    policies: tuple[str, ...]
    scenes: tuple[Listed, ...]
    out: Path

    def scene(self, scene_id: str) -> Listed:
        """The scene of this id."""
        return next(one for one in self.scenes if one.scene_id == scene_id)
