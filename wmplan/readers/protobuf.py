"""The wire format of protocol buffers: fields of one message, without any schema.

A field is a tag (number and wire type), then a varint, 8 bytes, 4 bytes, or a length with that many bytes. Enough to
read one kind of message by its published field numbers, and free of generated code.

References:
    Google, "Protocol Buffers: Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

Value: TypeAlias = int | float | bytes
"""int for a varint, float for 4 or 8 bytes, bytes for a message, a string or packed numbers."""

_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")


class WireError(ValueError):
    """The bytes are no message."""


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field, in the order of the message.

    Raises:
        WireError: if the bytes end inside a field, or hold a wire type that does not exist.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"field number 0 at byte {at}")
        value: Value
        if wire == 1:
            stop = at + 8
            if stop > end:
                raise WireError(f"field {number} ends after {end - at} of 8 bytes")
            value = _DOUBLE.unpack_from(data, at)[0]
        elif wire == 5:
            stop = at + 4
            if stop > end:
                raise WireError(f"field {number} ends after {end - at} of 4 bytes")
            value = _FLOAT.unpack_from(data, at)[0]
        elif wire == 0:
            value, stop = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            stop = at + length
            if stop > end:
                raise WireError(f"field {number} ends after {end - at} of {length} bytes")
            value = data[at:stop]
        else:
            raise WireError(f"field {number} has wire type {wire}")
        yield number, value
        at = stop


def varints(value: Value) -> list[int]:
    """Whole numbers of a repeated field, written packed or one at a time.

    Raises:
        WireError: if the field holds something else.
    """
    if isinstance(value, int):
        return [value]
    if not isinstance(value, bytes):
        raise WireError("a number with a point where whole numbers belong")
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found


def doubles(value: Value) -> list[float]:
    """Numbers of a repeated field of doubles, written packed or one at a time.

    Raises:
        WireError: if the field holds something else.
    """
    if isinstance(value, float):
        return [value]
    if not isinstance(value, bytes) or len(value) % 8:
        raise WireError("no doubles where doubles belong")
    return list(struct.unpack(f"<{len(value) // 8}d", value))


def signed(value: int) -> int:
    """A varint as the signed number that int32 and int64 fields mean."""
    return value - 2**64 if value >= 2**63 else value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at this place, and where the next field begins."""
    result = shift = 0
    while shift < 70:
        try:
            byte = data[at]
        except IndexError:
            raise WireError("a number ends too early") from None
        result |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise WireError("a number of more than 10 bytes")
