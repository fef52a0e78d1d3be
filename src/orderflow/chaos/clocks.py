"""Wall clocks that jump: libfaketime before chosen processes, steered by a file. Monotonic clocks go on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
NAME = "faketime/libfaketimeMT.so.1"


def library() -> Path | None:
    """Where libfaketime is, if there is one (Debian, Ubuntu: apt install libfaketime)."""
    if not sys.platform.startswith("linux"):
        return None
    return next(iter(_found()), None)


def _found() -> Iterator[Path]:
    for folder in map(Path, FOLDERS):
        yield from (path for path in (folder / NAME, *folder.glob(f"*/{NAME}")) if path.is_file())


def clear_leftovers() -> None:
    """Take away what libfaketime leaves in shared memory of processes that were killed."""
    for path in Path("/dev/shm").glob("*faketime_s*"):  # noqa: S108  (its place, not ours)
        _, _, pid = path.name.rpartition("_")
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            with contextlib.suppress(OSError):
                path.unlink()


class FakeClock:
    """The wall clock of every process that was started with `environment`."""

    def __init__(self, path: Path, preload: Path) -> None:
        self._path = path
        self._preload = preload
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._preload),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def set(self, offset_s: int) -> None:
        """So far from the true time from now on (within a second)."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}\n", encoding="ascii")
        fresh.chmod(0o644)
        fresh.replace(self._path)
