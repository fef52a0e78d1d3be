"""When a process begins and ends: what it tells its supervisor, and how it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import msgspec


@asynccontextmanager
async def beside(forever: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run it while the block runs."""
    task = asyncio.get_running_loop().create_task(forever)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` in the running loop at SIGTERM or SIGINT (Ctrl-C; on Windows also Ctrl-Break)."""
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)

    for name in ("SIGINT", "SIGBREAK", "SIGTERM"):
        signal.signal(getattr(signal, name), handle)


def stop_on_end_of_input(stop: Callable[[], None], descriptor: int = 0) -> None:
    """Call `stop` in the running loop when whoever holds the other end of the pipe is gone.

    A thread reads, because a pipe given by a parent cannot be awaited on every system.
    """
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            while os.read(descriptor, 1024):
                pass
        except OSError:
            pass
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop)

    threading.Thread(target=read, name="control-pipe", daemon=True).start()


def announce_on_stdout(facts: dict[str, object]) -> None:
    """One JSON line for a supervisor; nobody has to read it."""
    try:
        sys.stdout.write(msgspec.json.encode(facts).decode() + "\n")
        sys.stdout.flush()
    except OSError:
        return
