"""What a command's dataclass says about itself: every field with its type, default and help text."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Field:
    """One field of a config as the command line names it, e.g. `logs.path`."""

    path: str
    kind: Any
    default: Any
    doc: str


def fields_of(config: type, prefix: str = "") -> Iterator[Field]:
    """Every field of a config dataclass, nested dataclasses opened up, in the order of the source."""
    hints = typing.get_type_hints(config)
    docs = docs_of(config)
    for item in dataclasses.fields(config):
        kind = hints[item.name]
        default = _default(item)
        if dataclasses.is_dataclass(kind):
            yield from fields_of(typing.cast(type, kind), f"{prefix}{item.name}.")
        else:
            doc = item.metadata.get("help", docs.get(item.name, ""))
            yield Field(prefix + item.name, kind, default, doc)


def docs_of(config: type) -> dict[str, str]:
    """The string below each field of a dataclass (empty where its source cannot be read)."""
    try:
        source = textwrap.dedent(inspect.getsource(config))
    except (OSError, TypeError):
        return {}
    body = ast.parse(source).body[0]
    docs: dict[str, str] = {}
    name = ""
    for node in body.body if isinstance(body, ast.ClassDef) else []:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            if name:
                docs[name] = " ".join(node.value.value.split())
            name = ""
        else:
            name = ""
    return docs


def kind_name(kind: Any) -> str:
    """How help texts name a type: `int`, `list of str`, `float or null`, `one of a, b`."""
    if choices(kind):
        return f"one of {', '.join(map(str, choices(kind)))}"
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else kind_name(part) for part in arguments)
    if origin in (tuple, list):
        return f"list of {kind_name(arguments[0])}"
    return getattr(kind, "__name__", str(kind)).lower().replace("posixpath", "path")


def choices(kind: Any) -> tuple[Any, ...]:
    """The values a field may take, where its type lists them (`Literal`); else nothing."""
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def is_list(kind: Any) -> bool:
    """Whether a field holds several values."""
    return typing.get_origin(kind) in (tuple, list)


def holds_text(kind: Any) -> bool:
    """Whether a field is text (or a path), so that its value on the command line is taken as it stands."""
    if choices(kind):
        return True
    parts = typing.get_args(kind) or (kind,)
    return not is_list(kind) and any(isinstance(part, type) and issubclass(part, (str, Path)) for part in parts)


def simplified(config: type) -> type:
    """A mutable twin of the dataclass in the types that OmegaConf knows: choices become text, tuples lists."""
    hints = typing.get_type_hints(config)
    made: list[tuple[str, Any, Any]] = []
    for item in dataclasses.fields(config):
        kind, default = hints[item.name], _default(item)
        if dataclasses.is_dataclass(kind):
            kind = simplified(typing.cast(type, kind))
            default = None if default is dataclasses.MISSING else _twin(kind, default)
        elif choices(kind):
            kind = type(choices(kind)[0])
        elif is_list(kind):
            kind, default = list[typing.get_args(kind)[0]], list(default)  # type: ignore[misc]
        if default is dataclasses.MISSING:
            made.append((item.name, kind, dataclasses.field(default="???")))
        else:
            made.append((item.name, kind, dataclasses.field(default_factory=partial(_same, default))))
    return dataclasses.make_dataclass(config.__name__, made)


def build(config: type, values: dict[str, Any]) -> Any:
    """The dataclass from plain values: nested dataclasses made, lists turned into tuples where the field says so."""
    hints = typing.get_type_hints(config)
    made = {}
    for item in dataclasses.fields(config):
        if item.name not in values:
            continue
        value, kind = values[item.name], hints[item.name]
        if dataclasses.is_dataclass(kind):
            value = build(typing.cast(type, kind), value)
        elif typing.get_origin(kind) is tuple and isinstance(value, list):
            value = tuple(value)
        made[item.name] = value
    return config(**made)


def _twin(kind: type, value: Any) -> Any:
    """The value of a dataclass as an instance of its simplified twin, dataclasses inside it too."""
    values = {}
    for item in dataclasses.fields(kind):
        inner = getattr(value, item.name)
        values[item.name] = _twin(item.type, inner) if dataclasses.is_dataclass(inner) else inner  # type: ignore
    return kind(**values)


def _same(value: Any) -> Any:
    return value


def _default(item: dataclasses.Field) -> Any:
    if item.default is not dataclasses.MISSING:
        return item.default
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return dataclasses.MISSING
