"""How far a run is, while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orderflow.cli.bars import bars
from orderflow.cli.load.tally import Tally


@contextmanager
def progress_of(orders: int, *, hidden: bool) -> Iterator[Callable[[Tally], None]]:
    """Yields what is to be told of the tally."""
    with bars(8, hidden=hidden) as show:

        def tell(tally: Tally) -> None:
            spent_s = time.monotonic() - tally.began
            trouble = "; ".join(f"{count} times {what}" for what, count in list(tally.retries.items()))
            speed = f"{tally.placed / spent_s:.0f}/s" if tally.began and spent_s > 0 else ""
            show("accepted", tally.placed, orders, "; ".join(part for part in (speed, trouble) if part))
            show("final", tally.final, orders, "")

        yield tell
