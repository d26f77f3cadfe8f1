"""Pickles, read without running what they name.

A pickle may call any importable function while it is loaded. This unpickler resolves only the names on a list and
refuses every other one, so that a file can build dicts, lists, strings, numbers and NumPy arrays, and nothing else.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray  # the functions that array pickles name

from wmplan.errors import InputError
from wmplan.readers.files import read_bytes

ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): multiarray._reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): multiarray._reconstruct,
    ("numpy.core.multiarray", "scalar"): multiarray.scalar,
    ("numpy._core.multiarray", "scalar"): multiarray.scalar,
    ("collections", "defaultdict"): collections.defaultdict,
    ("builtins", "int"): int,
    ("metadrive.scenario.scenario_description", "ScenarioDescription"): dict,
}
"""Everything a pickle may name; ScenarioNet's own dict is read as a plain one."""


class Refused(pickle.UnpicklingError):
    """A pickle names something that is not on the list."""


def load_pickle(path: Path) -> Any:
    """The object in a pickle file, plain or compressed.

    Raises:
        InputError: if the pickle names anything that is not in `ALLOWED`, or is damaged.
    """
    data = read_bytes(path)
    try:
        return _Unpickler(io.BytesIO(data)).load()
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


class _Unpickler(pickle.Unpickler):
    """Resolves the allowed names only."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("a persistent id")
