"""Looking at a run and ending it, from another process."""

from __future__ import annotations

import contextlib
import signal
import sys
import time

import psutil

from orderflow.local import state
from orderflow.local.errors import LocalError
from orderflow.local.home import Home
from orderflow.local.run import end_leftovers
from orderflow.local.state import State

LOOK_EVERY_S = 0.05


def running(home: Home) -> State | None:
    """What runs; None when no supervisor does."""
    found = state.read(home.state)
    return found if found is not None and found.supervisor.find() is not None else None


def stop(home: Home, timeout_s: float) -> bool:
    """Ask the supervisor to stop everything and wait for it; says whether anything ran. Raises LocalError."""
    found = running(home)
    if found is None:
        return end_leftovers(home) > 0
    process = found.supervisor.find()
    if process is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            if sys.platform == "win32":
                (home.path / "stop.request").touch()
            else:
                process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while found.supervisor.find() is not None or home.is_locked():
        if time.monotonic() > deadline:
            raise LocalError(f"it did not stop within {timeout_s:.0f} s; its log is {home.logs / 'up.log'}")
        time.sleep(LOOK_EVERY_S)
    return True
