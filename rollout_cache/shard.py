"""One file of rows: read by anyone at any time, appended to by one process at a time, whole rows or none."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxtyping import Float32
from numpy import ndarray

from rollout_cache import rows as packing

SUFFIX = ".rows"
TEMPORARY = ".tmp"


def shard_path(folder: Path, name: bytes) -> Path:
    """Where the rows of this shard lie: 256 folders, so that none grows too long to list."""
    return folder / name.hex()[:2] / f"{name.hex()[2:]}{SUFFIX}"


def shard_name(path: Path) -> bytes:
    """The inverse of `shard_path`.

    Raises:
        ValueError: the path is no shard's.
    """
    return bytes.fromhex(path.parent.name + path.name.removesuffix(SUFFIX))


class Shard:
    """The rows of one shard as this process knows them; `read` learns what others appended since.

    Locks are the kernel's (`flock`): they end with the process that holds them, however it ends.
    """

    def __init__(self, folder: Path, name: bytes) -> None:
        self.name = name
        self.path = shard_path(folder, name)
        self.rows: dict[bytes, Float32[ndarray, "_N"]] = {}
        self._file = 0
        self._seen = 0

    def read(self) -> int:
        """How many stretches of the file that were not seen before are damaged; they are dropped from it.

        Raises:
            OSError: the file cannot be read, or not be mended.
        """
        try:
            about = os.stat(self.path)
        except FileNotFoundError:
            self._file = self._seen = 0
            return 0
        if (about.st_ino, about.st_size) == (self._file, self._seen):
            return 0
        with _locked(self.path, os.O_RDONLY, fcntl.LOCK_SH) as handle:
            file = os.fstat(handle).st_ino
            first = self._seen if file == self._file and about.st_size >= self._seen else 0
            data = _read_from(handle, first)
        found = packing.scan(self.name, data)
        self.rows.update(found.rows)
        self._file, self._seen = file, first + len(data)
        # Looked at again under the writers' lock: another process may have mended or replaced the file meanwhile.
        return self.mend() if found.damaged else 0

    def append(self, items: list[tuple[bytes, Float32[ndarray, "_N"]]]) -> None:
        """Writes these rows (plan key, numbers) behind the others; all of them, or none where that fails.

        A row counts as stored once this returns, whatever becomes of the process. Nothing is forced to the disk: what a
        loss of power takes is computed again.

        Raises:
            OSError: no room, or no right to write.
        """
        data = b"".join(packing.pack(self.name, plan, row) for plan, row in items)
        self.path.parent.mkdir(exist_ok=True)
        with _locked(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, fcntl.LOCK_EX) as handle:
            before = os.fstat(handle)
            try:
                written = os.write(handle, data)
                while written < len(data):
                    written += os.write(handle, data[written:])
            except OSError:
                os.ftruncate(handle, before.st_size)
                raise
        self.rows.update(items)
        if (before.st_ino, before.st_size) == (self._file, self._seen) or not before.st_size:
            self._file, self._seen = before.st_ino, before.st_size + len(data)

    def mend(self) -> int:
        """How many stretches of the file are damaged, after a file of the whole rows alone took its place.

        Raises:
            OSError: the file cannot be written.
        """
        with _locked(self.path, os.O_RDWR, fcntl.LOCK_EX) as handle:
            found = packing.scan(self.name, _read_from(handle, 0))
            if found.damaged:
                temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}{TEMPORARY}")
                try:
                    with temporary.open("wb") as copy:
                        copy.write(found.whole)
                        copy.flush()
                        os.fsync(copy.fileno())
                    os.replace(temporary, self.path)
                finally:
                    temporary.unlink(missing_ok=True)
        self.rows = dict(found.rows)
        self._file = self._seen = 0
        return found.damaged


@contextmanager
def _locked(path: Path, flags: int, lock: int) -> Iterator[int]:
    """The open file under its lock. A file that was replaced or removed while we waited is opened again."""
    while True:
        handle = os.open(path, flags | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, lock)
            try:
                there = os.stat(path)
            except FileNotFoundError:
                continue
            if os.path.samestat(there, os.fstat(handle)):
                yield handle
                return
        finally:
            os.close(handle)


def _read_from(handle: int, first: int) -> bytes:
    parts = []
    while part := os.pread(handle, 1 << 22, first):
        parts.append(part)
        first += len(part)
    return b"".join(parts)
