"""Processes that an earlier life left behind: known by process id and start time, never by name."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from orderflow.local.errors import LocalError

SAME_START_S = 0.5
TERM_TIMEOUT_S = 10.0
LOOK_EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process: its id is used again by the system, its id and start time (s since the epoch) are not."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessMark:
        """The mark of a running process. Raises psutil.NoSuchProcess."""
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started) <= SAME_START_S
            runs = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if is_same and runs else None


def end(marks: Iterable[ProcessMark], timeout_s: float = TERM_TIMEOUT_S) -> int:
    """End those that still run: asked first, killed after `timeout_s`. Returns how many there were.

    Raises LocalError when one outlives that.
    """
    running = {mark: process for mark in marks if (process := mark.find()) is not None}
    for process in running.values():
        with contextlib.suppress(psutil.Error):
            process.terminate()
    for mark in still_running(running, timeout_s):
        with contextlib.suppress(psutil.Error):
            running[mark].kill()
    immortal = still_running(running, timeout_s)
    if immortal:
        pids = ", ".join(str(mark.pid) for mark in immortal)
        raise LocalError(f"processes of an earlier run do not end: {pids}; end them by hand")
    return len(running)


def still_running(marks: Iterable[ProcessMark], timeout_s: float) -> list[ProcessMark]:
    """Wait until all have ended, for `timeout_s` at most; who has not. A zombie has ended: it is its parent's."""
    deadline = time.monotonic() + timeout_s
    left = [mark for mark in marks if mark.find() is not None]
    while left and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        left = [mark for mark in left if mark.find() is not None]
    return left


def record(path: Path, pid: int) -> None:
    """Note a process of ours for `end_recorded`. A process that is gone already is not noted."""
    with contextlib.suppress(psutil.NoSuchProcess):
        mark = ProcessMark.of(pid)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps({"pid": mark.pid, "started": mark.started}), encoding="ascii")
        fresh.replace(path)


def end_recorded(path: Path) -> int:
    """End the process noted there, if it still runs; returns how many (0 or 1)."""
    try:
        noted = json.loads(path.read_text(encoding="ascii"))
        mark = ProcessMark(int(noted["pid"]), float(noted["started"]))
    except (OSError, ValueError, TypeError, KeyError):
        return 0
    return end([mark])
