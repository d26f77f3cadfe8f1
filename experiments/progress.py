"""Progress with time left: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
QUIET_S = 2.0
"""Work shorter than this shows nothing."""
LINE_EVERY_S = 15.0
"""Where the output is not a terminal, a line at most this often."""


def track(
    items: Iterable[T], title: str, total: int, done: int = 0, note: Callable[[T], str] = lambda item: ""
) -> Iterator[T]:
    """The items, while the share done, the time gone and the time left are shown on standard error.

    `done` items were finished before (a resumed study); `note` says something of the latest item.
    """
    if sys.stderr.isatty():
        yield from _bar(items, title, total, done, note)
    else:
        yield from _lines(items, title, total, done, note)


def say(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def _bar(items: Iterable[T], title: str, total: int, done: int, note: Callable[[T], str]) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(title, total=total, completed=done, note="")
        for item in items:
            bars.update(task, advance=1, note=note(item))
            yield item


def _lines(items: Iterable[T], title: str, total: int, done: int, note: Callable[[T], str]) -> Iterator[T]:
    start = last = time.monotonic()
    first = start
    for count, item in enumerate(items, start=1):
        now = time.monotonic()
        if count == 1:
            first = now  # what came before was starting up, and says nothing of the rest
        finished = done + count == total
        if now - start > QUIET_S and (now - last > LINE_EVERY_S or finished):
            left = _clock((now - first) / (count - 1) * (total - done - count)) if count > 1 else "unknown time"
            tail = f", {note(item)}" if note(item) else ""
            say(f"{title}: {done + count}/{total}, {_clock(now - start)} gone, {left} left{tail}")
            last = now
        yield item


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
