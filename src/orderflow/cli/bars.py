"""How far something is that takes long: bars for a person at a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click

from orderflow.cli.plain import printable
from orderflow.cli.times import duration

TIMES_PER_S = 8
EVERY_S = 5.0

Show = Callable[[str, int, int, str], None]
"""Name, how many are completed, of how many, and what stands beside it."""


@contextmanager
def bars(name_width: int, *, hidden: bool) -> Iterator[Show]:
    """Yields what shows how far each name is, on standard error; nothing is shown if `hidden`."""
    if hidden or not sys.stderr.isatty():
        with _lines(hidden=hidden) as show:
            yield show
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from orderflow.cli.output import make_console

    tasks: dict[str, TaskID] = {}
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

        def show(name: str, completed: int, total: int, told: str) -> None:
            if name not in tasks:
                tasks[name] = shown.add_task(name, told="")
            shown.update(tasks[name], completed=completed, total=total, told=printable(told))

        yield show


@contextmanager
def heartbeat(words: Callable[[], str], *, hidden: bool) -> Iterator[None]:
    """While the block runs, however it waits: every few seconds a line on standard error with `words`, unless
    `hidden` (programs read standard error for one document) or there are no words.
    """
    if hidden:
        yield
        return
    over, began = threading.Event(), time.monotonic()

    def beat() -> None:
        while not over.wait(EVERY_S):
            if said := words():
                # Who reads it may be gone; what it tells of goes on.
                with suppress(OSError, ValueError):
                    click.echo(f"after {duration((time.monotonic() - began) * 1000)}: {printable(said)}", err=True)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _lines(*, hidden: bool) -> Iterator[Show]:
    known: dict[str, str] = {}

    def show(name: str, completed: int, total: int, told: str) -> None:
        known[name] = f"{completed} of {total} {name}" + (f" ({told})" if told else "")

    with heartbeat(lambda: ", ".join(list(known.values())), hidden=hidden):
        yield show
