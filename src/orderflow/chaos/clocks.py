"""Wall clocks that jump, each steered by a file. Monotonic clocks go on.

Of our services by a module that Python loads at its start (`clock_site`): libfaketime stands before the locks of
threads as well, and a jump then holds up Python itself. Of PostgreSQL, which has no threads, by libfaketime.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
NAME = "faketime/libfaketime.so.1"
SITE = Path(__file__).with_name("clock_site")


class JumpingClock:
    """The wall clock of every process that was started with `environment`."""

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        self._path = path
        self.environment = environment
        self.set(0)

    def set(self, offset_s: int) -> None:
        """So far from the true time from now on (within a second)."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}\n", encoding="ascii")
        fresh.chmod(0o644)
        fresh.replace(self._path)


def of_python(path: Path) -> JumpingClock:
    """For Python programs."""
    before = os.environ.get("PYTHONPATH")
    folders = os.pathsep.join([str(SITE), *([before] if before else [])])
    return JumpingClock(path, {"PYTHONPATH": folders, "CHAOS_CLOCK": str(path)})


def of_any(path: Path) -> JumpingClock | None:
    """For other programs; None where there is no libfaketime (Debian, Ubuntu: apt install libfaketime)."""
    preload = next(_libraries(), None) if sys.platform.startswith("linux") else None
    if preload is None:
        return None
    environment = {
        "LD_PRELOAD": str(preload),
        "FAKETIME_TIMESTAMP_FILE": str(path),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }
    return JumpingClock(path, environment)


def clear_leftovers() -> None:
    """Take away what libfaketime leaves in shared memory of processes that were killed."""
    for path in Path("/dev/shm").glob("*faketime_s*"):  # noqa: S108  (its place, not ours)
        _, _, pid = path.name.rpartition("_")
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            with contextlib.suppress(OSError):
                path.unlink()


def _libraries() -> Iterator[Path]:
    for folder in map(Path, FOLDERS):
        yield from (path for path in (folder / NAME, *folder.glob(f"*/{NAME}")) if path.is_file())
