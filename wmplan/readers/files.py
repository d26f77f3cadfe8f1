"""Files of logs: found below a folder, opened whether plain or compressed, told apart by name and first bytes."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path

from wmplan.errors import InputError

COMPRESSED = (".xz", ".gz")
"""Suffixes that `open_log` sees through."""
DECOMPRESSION_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error)
"""What reading a damaged, truncated or unreadable file may raise."""


def list_files(source: Path, belongs: Callable[[Path], bool]) -> list[Path]:
    """Files at or below `source` for which `belongs` holds, sorted; hidden files and folders are left out.

    A `source` that does not exist gives an empty list: it may be another reader's, such as `simulator:n=200`.
    """
    if source.is_file():
        return [source] if belongs(source) else []
    if not source.is_dir():
        return []
    below = (path for path in source.rglob("*") if not any(p.startswith(".") for p in path.relative_to(source).parts))
    return sorted(path for path in below if path.is_file() and belongs(path))


def bare_name(path: Path) -> str:
    """File name without `.xz` or `.gz`: `a.json.xz` gives `a.json`."""
    return path.name.removesuffix(path.suffix) if path.suffix in COMPRESSED else path.name


def open_log(path: Path) -> BufferedIOBase:
    """The file, opened for reading bytes; `.xz` and `.gz` are decompressed on the way.

    Raises:
        InputError: if it cannot be opened.
    """
    try:
        if path.suffix == ".xz":
            return lzma.open(path, "rb", format=lzma.FORMAT_XZ)
        if path.suffix == ".gz":
            return gzip.open(path, "rb")
        return path.open("rb")
    except OSError as error:
        raise InputError(
            f"{path.name}: cannot be opened ({error.strerror or error}), expected a readable file"
        ) from error


def read_bytes(path: Path) -> bytes:
    """The whole content, decompressed.

    Raises:
        InputError: if the file cannot be read, or its compression is damaged or cut short.
    """
    with open_log(path) as file:
        try:
            return file.read()
        except DECOMPRESSION_ERRORS as error:
            raise InputError(f"{path.name}: cannot be read ({error}), expected an undamaged file") from error


def first_bytes(path: Path, count: int) -> bytes | None:
    """The first `count` decompressed bytes (fewer in a short file); None where the file cannot be read."""
    try:
        with open_log(path) as file:
            return file.read(count)
    except (InputError, *DECOMPRESSION_ERRORS):
        return None
