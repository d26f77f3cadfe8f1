"""Rows by key in a folder of Parquet parts: written in a stream, fetched by row group. What the store is built of."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wmplan.columns import Row
from wmplan.errors import InputError

GROUP_ROWS = 32
"""Rows of a row group, at most: what is held in memory while writing, and decoded to fetch one row."""
GROUP_BYTES = 8 << 20
"""Bytes of arrays in a row group before it is closed."""
PART_BYTES = 256 << 20
"""Bytes of arrays in a part file before the next is begun."""
GROUPS_CACHED = 3
"""Row groups that a reader keeps decoded."""


@dataclass(frozen=True)
class Part:
    """A part file: path below the store, rows, bytes and digest."""

    path: str
    rows: int
    size: int
    sha256: str


class ShelfWriter:
    """Writes rows to `folder/part-00000.parquet` and on. Memory holds one row group, whatever the number of rows."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._schema = schema
        self._rows: list[Row] = []
        self._bytes = 0
        self._part_bytes = 0
        self._part_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._parts: list[Part] = []

    def add(self, row: Row) -> None:
        """Append a row."""
        self._rows.append(row)
        self._bytes += sum(len(value) for value in row.values() if isinstance(value, bytes))
        if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self) -> list[Part]:
        """Write what is left, and list the parts."""
        self._flush()
        self._close_part()
        return self._parts

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            path = self._folder / f"part-{len(self._parts):05d}.parquet"
            self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=False)
        self._writer.write_table(pa.Table.from_pylist(list(self._rows), schema=self._schema))
        self._part_rows += len(self._rows)
        self._part_bytes += self._bytes
        self._rows, self._bytes = [], 0
        if self._part_bytes >= PART_BYTES:
            self._close_part()

    def _close_part(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        path = self._folder / f"part-{len(self._parts):05d}.parquet"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._parts.append(Part(f"{self._folder.name}/{path.name}", self._part_rows, path.stat().st_size, digest))
        self._part_rows = self._part_bytes = 0


class Shelf:
    """Reads what a `ShelfWriter` wrote, by key or in order.

    Raises:
        InputError: a part is missing, or is not as long as the manifest says.
    """

    def __init__(self, store: Path, parts: tuple[Part, ...], key: str) -> None:
        self._store = store
        self._parts = parts
        self._key = key
        self._files: list[pq.ParquetFile] = []
        self._place: dict[str, tuple[int, int, int]] = {}
        self._cache: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        for number, part in enumerate(parts):
            path = store / part.path
            found = path.stat().st_size if path.is_file() else None
            if found != part.size:
                has = "is missing" if found is None else f"has {found} bytes"
                raise InputError(f"{path}: {has}, expected {part.size} bytes (its manifest says so): ingest again")
            try:
                # Mapped, so that processes forked from this one do not move each other's file position.
                file = pq.ParquetFile(path, memory_map=True)
                keys = file.read(columns=[key]).column(key).to_pylist()
            except PermissionError:  # sealed, not damaged
                raise
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"{path}: damaged ({_short(error)}), expected Parquet: ingest again") from error
            self._files.append(file)
            row = 0
            for group in range(file.num_row_groups):
                for i in range(file.metadata.row_group(group).num_rows):
                    self._place[keys[row]] = (number, group, i)
                    row += 1

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key, in the order of writing."""
        return tuple(self._place)

    def __contains__(self, key: str) -> bool:
        return key in self._place

    def row(self, key: str) -> Row:
        """The row of a key.

        Raises:
            KeyError: there is none.
            InputError: the file is damaged.
        """
        number, group, i = self._place[key]
        return self._group(number, group).slice(i, 1).to_pylist()[0]

    def rows(self) -> Iterator[Row]:
        """All rows in order, a row group in memory at a time."""
        for number, file in enumerate(self._files):
            for group in range(file.num_row_groups):
                table = self._read(number, group)
                for i in range(table.num_rows):
                    yield table.slice(i, 1).to_pylist()[0]

    def columns(self, names: list[str]) -> pa.Table:
        """These columns of all rows."""
        return pa.concat_tables([file.read(columns=names) for file in self._files])

    def verify(self) -> None:
        """Read everything and compare with the digests.

        Raises:
            InputError: a part changed since it was written.
        """
        for part in self._parts:
            with (self._store / part.path).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != part.sha256:
                raise InputError(f"{self._store / part.path}: sha256 {found[:12]}, expected {part.sha256[:12]}")

    def _group(self, number: int, group: int) -> pa.Table:
        place = (number, group)
        if place not in self._cache:
            self._cache[place] = self._read(number, group)
            if len(self._cache) > GROUPS_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(place)
        return self._cache[place]

    def _read(self, number: int, group: int) -> pa.Table:
        try:
            return self._files[number].read_row_group(group)
        except (OSError, pa.ArrowException) as error:
            path = self._store / self._parts[number].path
            raise InputError(
                f"{path}: row group {group} is damaged ({_short(error)}), expected Parquet: ingest again"
            ) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
