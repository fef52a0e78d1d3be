"""The bars that a person sees while a run goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orderflow.cli.load.tally import Tally

TIMES_PER_S = 8


@contextmanager
def progress_of(orders: int, *, hidden: bool) -> Iterator[Callable[[Tally], None]]:
    """Yields what is to be told of the tally. Shown on standard error, where that is a terminal."""
    if hidden or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from orderflow.cli.output import make_console

    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=make_console(to_errors=True),
        refresh_per_second=TIMES_PER_S,
        transient=True,
    ) as bars:
        placed = bars.add_task("accepted", total=orders, rate="")
        final = bars.add_task("final", total=orders, rate="")

        def tell(tally: Tally) -> None:
            bars.update(placed, completed=tally.placed, rate=_speed(bars.tasks[0].speed))
            bars.update(final, completed=tally.final, rate=_speed(bars.tasks[1].speed))

        yield tell


def _speed(speed: float | None) -> str:
    return "" if speed is None else f"{speed:.0f}/s"
