"""Checks of what stands in a log file: the right type, the right shape, finite, not absurd.

Every check takes `where`, the words that lead to the value ("file: scene: field"), and raises one line that begins with
them, says what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from wmplan.errors import InputError

T = TypeVar("T")

ABSURD_M = 1.0e6
"""Coordinates of a local frame beyond this are damage, metres. UTM coordinates need their own limit (1e7)."""
ABSURD_MPS = 200.0
"""Speeds beyond this are damage, m/s."""
ABSURD_SIZE_M = 100.0
"""Boxes longer than this are damage, metres."""


def fail(where: str, found: str, expected: str) -> NoReturn:
    """Never returns.

    Raises:
        InputError: always, as one line.
    """
    raise InputError(f"{where} {found}, expected {expected}")


def need(mapping: Mapping[Any, Any], key: str, kind: type[T], where: str) -> T:
    """`mapping[key]`, which must be there and of this type.

    Raises:
        InputError: if it is missing or mistyped. `where` leads to the mapping.
    """
    if key not in mapping:
        fail(f"{where}.{key}", "is missing", _word(kind))
    value = mapping[key]
    # bool is an int in Python, never in a log
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        fail(f"{where}.{key}", f"is {brief(value)}", _word(kind))
    return value


def numbers(values: object, shape: tuple[int | None, ...], where: str) -> Float[ndarray, "..."]:
    """The numbers in float64, of this shape (None: any length). They may still be non-finite: filler is masked later.

    Raises:
        InputError: if they are not numbers, or not so many.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        fail(where, "is a ragged list", _shape(shape))
    if array.dtype.kind not in "fiu":
        fail(where, f"holds {_odd_one(values)}", "numbers")
    if array.ndim != len(shape) or any(want is not None and have != want for have, want in zip(array.shape, shape)):
        fail(where, f"has shape {array.shape}", _shape(shape))
    return array.astype(np.float64)


def flags(values: object, length: int, where: str) -> Bool[ndarray, "T"]:
    """The mask; written as booleans, or as 0 and 1 of any number type.

    Raises:
        InputError: if it is something else, or not so long.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        fail(where, "is a ragged list", _shape((length,)))
    if array.dtype.kind not in "bfiu" or not np.isin(array, (0, 1)).all():
        odd = (v for v in (values if isinstance(values, (list, tuple)) else array.flat) if not _is_flag(v))
        fail(where, f"holds {brief(next(odd, values))}", "booleans, or 0 and 1")
    if array.shape != (length,):
        fail(where, f"has shape {array.shape}", f"({length},)")
    return array.astype(bool)


def check_numbers(values: Float[ndarray, "..."], where: str, limit: float, unit: str) -> None:
    """Nothing, where every number is finite and at most `limit` in size.

    Raises:
        InputError: otherwise, naming the first offender.
    """
    good = np.abs(values) <= limit  # False for NaN
    if not good.all():
        index = tuple(int(i) for i in np.argwhere(~good)[0])
        place = "".join(f"[{i}]" for i in index)
        fail(f"{where}{place}", f"is {values[index]:g}", f"a finite number of at most {limit:g} {unit}")


def brief(value: object) -> str:
    """The value in a few words, for an error line."""
    if isinstance(value, (str, bytes)):
        return repr(value[:40])
    if isinstance(value, (Mapping, Sequence, ndarray, set)):
        return f"a {type(value).__name__} of {np.size(value) if isinstance(value, ndarray) else len(value)}"
    return repr(value)[:60]


def _is_flag(value: object) -> bool:
    """Whether the value says yes or no."""
    return isinstance(value, (bool, int, float, np.bool_, np.number)) and value in (0, 1)


def _odd_one(values: object) -> str:
    """The first value that is not a number, for an error line."""
    if isinstance(values, (list, tuple)):
        for i, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number, list, tuple, ndarray)):
                return f"{brief(value)} at {i}"
    return brief(values)


def _shape(shape: tuple[int | None, ...]) -> str:
    """Words for a shape: `(91, any)`."""
    return "shape (" + ", ".join("any" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"


def _word(kind: type) -> str:
    """Words for a type."""
    return {dict: "an object", list: "a list", str: "a string", int: "a whole number", float: "a number"}.get(
        kind, f"a {kind.__name__}"
    )
