"""The bars that a person sees while something goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

TIMES_PER_S = 8


@contextmanager
def bars(name_width: int, *, hidden: bool) -> Iterator[Progress | None]:
    """Each has a name, and the text of its field `told` at its end. Shown on standard error; None where that is no
    terminal, or if `hidden`.
    """
    if hidden or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from orderflow.cli.output import make_console

    with Progress(
        TextColumn(f"{{task.description:<{name_width}}}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeElapsedColumn(),
        console=make_console(to_errors=True),
        refresh_per_second=TIMES_PER_S,
        transient=True,
    ) as shown:
        yield shown
