"""Waiting for the end of a process without looking again and again."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading


def watch(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """A future of its exit status. A thread sleeps in the system's wait: it costs nothing, on any system."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def tell(status: int) -> None:
        if not ended.done():
            ended.set_result(status)

    def wait() -> None:
        status = process.wait()
        # The loop may be closed by now: then nobody waits for the answer.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, status)

    threading.Thread(target=wait, name=f"exit-of-{process.pid}", daemon=True).start()
    return ended
