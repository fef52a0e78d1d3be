"""Rotation of logs that other programs hold open: copied, then emptied in place."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

CHECK_EVERY_S = 60.0


def rotate(log: Path, *, max_bytes: int, kept: int) -> bool:
    """When `log` is larger, make it `log.1` (older ones move up, `kept` stay) and empty it.

    For files that are open in append mode: the writer goes on at the new end. What it writes between the
    copy and the emptying is lost. Where there is no room for a copy, everything stays as it is.
    """
    copy = log.with_name(f"{log.name}.new")
    try:
        if log.stat().st_size <= max_bytes:
            return False
        shutil.copyfile(log, copy)
        for number in range(kept - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                _numbered(log, number).replace(_numbered(log, number + 1))
        copy.replace(_numbered(log, 1))
        with log.open("r+b") as file:
            file.truncate(0)
    except OSError:
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)
        return False
    return True


async def rotate_for_ever(logs: Iterable[Path], *, max_bytes: int, kept: int) -> None:
    """Look once a minute."""
    watched = tuple(logs)
    while True:
        for log in watched:
            await asyncio.to_thread(rotate, log, max_bytes=max_bytes, kept=kept)
        await asyncio.sleep(CHECK_EVERY_S)


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
