"""TFRecord files: framed, checksummed records, read one at a time and without TensorFlow.

A frame is the length (u64), its checksum (u32), the data, their checksum (u32), all little-endian. A checksum is
CRC-32C, rotated right by 15 bits, plus a constant.

References:
    TensorFlow, "TFRecord and tf.train.Example", section "TFRecords format details".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

import google_crc32c

from wmplan.errors import InputError
from wmplan.readers.files import DECOMPRESSION_ERRORS, open_log

MASK = 0xA282EAD8
"""What the format adds to a rotated checksum."""
LARGEST = 2**31
"""No protocol buffer is larger, bytes."""


def masked_crc(data: bytes) -> int:
    """The checksum that a TFRecord keeps of these bytes."""
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + MASK) & 0xFFFFFFFF


def read_records(path: Path) -> Iterator[bytes]:
    """The records of the file, in order; those before a fault are given.

    Raises:
        InputError: if the file is empty, ends inside a record, or a checksum is wrong: it names file and record.
    """
    with open_log(path) as file:
        index = 0
        while head := _read(file, 12, f"{path.name}: record {index}: length", may_end=True):
            if masked_crc(head[:8]) != struct.unpack("<I", head[8:])[0]:
                found, expected = struct.unpack("<I", head[8:])[0], masked_crc(head[:8])
                raise InputError(f"{path.name}: record {index}: length has CRC {found:08x}, expected {expected:08x}")
            (length,) = struct.unpack("<Q", head[:8])
            if length > LARGEST:
                raise InputError(f"{path.name}: record {index}: length is {length}, expected at most {LARGEST} bytes")
            body = _read(file, length + 4, f"{path.name}: record {index}: data")
            data, (found,) = body[:-4], struct.unpack("<I", body[-4:])
            if found != masked_crc(data):
                expected = masked_crc(data)
                raise InputError(f"{path.name}: record {index}: data have CRC {found:08x}, expected {expected:08x}")
            yield data
            index += 1
    if index == 0:
        raise InputError(f"{path.name}: holds no record, expected at least one")


def _read(file: BufferedIOBase, count: int, where: str, may_end: bool = False) -> bytes:
    """Exactly `count` bytes, or none at the end of the file where it may end."""
    try:
        data = file.read(count)
    except DECOMPRESSION_ERRORS as error:
        raise InputError(f"{where} cannot be read ({error}), expected an undamaged file") from error
    if len(data) != count and not (may_end and not data):
        raise InputError(f"{where} ends after {len(data)} bytes, expected {count} (the file is cut short)")
    return data
