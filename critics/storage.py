"""Fitted critics on disk: safetensors with a schema name and a digest of the content, written all or nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from wmplan.errors import InputError


def content_digest(schema: str, arrays: Mapping[str, ndarray], notes: Mapping[str, str]) -> str:
    """Identifies a fitted critic: its schema, every array's bytes, its notes."""
    digest = hashlib.blake2b(schema.encode(), digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\x1f{name}:{array.dtype.str}:{array.shape}\x1f".encode())
        digest.update(array.tobytes())
    for name in sorted(notes):
        digest.update(f"\x1f{name}={notes[name]}".encode())
    return digest.hexdigest()


def save_fitted(path: Path, schema: str, arrays: Mapping[str, ndarray], notes: Mapping[str, str]) -> None:
    """Write a fitted critic; an interrupted write leaves no half file under the name."""
    metadata = {"schema": schema, "digest": content_digest(schema, arrays, notes), **notes}
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=metadata)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_fitted(path: Path, schema: str) -> tuple[dict[str, ndarray], dict[str, str]]:
    """Arrays and notes of a fitted critic.

    Raises:
        InputError: no such file, not safetensors, another schema, or a digest that does not match the content.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            notes = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, expected a fitted critic ({schema}); fit the critics first") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error}), expected a fitted critic ({schema})") from error
    found, digest = notes.pop("schema", "none"), notes.pop("digest", "none")
    if found != schema:
        raise InputError(f"{path}: schema is {found}, expected {schema}")
    actual = content_digest(schema, arrays, notes)
    if actual != digest:
        raise InputError(f"{path}: digest is {actual}, expected {digest}; the file is damaged")
    return arrays, notes
