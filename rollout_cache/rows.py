"""A row of terms as bytes that know whether they are whole."""

from __future__ import annotations

import struct

import google_crc32c
import numpy as np
from jaxtyping import Float32
from numpy import ndarray

_HEAD = struct.Struct("<II")


def pack(key: bytes, row: Float32[ndarray, "N"]) -> bytes:
    """Checksum (crc32c, of key, count and numbers), count, numbers; little-endian float32, bit for bit."""
    body = struct.pack("<I", len(row)) + np.ascontiguousarray(row, dtype="<f4").tobytes()
    return struct.pack("<I", google_crc32c.value(key + body)) + body


def unpack(key: bytes, value: bytes) -> Float32[ndarray, "N"] | None:
    """The row that was packed under this key; None if a single bit of it is not as it was."""
    if len(value) < _HEAD.size or (len(value) - _HEAD.size) % 4:
        return None
    checksum, count = _HEAD.unpack_from(value)
    if len(value) != _HEAD.size + 4 * count or google_crc32c.value(key + value[4:]) != checksum:
        return None
    return np.frombuffer(value, dtype="<f4", offset=_HEAD.size).astype(np.float32)
