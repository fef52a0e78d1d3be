"""Folders that we make. The mode and the owner of one that was there before are left alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from orderflow.local.errors import LocalError

SPACE_NEEDED_MB = 200
FULL_BELOW_MB = 32
"""PostgreSQL stops when it finds no room for one more segment of its log, which has 16 MiB."""


def make(path: Path, *, mode: int = 0o700) -> bool:
    """Make a folder and its parents where missing; says whether it did. Raises LocalError."""
    if path.is_dir():
        return False
    try:
        missing = [step for step in (path, *path.parents) if not step.exists()]
        for step in reversed(missing):
            step.mkdir()
            # Not by the mask of whoever runs us: PostgreSQL may have to pass as another user.
            step.chmod(mode)
    except OSError as error:
        raise LocalError(f"cannot make the folder {path}: {error.strerror or error}") from error
    return True


def require_writable(path: Path) -> None:
    """Raises LocalError when we have no right to write there."""
    if not os.access(path, os.W_OK | os.X_OK):
        raise LocalError(f"no right to write in {path}; choose another folder with --home or ORDERFLOW_HOME")


def require_room(path: Path) -> None:
    """Raises LocalError when there is too little for new data; what is there already starts with less."""
    free_mb = shutil.disk_usage(path).free // 1_000_000
    if free_mb < SPACE_NEEDED_MB:
        raise LocalError(
            f"the disk that holds {path} is full: {free_mb} MB free, at least {SPACE_NEEDED_MB} MB are needed"
        )


def full(path: Path) -> str:
    """One sentence when the disk that holds this folder is full; else nothing."""
    try:
        free_mb = shutil.disk_usage(path).free // 1_000_000
    except OSError:
        return ""
    if free_mb >= FULL_BELOW_MB:
        return ""
    return (
        f"the disk that holds {path} is full: {free_mb} MB free; make room, and what stopped comes back by itself "
        "within some 10 s"
    )


def passable() -> int:
    """The mode of folders on the way to PostgreSQL's data: as root, it passes them as another user."""
    return 0o711 if os.name == "posix" and os.geteuid() == 0 else 0o700
