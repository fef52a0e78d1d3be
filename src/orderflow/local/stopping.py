"""How a run is told to stop: by a signal, and where there are none, by a file."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

LOOK_EVERY_S = 1.0


class StopRequests:
    """`wanted` after the first request; `forced` after the second."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.forced = asyncio.Event()

    def request(self) -> None:
        (self.forced if self.wanted.is_set() else self.wanted).set()


@asynccontextmanager
async def stop_requests(file: Path) -> AsyncIterator[StopRequests]:
    """Within this block, signals are requests. `file` is how `orderflow down` asks on Windows."""
    requests = StopRequests()
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        _take(file)
        signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(requests.request))
        task = asyncio.create_task(_look_for(file, requests))
        try:
            yield requests
        finally:
            task.cancel()
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, requests.request)
    try:
        yield requests
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _look_for(file: Path, requests: StopRequests) -> None:
    while not _take(file):  # noqa: ASYNC110 - another process makes the file
        await asyncio.sleep(LOOK_EVERY_S)
    requests.request()


def _take(file: Path) -> bool:
    """Remove the file; says whether it was there."""
    try:
        file.unlink()
    except OSError:
        return False
    return True
