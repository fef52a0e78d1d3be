"""A small disk of our own that can be full: a tmpfs that only we and our children see."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

CLONE_NEWNS = 0x20000
ROOM_LEFT = 2 * 1024 * 1024
ANSWER_S = 20.0


class NoDiskError(Exception):
    """It cannot be had here; its text says why."""


class SmallDisk:
    """Mounted at `path` in a mount namespace of this process: it is gone with the last process that uses it."""

    def __init__(self, path: Path, megabytes: int) -> None:
        """Raises NoDiskError: not Linux, or no right to mount."""
        if not sys.platform.startswith("linux"):
            raise NoDiskError("a tmpfs of our own needs Linux")
        if os.geteuid() != 0:
            raise NoDiskError("only root may mount a tmpfs")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) != 0:
            raise NoDiskError(f"no mount namespace of our own: {os.strerror(ctypes.get_errno())}")
        self._path = path
        self._megabytes = megabytes
        _mount("--make-rprivate", "/")
        _mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=711", "tmpfs", str(path))

    def fill(self) -> None:
        """From now on it is full: it shrinks to what is on it. Raises NoDiskError."""
        used = shutil.disk_usage(self._path).used
        _mount("-o", f"remount,size={used + ROOM_LEFT}", str(self._path))

    def free(self) -> None:
        """As large as it was. Raises NoDiskError."""
        _mount("-o", f"remount,size={self._megabytes}m", str(self._path))


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, timeout=ANSWER_S, check=False)  # noqa: S603, S607
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoDiskError(f"mount cannot be run: {error}") from error
    if done.returncode != 0:
        raise NoDiskError(done.stderr.strip() or "mount failed")
