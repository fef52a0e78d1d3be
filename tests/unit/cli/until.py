"""A run of many orders whose time is up by a cause, not by a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orderflow.cli.load import LoadOptions, Tally, perform


def perform_until(done: Callable[[Tally], bool]) -> Callable[..., Tally]:
    """A `perform` whose time is up as soon as `done` says so, however long that takes."""

    def run(url: str, wish: LoadOptions, told: Callable[[Tally], None], *_: object) -> Tally:
        limits: list[asyncio.Timeout] = []

        def limit(_: float) -> asyncio.Timeout:
            limits.append(asyncio.timeout(None))
            return limits[-1]

        def watch(tally: Tally) -> None:
            told(tally)
            if done(tally) and not limits[-1].expired():
                limits[-1].reschedule(0)

        return perform(url, wish, watch, limit=limit)

    return run
