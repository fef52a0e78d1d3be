"""Entries of a list: a line on what it is, ids in one piece, and below it what else is to be said.

A table would be wider than a terminal, and break the ids that are to be copied from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from orderflow.cli.output import joined, text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

INDENT = 4


def entry(head: Iterable[Text], below: Iterable[Text]) -> Iterator[RenderableType]:
    """`head` on one line, and under it each of `below` that is not empty; what is too long goes on under itself."""
    from rich.padding import Padding

    parts: list[Text] = []
    for part in head:
        parts += [text("  "), part] if parts else [part]
    yield joined(*parts)
    for line in below:
        if line.plain:
            yield Padding(line, (0, 0, 0, INDENT), expand=False)
