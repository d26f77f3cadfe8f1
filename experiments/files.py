"""Files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

SHIPPED = Path(__file__).resolve().parent / "checkpoints"
"""Checkpoints that ship with wmplan, trained on its own simulator's logs only."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> Path:
    """The path, after `write` filled a temporary file beside it that then took its place.

    Killed at any moment, either the old file or the new one is there, never half of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """The path, after the text took its place atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    return write_atomically(path, write)


def write_bytes(path: Path, content: bytes) -> Path:
    """The path, after the bytes took their place atomically."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    return write_atomically(path, write)


def sha256(path: Path) -> str:
    """Digest of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
