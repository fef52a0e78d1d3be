"""Where tests keep their temporary files: in memory, where the machine has room for them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
ROOM_BYTES = 2 * 1024**3


def keep_in_memory() -> None:
    """Move the temp folder of this process, and of those it starts, into memory; not when TMPDIR says where it is.

    A database is made and removed there at a fraction of the cost. What a process has written outlives its
    `kill -9` there as it does on a disk.
    """
    if "TMPDIR" not in os.environ and has_room(SHARED_MEMORY):
        os.environ["TMPDIR"] = str(SHARED_MEMORY)
        tempfile.tempdir = None


def has_room(folder: Path) -> bool:
    """Containers often have a small one (64 MB), systems other than Linux none."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    return min(shutil.disk_usage(folder).free, int(psutil.virtual_memory().available)) >= ROOM_BYTES
