"""The bars that a person sees while a run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orderflow.cli.bars import bars
from orderflow.cli.load.tally import Tally


@contextmanager
def progress_of(orders: int, *, hidden: bool) -> Iterator[Callable[[Tally], None]]:
    """Yields what is to be told of the tally."""
    with bars(8, hidden=hidden) as shown:
        if shown is None:
            yield lambda _: None
            return
        placed = shown.add_task("accepted", total=orders, told="")
        final = shown.add_task("final", total=orders, told="")

        def tell(tally: Tally) -> None:
            shown.update(placed, completed=tally.placed, told=_speed(shown.tasks[0].speed))
            shown.update(final, completed=tally.final, told=_speed(shown.tasks[1].speed))

        yield tell


def _speed(speed: float | None) -> str:
    return "" if speed is None else f"{speed:.0f}/s"
