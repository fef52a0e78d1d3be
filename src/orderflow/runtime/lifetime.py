"""When a process begins and ends: what it tells its supervisor, and how it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import msgspec


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
