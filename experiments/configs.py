"""The commands and their configs: registration with Hydra, composition from `key=value`, errors in one line.

The dataclass in the module that uses it is the only place of a default; it is loaded when its command is asked for, so
that `wmplan --help` needs no numeric library.
"""

from __future__ import annotations

import difflib
import importlib
import re
import typing
from dataclasses import MISSING, dataclass
from typing import Any

from experiments.fields import Field, build, choices, fields_of, holds_text, is_list, simplified


class UsageError(ValueError):
    """A command line that cannot be understood: one line, exit status 2."""


@dataclass(frozen=True)
class Command:
    """A command: where its config dataclass and its function live (`module:name`), and what it does."""

    name: str
    config: str
    run: str
    doc: str
    groups: tuple[tuple[str, str, str], ...] = ()
    """Config groups: (group, the field of it that an option sets, where the list of options is: `module:name`)."""
    positional: str = ""
    """The field that a word without `=` sets, if there is one."""

    @property
    def key(self) -> str:
        """Its name in Hydra's store: `bench study` has a space."""
        return self.name.replace(" ", "_")

    def config_class(self) -> type:
        """The dataclass."""
        return load(self.config)

    def function(self) -> Any:
        """The function that runs the command: takes the config."""
        return load(self.run)


def load(address: str) -> Any:
    """The object at `module:name`."""
    module, name = address.split(":")
    return getattr(importlib.import_module(module), name)


def compose(command: Command, arguments: list[str]) -> Any:
    """The command's config with these `key=value` overrides, as an instance of its dataclass.

    Raises:
        UsageError: a key that does not exist (the nearest names are given), a value of the wrong type, a missing field.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    config = command.config_class()
    known = {field.path: field for field in fields_of(config)}
    overrides = [_override(command, known, argument) for argument in arguments]
    store = register(command)
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize(version_base="1.3", config_path=None):
            composed = hydra.compose(command.key, overrides=overrides)
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_one_line(command, error)) from error
    finally:
        for name in (f"{command.key}.yaml", f"{command.key}_schema.yaml", *(group for group, _, _ in command.groups)):
            store.repo.pop(name, None)  # a group of one command would shadow a field of another
    try:
        return build(config, values)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UsageError(f"wmplan {command.name}: {' '.join(str(error).split())}") from error


def register(command: Command) -> Any:
    """Hydra's store, after the command's structured config and its groups were put there."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    store = ConfigStore.instance()
    config = command.config_class()
    store.store(name=f"{command.key}_schema", node=OmegaConf.structured(simplified(config)))
    defaults: list[Any] = [f"{command.key}_schema"]
    known = {field.path: field for field in fields_of(config)}
    for group, field, _ in command.groups:
        for option in group_options(command, group):
            store.store(group=group, name=option, node={field: option})
        defaults.append({group: known[f"{group}.{field}"].default})
    store.store(name=command.key, node={"defaults": [*defaults, "_self_"]})
    return store


def group_options(command: Command, group: str) -> tuple[str, ...]:
    """The options of a config group."""
    where = next(where for name, _, where in command.groups if name == group)
    return tuple(load(where))


def nearest(word: str, names: list[str]) -> str:
    """`a, b or c`: the known names closest to a word (all of them where none is close and they are few)."""
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    tails = [name for name in names if name.split(".")[-1] == word.split(".")[-1]]
    found = list(dict.fromkeys(tails + close)) or (names if len(names) <= 12 else [])
    return " or ".join(filter(None, [", ".join(found[:-1]), found[-1]])) if found else "a field that --help lists"


def _override(command: Command, known: dict[str, Field], argument: str) -> str:
    """The argument as Hydra reads it: text quoted, single values of lists wrapped; unknown keys refused."""
    if "=" not in argument:
        if not command.positional or argument.startswith("-"):
            raise UsageError(f"wmplan {command.name}: {argument!r} is not key=value (see wmplan {command.name} --help)")
        argument = f"{command.positional}={argument}"
    key, value = argument.split("=", 1)
    for group, _, _ in command.groups:
        if key == group:
            options = group_options(command, group)
            if value not in options:
                near = nearest(value, list(options))
                raise UsageError(f"wmplan {command.name}: {key}={value} is unknown, expected {near}")
            return argument
    if key not in known:
        names = [*known, *(group for group, _, _ in command.groups)]
        raise UsageError(f"wmplan {command.name}: there is no field {key!r}, did you mean {nearest(key, names)}?")
    kind = known[key].kind
    if choices(kind) and value not in map(str, choices(kind)):
        raise UsageError(f"wmplan {command.name}: {key}={value}, expected {nearest(value, list(choices(kind)))}")
    if holds_text(kind) and "${" not in value and value[:1] not in ("'", '"') and value != "null":
        return f'{key}="{_quoted(value)}"'
    if is_list(kind):
        return f"{key}={_listed(kind, value)}"
    return argument


def _listed(kind: Any, value: str) -> str:
    """`a,b` or `[a,b]` as Hydra reads a list; text items are quoted, so that they may hold any sign but a comma."""
    if value.startswith("[") != value.endswith("]"):
        return value  # Hydra says what is wrong
    inside = value.strip().removeprefix("[").removesuffix("]")
    if not holds_text(typing.get_args(kind)[0]) or "${" in value:
        return f"[{inside}]"
    items = [item.strip().strip("\"'") for item in inside.split(",") if item.strip()]
    return "[" + ",".join(f'"{_quoted(item)}"' for item in items) + "]"


def _quoted(text: str) -> str:
    """Text inside Hydra's double quotes: quotes escaped, backslashes doubled where a quote follows them."""
    return re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text)


def _one_line(command: Command, error: Exception) -> str:
    """What went wrong in Hydra's or OmegaConf's words, without their pages of context."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    field = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")), "")
    known = {item.path: item for item in fields_of(command.config_class())}
    where = f"{field}: " if field else ""
    text = lines[0] if lines else type(cause).__name__
    if field in known and known[field].default is MISSING:
        text = "a value is needed"
    return f"wmplan {command.name}: {where}{text}"
