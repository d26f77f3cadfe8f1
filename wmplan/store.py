"""The canonical store: scenes in Arrow/Parquet, their maps once a log, a manifest that says where all came from.

A store is a folder: `manifest.json`, `scenes/*.parquet`, `maps/*.parquet`, and `sealed/*.parquet`, which only
`wmplan.sealed` opens. `wmplan.columns` documents every column. A store is immutable: it appears whole or not at all.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wmplan.columns import INDEX, SCHEMA_VERSION, Row, map_of, scene_of
from wmplan.errors import InputError
from wmplan.randomness import fold_in
from wmplan.scene import RoadMap, Scene
from wmplan.shelf import Part, Shelf

MANIFEST = "manifest.json"
MAPS_CACHED = 8
"""Decoded maps that an open store keeps."""


@dataclass(frozen=True)
class SourceFile:
    """A file that was read: name below the source, digest of its bytes, what came out of it."""

    file: str
    reader: str
    sha256: str
    logs: int
    scenes: int


@dataclass(frozen=True)
class Failure:
    """A file, or a log of it, that gave nothing, and why, in one line."""

    file: str
    message: str


@dataclass(frozen=True)
class Manifest:
    """Where a store came from and what is in it.

    `digest` identifies the content of scenes and maps, `sealed_digest` that of the futures, whatever files they are in.
    `config` is the configuration of the ingest, by field name. `parts` has the files by folder.
    """

    schema_version: int
    wmplan_version: str
    digest: str
    sealed_digest: str
    config: dict[str, Any]
    counts: dict[str, int]
    sources: tuple[SourceFile, ...]
    failures: tuple[Failure, ...]
    parts: dict[str, tuple[Part, ...]]

    @staticmethod
    def read(store: Path) -> Manifest:
        """The manifest of a store.

        Raises:
            InputError: there is none, it is damaged, or of another version.
        """
        path = store / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{store}: no {MANIFEST}, expected a store made by `wmplan ingest`") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: unreadable ({error}), expected JSON: ingest again") from error
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(f"{path}: schema_version is {version!r}, expected {SCHEMA_VERSION}: ingest again")
        try:
            content["sources"] = tuple(SourceFile(**item) for item in content["sources"])
            content["failures"] = tuple(Failure(**item) for item in content["failures"])
            content["parts"] = {
                name: tuple(Part(**part) for part in content["parts"][name]) for name in ("scenes", "maps", "sealed")
            }
            return Manifest(**content)
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: {error}, expected the fields of wmplan.store.Manifest: ingest again") from error


def split_of(group: str, val_fraction: float) -> str:
    """`train` or `val`, from the name of the group alone: the same in every store that holds the group."""
    return "val" if fold_in(0, "split", group) < val_fraction * 2.0**63 else "train"


class SceneStore:
    """An open store. Fetches one scene, or streams all; never holds more than a few.

    Example:
        store = SceneStore.open("runs/womd")
        scene = store.scene(store.scene_ids[0])
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._scenes = Shelf(path, manifest.parts["scenes"], "scene_id")
        self._maps = Shelf(path, manifest.parts["maps"], "log_id")
        self._decoded: OrderedDict[str, RoadMap] = OrderedDict()

    @staticmethod
    def open(path: str | Path) -> SceneStore:
        """The store in this folder.

        Raises:
            InputError: it is no store, of another version, or files are missing or cut short.
        """
        folder = Path(path)
        return SceneStore(folder, Manifest.read(folder))

    @property
    def digest(self) -> str:
        """Identifies the content of scenes and maps."""
        return self.manifest.digest

    @property
    def scene_ids(self) -> tuple[str, ...]:
        """Every scene, in the order of the store."""
        return self._scenes.keys

    def __len__(self) -> int:
        return len(self._scenes.keys)

    def scene(self, scene_id: str) -> Scene:
        """One scene.

        Raises:
            InputError: there is none of that id, or its file is damaged.
        """
        if scene_id not in self._scenes:
            raise InputError(f"{self.path}: no scene {scene_id!r}, expected one of its {len(self)} scene_ids")
        return self._decode(self._scenes.row(scene_id))

    def scenes(self) -> Iterator[Scene]:
        """All scenes, in order, streamed."""
        return (self._decode(row) for row in self._scenes.rows())

    def index(self) -> pd.DataFrame:
        """One row a scene: id, log, group, dataset, split, ego, and the rest of `wmplan.columns.INDEX`."""
        return self._scenes.columns([field.name for field in INDEX]).to_pandas()

    def verify(self) -> None:
        """Read every file of scenes and maps and compare it with its digest.

        Raises:
            InputError: one changed since it was written.
        """
        self._scenes.verify()
        self._maps.verify()

    def _decode(self, row: Row) -> Scene:
        return scene_of(row, self._map(row["log_id"]))

    def _map(self, log_id: str) -> RoadMap:
        if log_id not in self._decoded:
            self._decoded[log_id] = map_of(self._maps.row(log_id))
            if len(self._decoded) > MAPS_CACHED:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(log_id)
        return self._decoded[log_id]
