"""Writing a store: a stream of scenes in, a folder that appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import wmplan
from wmplan.columns import FUTURES, MAPS, SCENES, SCHEMA_VERSION, future_row, map_row, row_digest, scene_row
from wmplan.errors import InputError
from wmplan.scene import Future, Log, Scene
from wmplan.shelf import ShelfWriter
from wmplan.store import MANIFEST, Failure, Manifest, SourceFile, split_of

FOLDERS = {"scenes": SCENES, "maps": MAPS, "sealed": FUTURES}


class StoreWriter:
    """Writes a store to `<out>.partial`, and gives it its name when all is there; on an exception nothing stays.

    Memory does not grow with the number of scenes: a row group of scenes, one of maps, one of futures.

    Raises:
        InputError: `out` exists and `overwrite` is False, or is something else than a store.
    """

    def __init__(
        self, out: Path, map_radius_m: float, val_fraction: float, config: dict[str, Any], overwrite: bool = False
    ) -> None:
        if not 0 <= val_fraction < 1:
            raise InputError(f"val_fraction is {val_fraction}, expected at least 0 and below 1")
        if out.exists():
            if not overwrite:
                raise InputError(f"{out}: exists already, expected a new folder (or overwrite=true)")
            if not (out / MANIFEST).is_file():
                raise InputError(f"{out}: is not a store, expected one to overwrite (nothing was touched)")
        self._out = out
        self._partial = out.with_name(out.name + ".partial")
        self._map_radius_m = map_radius_m
        self._val_fraction = val_fraction
        self._config = config
        if self._partial.exists():  # left by a killed ingest
            shutil.rmtree(self._partial)
        self._shelves = {name: ShelfWriter(self._partial / name, schema) for name, schema in FOLDERS.items()}
        self._open, self._sealed = hashlib.sha256(), hashlib.sha256()
        self._logs: set[str] = set()
        self._groups: set[str] = set()
        self._counts: Counter[str] = Counter()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was written unless `finish` gave it its name."""
        if self._partial.exists():
            shutil.rmtree(self._partial)

    @property
    def scenes(self) -> int:
        """Scenes written so far."""
        return self._counts["scenes"]

    def add(self, log: Log, scene: Scene, future: Future) -> None:
        """Append a scene of `log` and its future; the map is written with the log's first scene."""
        if log.log_id not in self._logs:
            self._logs.add(log.log_id)
            self._groups.add(log.group)
            self._put("maps", map_row(log), self._open)
        split = split_of(scene.group, self._val_fraction)
        self._put("scenes", scene_row(scene, log, split, self._map_radius_m), self._open)
        self._put("sealed", future_row(future), self._sealed)
        self._counts.update(["scenes", split])

    def finish(self, sources: list[SourceFile], failures: list[Failure]) -> Manifest:
        """Close the files, write the manifest, and give the store its name."""
        parts = {name: tuple(shelf.close()) for name, shelf in self._shelves.items()}
        counts = {"files": len(sources), "failures": len(failures), "logs": len(self._logs)}
        counts |= {"groups": len(self._groups)} | {name: self._counts[name] for name in ("scenes", "train", "val")}
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            wmplan_version=wmplan.__version__,
            digest=self._open.hexdigest(),
            sealed_digest=self._sealed.hexdigest(),
            config={**self._config, "val_fraction": self._val_fraction},
            counts=counts,
            sources=tuple(sources),
            failures=tuple(failures),
            parts=parts,
        )
        (self._partial / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
        for path in (*self._partial.rglob("*"), self._partial):
            _fsync(path)
        aside = self._out.with_name(self._out.name + ".replaced")
        if self._out.exists():
            if aside.exists():
                shutil.rmtree(aside)
            os.replace(self._out, aside)
        os.replace(self._partial, self._out)
        if aside.exists():
            shutil.rmtree(aside)
        return manifest

    def _put(self, name: str, row: Any, digest: Any) -> None:
        digest.update(row_digest(row, FOLDERS[name]))
        self._shelves[name].add(row)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
