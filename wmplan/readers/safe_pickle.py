"""Pickles, read without running what they name.

A pickle may call any importable function while it is loaded. This unpickler resolves only the names on a list and
refuses every other one, so that a file can build dicts, lists, strings, numbers and NumPy arrays, and nothing else.
Not even NumPy's own restoring code runs: given damaged bytes it can crash the process. Arrays are taken apart into
shape, type and bytes, checked, and built anew.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from wmplan.errors import InputError
from wmplan.readers.files import read_bytes


class Refused(pickle.UnpicklingError):
    """A pickle names something that is not on the list."""


def load_pickle(path: Path) -> Any:
    """The object in a pickle file, plain or compressed.

    Raises:
        InputError: if the pickle names anything that is not in `ALLOWED`, or is damaged.
    """
    data = read_bytes(path)
    try:
        return _built(_Unpickler(io.BytesIO(data)).load(), {})
    except Refused as error:
        expected = "NumPy arrays, dicts, lists, strings and numbers alone (a pickle can run code)"
        raise InputError(f"{path.name}: the pickle names {error}, expected {expected}") from error
    except Exception as error:  # damaged opcodes end in any exception there is
        raise InputError(f"{path.name}: is not a readable pickle ({error!r}), expected an undamaged one") from error


def first_key(head: bytes) -> str | None:
    """The first key, where the pickle that begins so is a plain dict with string keys; nothing is built for that."""
    opened = False
    try:
        for opcode, value, _ in pickletools.genops(head):
            if opcode.name == "EMPTY_DICT":
                opened = True
            elif opened and opcode.name.endswith("UNICODE"):
                return value
            elif opcode.name not in ("PROTO", "FRAME", "MEMOIZE", "BINPUT", "MARK"):
                return None
    except Exception:  # a damaged head is not ours to report: loading the file will
        return None
    return None


class _Type:
    """An array's element type as a pickle tells it: `dtype(code, align, copy)`, then a state with the byte order."""

    def __init__(self, code: str, align: object = False, copy: object = False) -> None:
        if not isinstance(code, str) or not ELEMENT.fullmatch(code):
            raise pickle.UnpicklingError(f"an array of type {code!r}")
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, fields = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in fields):
            raise pickle.UnpicklingError(f"an array type with the state {state!r}")
        self.order = order

    @property
    def dtype(self) -> np.dtype:
        """The type itself."""
        return np.dtype(self.code if self.order == "|" else self.order + self.code)


class _Array:
    """An array as a pickle tells it: an empty one, then a state (version, shape, type, Fortran order, content)."""

    def __init__(self) -> None:
        self.state: tuple[Any, ...] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self, memo: dict[int, Any]) -> np.ndarray:
        """The array, if shape, type and content agree."""
        if self.state is None or len(self.state) != 5 or not isinstance(self.state[2], _Type):
            raise pickle.UnpicklingError("an array without a state")
        _, shape, kind, fortran, content = self.state
        if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < MOST_ELEMENTS for n in shape):
            raise pickle.UnpicklingError(f"an array of shape {shape!r}")
        count = math.prod(shape)
        if kind.code == "O8":
            if not isinstance(content, list) or len(content) != count:
                raise pickle.UnpicklingError(f"an array of {count} objects with another number of them")
            found = np.empty(count, dtype=object)
            for i, item in enumerate(content):
                found[i] = _built(item, memo)
        else:
            if not isinstance(content, bytes) or len(content) != count * kind.dtype.itemsize:
                raise pickle.UnpicklingError(f"an array of shape {shape!r} with another number of bytes")
            found = np.frombuffer(content, kind.dtype).copy()
        return found.reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    """What array pickles call first: an array without content."""
    if kind is not _Array:
        raise pickle.UnpicklingError(f"an array of the class {kind!r}")
    return _Array()


def _scalar(kind: _Type, content: bytes) -> Any:
    """A NumPy number."""
    if not isinstance(kind, _Type) or kind.code == "O8" or len(content) != kind.dtype.itemsize:
        raise pickle.UnpicklingError("a number whose bytes do not fit its type")
    return np.frombuffer(content, kind.dtype)[0]


def _built(value: Any, memo: dict[int, Any]) -> Any:
    """The value with its arrays built; containers are changed in place, so what was shared stays shared."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, _Array):
        memo[id(value)] = value.array(memo)
    elif isinstance(value, dict):
        memo[id(value)] = value
        for key in value:
            value[key] = _built(value[key], memo)
    elif isinstance(value, list):
        memo[id(value)] = value
        value[:] = [_built(item, memo) for item in value]
    elif isinstance(value, tuple):
        memo[id(value)] = tuple(_built(item, memo) for item in value)
    elif isinstance(value, _Type):
        raise pickle.UnpicklingError("an array type where a value belongs")
    else:
        return value
    return memo[id(value)]


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("collections", "defaultdict"): collections.defaultdict,
    ("builtins", "int"): int,
    ("metadrive.scenario.scenario_description", "ScenarioDescription"): dict,
}
"""Everything a pickle may name; ScenarioNet's own dict is read as a plain one."""
ELEMENT = re.compile(r"[biuf][1248]|f16|b1|O8|[US]\d{1,6}")
"""Element types that logs hold: numbers, truth values, objects, text of fixed length."""
MOST_ELEMENTS = 1 << 31


class _Unpickler(pickle.Unpickler):
    """Resolves the allowed names only."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("a persistent id")
