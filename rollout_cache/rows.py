"""Rows of terms as bytes, one after another in a file, each of which knows whether it is whole."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import google_crc32c
import numpy as np
from jaxtyping import Float32
from numpy import ndarray

MARK = b"\x9fWR2"
"""Begins every row, so that reading goes on after a damaged one. Its last byte is the format's version."""
PLAN_BYTES = 16
_HEAD = struct.Struct(f"<4sI{PLAN_BYTES}sI")


@dataclass(frozen=True)
class Scanned:
    """What some bytes hold: rows by plan key, the later one where a key stands twice; how many stretches are no rows,
    and the whole rows' bytes alone."""

    rows: dict[bytes, Float32[ndarray, "_N"]]
    damaged: int
    whole: bytes


def pack(shard: bytes, plan: bytes, row: Float32[ndarray, "N"]) -> bytes:
    """Mark, checksum (crc32c of shard, plan key, count and numbers), plan key, count, numbers; little-endian float32,
    bit for bit. The shard's name is not written: a row that lies in another shard's file is damaged."""
    body = plan + struct.pack("<I", len(row)) + np.ascontiguousarray(row, dtype="<f4").tobytes()
    return MARK + struct.pack("<I", google_crc32c.value(shard + body)) + body


def scan(shard: bytes, data: bytes) -> Scanned:
    """Every whole row of these bytes, whatever lies between them. A row of which a single bit changed is none."""
    rows: dict[bytes, Float32[ndarray, "_N"]] = {}
    whole, damaged, at, lost = [], 0, 0, False
    while at < len(data):
        end = _row_end(shard, data, at)
        if end:
            first = at + _HEAD.size
            rows[data[at + 8 : at + 8 + PLAN_BYTES]] = np.frombuffer(data[first:end], dtype="<f4").astype(np.float32)
            whole.append(data[at:end])
            at, lost = end, False
            continue
        damaged, lost = damaged + (not lost), True
        at = data.find(MARK, at + 1)
        if at < 0:
            break
    return Scanned(rows, damaged, b"".join(whole))


def _row_end(shard: bytes, data: bytes, at: int) -> int:
    """Where the row that begins here ends; 0 where no whole row begins here."""
    if len(data) - at < _HEAD.size:
        return 0
    mark, checksum, _, count = _HEAD.unpack_from(data, at)
    end = at + _HEAD.size + 4 * count
    if mark != MARK or end > len(data) or google_crc32c.value(shard + data[at + 8 : end]) != checksum:
        return 0
    return int(end)
