"""Readers of driving logs, one a format, registered by name. Each gives `wmplan.scene.Log`, checked and recentred.

`detect` finds the reader of a file; `reader` gives one by name. A format of your own is one class that fits
`wmplan.contracts.LogReader` and one entry in `READERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from wmplan.contracts import LogReader
from wmplan.errors import InputError

__all__ = ["READERS", "detect", "reader"]


class _Readers(MutableMapping[str, LogReader]):
    """Readers by name. Those given as `module:Class` are imported when first asked for: one brings JAX along."""

    def __init__(self, places: dict[str, str]) -> None:
        self._readers: dict[str, LogReader | str] = dict(places)

    def __getitem__(self, name: str) -> LogReader:
        found = self._readers[name]
        if isinstance(found, str):
            module, _, cls = found.partition(":")
            found = self._readers[name] = getattr(importlib.import_module(module), cls)()
        return found

    def __setitem__(self, name: str, reader: LogReader) -> None:
        if name in self._readers:
            raise ValueError(f"reader {name!r} is registered already, expected a new name")
        self._readers[name] = reader

    def __delitem__(self, name: str) -> None:
        del self._readers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


READERS: MutableMapping[str, LogReader] = _Readers(
    {
        "womd_tfrecord": "wmplan.readers.womd_tfrecord:WomdTFRecordReader",
        "womd_json": "wmplan.readers.womd_json:WomdJsonReader",
        "scenarionet": "wmplan.readers.scenarionet:ScenarioNetReader",
        "commonroad": "wmplan.readers.commonroad:CommonRoadReader",
        "nuplan": "wmplan.readers.nuplan:NuPlanReader",
        "simulator": "wmplan.simulator.reader:SimulatorReader",
    }
)
"""Every known format."""


def reader(name: str) -> LogReader:
    """The reader of this name.

    Raises:
        InputError: if there is none.
    """
    if name not in READERS:
        raise InputError(f"reader {name!r} is unknown, expected one of {', '.join(READERS)}")
    return READERS[name]


def detect(path: Path) -> LogReader | None:
    """The reader whose format `path` has, None where no reader knows it. A folder gives the first that finds a file."""
    return next((candidate for candidate in READERS.values() if candidate.paths(path)), None)
