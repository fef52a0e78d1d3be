"""Deleting the data of a home."""

from __future__ import annotations

import shutil

from orderflow.local import cluster
from orderflow.local.errors import LocalError
from orderflow.local.home import HARMLESS, Home
from orderflow.local.run import end_leftovers


def require_erasable(home: Home) -> bool:
    """Whether there is a home. Raises LocalError when it is in use, or when the folder is something else."""
    if not home.path.exists() or all(entry.name in HARMLESS for entry in home.path.iterdir()):
        return False
    if not home.exists():
        raise LocalError(f"{home.path} is not a home of Orderflow; nothing was deleted")
    if home.is_locked():
        raise LocalError(f"Orderflow runs on {home.path}; stop it first: orderflow down")
    return True


def erase(home: Home) -> None:
    """Delete everything but what was there before us. Raises LocalError."""
    with home.lock():
        end_leftovers(home)
        cluster.clear_leftovers(home.path / "postgres" / "data")
        # The marker goes last: a half-deleted home is still known as one.
        entries = sorted(home.path.iterdir(), key=lambda entry: entry == home.marker)
        for entry in entries:
            if entry.name in HARMLESS or entry == home.lock_file:
                continue
            try:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            except OSError as error:
                raise LocalError(f"cannot delete {entry}: {error.strerror or error}") from error
    home.lock_file.unlink(missing_ok=True)
