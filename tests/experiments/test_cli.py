"""The command line: every field explained, misspelt ones named with their neighbours, one line for every mistake."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from experiments import cli
from experiments.configs import Command, UsageError, compose
from experiments.fields import docs_of, fields_of

OPTIONS = ("simulator", "womd_json", "auto")


@dataclass(frozen=True)
class Source:
    format: str = "simulator"
    """Which format."""
    path: str = ""
    """Where it lies,
    on two lines."""
    n: int = 24
    """How many."""


@dataclass(frozen=True)
class Small:
    """A config."""

    source: Source = field(default_factory=Source)
    names: tuple[str, ...] = ("a", "b")
    """Names."""
    kind: Literal["one", "two"] = "one"
    """Kind."""
    rate: float = 0.5
    """Rate."""
    verbose: bool = False
    """Talk."""
    limit: int | None = None
    """Limit."""


@dataclass(frozen=True)
class Needing:
    source: str
    """A source."""
    out: str = "x"
    """A folder."""


HERE = "test_cli"
SMALL = Command("small", f"{HERE}:Small", f"{HERE}:Small", "a command", (("source", "format", f"{HERE}:OPTIONS"),))
NEEDING = Command("needing", f"{HERE}:Needing", f"{HERE}:Needing", "a command", positional="source")


def test_nothing_said_gives_the_dataclass() -> None:
    assert compose(SMALL, []) == Small()


def test_overrides_reach_fields_groups_and_lists() -> None:
    said = [
        "source=womd_json",
        "source.path=/a b/c=d,e",
        "names=[x,y]",
        "rate=2",
        "verbose=true",
        "limit=3",
        "kind=two",
    ]
    expected = Small(Source("womd_json", "/a b/c=d,e"), ("x", "y"), "two", 2.0, True, 3)
    assert compose(SMALL, said) == expected
    assert compose(SMALL, ["names=x"]).names == ("x",)


@pytest.mark.parametrize("path", ["simulator:n=3,seed=1", "C:\\logs\\a", 'a"b', "a'b", "[x]", "12", "true", "a\\", ""])
def test_text_is_taken_as_it_stands(path: str) -> None:
    assert compose(SMALL, [f"source.path={path}"]).source.path == path


def test_text_in_lists_needs_no_quotes() -> None:
    for written in ("settings=cem.rounds=8,cem.decay=1.2", 'settings=["cem.rounds=8","cem.decay=1.2"]'):
        assert compose(cli.COMMANDS["study"], [written]).settings == ("cem.rounds=8", "cem.decay=1.2")


def test_a_word_alone_sets_the_positional_field() -> None:
    assert compose(NEEDING, ["some/where", "out=y"]) == Needing("some/where", "y")


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("source.pth=x", ["source.pth", "source.path"]),
        ("path=x", ["source.path"]),
        ("ratee=1", ["rate"]),
        ("source=womd_jsn", ["womd_json"]),
        ("kind=three", ["kind", "two"]),
        ("rate=fast", ["rate", "fast"]),
        ("source.n=1.5", ["source.n", "1.5"]),
        ("+extra=1", ["+extra"]),
        ("loose", ["loose", "key=value"]),
        ("names=[x", ["small"]),
    ],
)
def test_a_mistake_is_one_line_that_names_field_and_expectation(argument: str, parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        compose(SMALL, [argument])
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


def test_a_needed_field_left_out_is_named() -> None:
    with pytest.raises(UsageError, match=r"needing: source: a value is needed"):
        compose(NEEDING, [])


def test_docs_come_from_the_strings_below_the_fields() -> None:
    assert docs_of(Source)["path"] == "Where it lies, on two lines."
    assert [item.path for item in fields_of(Small)][:3] == ["source.format", "source.path", "source.n"]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_explains_every_field_of_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    for item in fields_of(cli.COMMANDS[name].config_class()):
        assert item.path in shown
        assert len(item.doc) > 3, f"{name}: {item.path} has no help text"


@pytest.mark.parametrize("words", [["sutdy"], ["study", "optimizer=[cem]"], ["study", "logs.pth=x"], ["study", "x"]])
def test_exit_status_2_and_one_line_for_a_command_line_not_understood(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)
