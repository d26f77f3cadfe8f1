"""Sealed futures: what followed each scene of a store. Only the pass that compares with reality opens them.

A planning process calls `forbid` first of all, and can then no longer open these files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wmplan.columns import future_of
from wmplan.errors import InputError
from wmplan.landlock import Guards, forbid_reading
from wmplan.scene import Future
from wmplan.shelf import Shelf
from wmplan.store import Manifest

__all__ = ["Guards", "SealedFutures", "forbid"]


class SealedFutures:
    """The futures of a store, by scene or streamed in the store's order."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.digest = manifest.sealed_digest
        self._futures = Shelf(path, manifest.parts["sealed"], "scene_id")

    @staticmethod
    def open(path: str | Path) -> SealedFutures:
        """The sealed futures of the store in this folder.

        Raises:
            InputError: it is no store, of another version, or files are missing or cut short.
            PermissionError: this process was forbidden to.
        """
        folder = Path(path)
        return SealedFutures(folder, Manifest.read(folder))

    def future(self, scene_id: str) -> Future:
        """What followed this scene.

        Raises:
            InputError: there is none of that id, or its file is damaged.
        """
        if scene_id not in self._futures:
            raise InputError(f"{self.path}/sealed: no future of scene {scene_id!r}, expected one of the store's scenes")
        return future_of(self._futures.row(scene_id))

    def futures(self) -> Iterator[Future]:
        """All futures, in order, streamed."""
        return (future_of(row) for row in self._futures.rows())


def forbid(store_path: str | Path) -> Guards:
    """Which guards now keep this process, and those it starts, from opening the sealed files of the store.

    Call it first of all in a planning process: threads that are running already are not covered by the kernel's guard.
    See `wmplan.landlock.forbid_reading` for what else the process loses.
    """
    return forbid_reading(Path(store_path) / "sealed")
