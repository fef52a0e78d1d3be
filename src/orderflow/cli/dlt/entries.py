"""Entries of a list: a line on what it is, and below it what else is to be said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from orderflow.cli.tables import Forms, Line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

INDENT = 4


def entry(head: Iterable[Forms | Text], below: Iterable[Text]) -> Iterator[RenderableType]:
    """`head` on one line, and under it each of `below` that is not empty; what is too long goes on under itself."""
    from rich.padding import Padding

    yield Line(*head)
    for line in below:
        if line.plain:
            yield Padding(line, (0, 0, 0, INDENT), expand=False)
