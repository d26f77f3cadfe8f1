"""Where the scenes of a validation come from: a store's unseen scenes, or logs that the simulator makes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.logs import code_digest
from wmplan.errors import InputError
from wmplan.randomness import fold_in
from wmplan.scene import Future, Scene
from wmplan.sealed import SealedFutures
from wmplan.store import SceneStore
from wmplan.windows import WindowConfig, cut

LEAST_SCENES = 30
"""Fewer scenes say nothing of a model."""
TOGETHER = 8
"""Logs or scenes in one task: the simulator makes logs by the chunk, so neighbours belong together."""
MEASURE, FIT, LONG = "scenes", "fit", "long"
"""Purposes of scenes: the layers, what is fitted, the long run."""


@dataclass(frozen=True)
class Scenes:
    """Scenes by task. A task's name says what it is: `<purpose>/<first>-<last>` of the items. `digest` identifies the
    data, `words` name it."""

    purpose: str
    items: tuple[str, ...]
    digest: str
    words: str

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(f"{self.purpose}/{i}" for i in range(0, len(self.items), TOGETHER))

    def of(self, task: str) -> tuple[str, ...]:
        """The items of a task."""
        first = int(task.rpartition("/")[2])
        return self.items[first : first + TOGETHER]


def of_store(path: Path, split: str, most: int, seen: frozenset[str], purpose: str = MEASURE) -> Scenes:
    """Scenes of a split whose group the model was not trained on, at most so many (0: all).

    Raises:
        InputError: fewer than `LEAST_SCENES` of them.
    """
    store = SceneStore.open(path)
    index = store.index()
    chosen = index if not split else index[index["split"] == split]
    unseen = chosen[~chosen["group"].isin(seen)]
    if len(unseen) < LEAST_SCENES:
        trained = len(chosen) - len(unseen)
        raise InputError(
            f"{path}: {len(unseen)} scenes of split {split or 'any'!r} ({trained} more were trained on), "
            f"expected at least {LEAST_SCENES} to validate on"
        )
    return Scenes(purpose, some(unseen["scene_id"].tolist(), most), store.digest, f"{path.name}, {split or 'all'}")


def to_fit_on(path: Path, most: int) -> Scenes:
    """Scenes of a store's training side, for what is fitted.

    Raises:
        InputError: there are none.
    """
    index = SceneStore.open(path).index()
    found = index.loc[index["split"] == "train", "scene_id"].tolist()
    if not found:
        raise InputError(f"{path}: no scenes of split 'train', expected some to fit the temperature and the sweep on")
    return Scenes(FIT, some(found, most), "", "")


def of_source(source: str, stride_s: float, seen: frozenset[str], purpose: str = MEASURE) -> Scenes:
    """Simulated logs whose group the model was not trained on.

    Raises:
        InputError: no such source, or fewer scenes than `LEAST_SCENES`.
    """
    from wmplan.simulator.recording import LOG_STEPS, LOGS_PER_MAP
    from wmplan.simulator.source import PREFIX, Source

    if not source.startswith(PREFIX.rstrip(":")):
        raise InputError(f"validate: source is {source!r}, expected simulator:n=N,seed=S (or store=)")
    wanted = Source.parse(source)
    logs = [i for i in range(wanted.n) if f"sim-{wanted.map}-{wanted.seed}-map{i // LOGS_PER_MAP}" not in seen]
    each = 1 + int((0.1 * LOG_STEPS - 5.0) / stride_s)
    if each * len(logs) < LEAST_SCENES:
        raise InputError(
            f"{source}: {len(logs)} logs that the model was not trained on, at most {each} scenes each, "
            f"expected at least {LEAST_SCENES} scenes to validate on"
        )
    key = f"{replace(wanted, n=0)}/{len(logs)}/{stride_s}/{code_digest()}"
    return Scenes(purpose, tuple(map(str, logs)), hashlib.blake2b(key.encode(), digest_size=16).hexdigest(), source)


def beside(source: str, most: int, stride_s: float) -> tuple[Scenes, str]:
    """Logs of another seed of the same simulator, for what is fitted, and their source."""
    from wmplan.simulator.source import Source

    wanted = Source.parse(source)
    logs = max(1, -(-most * round(stride_s) // 7))
    how = f"simulator:n={logs},seed={wanted.seed + 1},map={wanted.map},behaviour={wanted.behaviour}"
    return Scenes(FIT, tuple(map(str, range(logs))), "", ""), how


class Loader:
    """Gives scenes with their futures, one item after another."""

    def __init__(self, store: str, source: str, stride_s: float) -> None:
        self.source, self.windows = source, WindowConfig(stride_s=stride_s)
        self.store = (SceneStore.open(store), SealedFutures.open(store)) if store else None

    def scenes(self, item: str) -> Iterator[tuple[Scene, Future]]:
        """A store's scene of this id, or the scenes of the simulated log of this number."""
        if self.store is not None:
            yield self.store[0].scene(item), self.store[1].future(item)
            return
        from wmplan.simulator.reader import log
        from wmplan.simulator.source import Source

        yield from cut(log(Source.parse(self.source), int(item)), self.windows)


def some(names: list[str], most: int) -> tuple[str, ...]:
    """At most so many of them, a fixed random choice, in the given order."""
    if not most or most >= len(names):
        return tuple(names)
    kept = set(sorted(names, key=lambda name: fold_in(0, "chosen for validation", name))[:most])
    return tuple(name for name in names if name in kept)
