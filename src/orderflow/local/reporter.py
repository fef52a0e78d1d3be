"""What `up` says while it works."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status


class Reporter(Protocol):
    """`step` is work that has begun; `note` is a line that stays."""

    def step(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def table(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None: ...

    def close(self) -> None: ...


class PlainReporter:
    """Lines of text, for files and programs."""

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output or sys.stdout

    def step(self, text: str) -> None:
        self.note(f"{text} ...")

    def note(self, text: str) -> None:
        self._output.write(f"{text}\n")
        self._output.flush()

    def table(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        self.note(title)
        for name, address, remark in rows:
            self.note(f"  {name:<16} {address}  {remark}".rstrip())

    def close(self) -> None:
        return None


class TerminalReporter:
    """A spinner with the present step, then a table."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console: Console = Console(highlight=False)
        self._status: Status | None = None

    def step(self, text: str) -> None:
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def note(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(text), soft_wrap=True)

    def table(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        from rich.table import Table

        self.close()
        table = Table(box=None, show_header=False, padding=(0, 2))
        for row in rows:
            table.add_row(*row)
        self.note(title)
        self._console.print(table)

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def for_output() -> Reporter:
    """The one that fits standard output."""
    return TerminalReporter() if sys.stdout.isatty() else PlainReporter()
