"""What a command shows: tables and colours for people, JSON for programs."""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TextIO, runtime_checkable

from orderflow.cli.errors import ReaderGoneError, printable, printable_block

WAITS = ("dead", "retrying", "held")
"""`core.inbox.Waits`, whose module takes a while to load."""


def total(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The sum of what services or consumers have counted."""
    every = list(rows)
    return {each: sum(row[each] for row in every) for each in WAITS}


def words(counts: Mapping[str, int]) -> str:
    """`3 dead, 0 retrying, 2 held`."""
    return ", ".join(f"{counts[each]} {each}" for each in WAITS)


if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

WIDTH_OF_NO_TERMINAL = 250


@runtime_checkable
class Fits(Protocol):
    """What makes its lines for a width itself, or for as much room as there may be: see `cli.tables`."""

    def lines(self, width: int | None) -> Iterator[Text]: ...


class Output:
    """`as_json`: one document on standard output, or with `line` one document a line."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    def document(self, value: object) -> None:
        """The whole answer for a program."""
        with _to_reader():
            sys.stdout.write(json.dumps(value, indent=2 if sys.stdout.isatty() else None) + "\n")

    def answer(self, document: object, parts: Iterable[RenderableType]) -> None:
        """The whole answer: `document` for a program, `parts` for a person."""
        if self.as_json:
            self.document(document)
        else:
            self.show(*parts)

    def line(self, value: object) -> None:
        """One item of a stream for a program; seen at once."""
        with _to_reader():
            sys.stdout.write(json.dumps(value, separators=(",", ":")) + "\n")

    def show(self, *parts: RenderableType) -> None:
        """For people. A plain `str` must be ours; what comes from outside goes through `text`."""
        with _to_reader():
            for part in parts:
                if isinstance(part, Fits) and not is_terminal(sys.stdout):
                    for line in part.lines(None):
                        self.console.print(line, soft_wrap=True)
                else:
                    self.console.print(part)

    @cached_property
    def console(self) -> Console:
        return make_console(to_errors=False)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person reads it, on so many columns as the terminal has."""
    return stream.isatty()


@contextmanager
def _to_reader() -> Iterator[None]:
    """What is written within is seen at once. Raises ReaderGoneError."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGoneError from None


def pause(seconds: float) -> None:
    """Wait, between two things to show. Raises ReaderGoneError: whoever read standard output has closed it."""
    if sys.platform == "win32":
        time.sleep(seconds)
        return
    reader = select.poll()
    # What is no file has no reader who could go. Errors and the reader's end are told without being asked for.
    with suppress(OSError):
        reader.register(sys.stdout.fileno(), 0)
    if reader.poll(seconds * 1000):
        raise ReaderGoneError


def make_console(*, to_errors: bool) -> Console:
    """A console that takes no text for markup, and is as wide as needed where no terminal is."""
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> NoReturn:
            raise BrokenPipeError

    stream = sys.stderr if to_errors else sys.stdout
    width = None if is_terminal(stream) else WIDTH_OF_NO_TERMINAL
    return _Console(stderr=to_errors, markup=False, emoji=False, highlight=False, width=width)


def text(value: object, style: str = "") -> Text:
    """One line of text from anywhere, made harmless."""
    from rich.text import Text

    return Text(printable(value), style=style)


def block(value: str, style: str = "") -> Text:
    """Several lines of text from anywhere, made harmless."""
    from rich.text import Text

    return Text(printable_block(value), style=style)


def joined(*parts: Text | str) -> Text:
    """Parts on one line."""
    from rich.text import Text

    return Text.assemble(*parts)
