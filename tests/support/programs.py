"""Programs that do nothing until they are ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bystander(user: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process of no interest to anybody; `user` (only root may say so) is whom it belongs to."""
    command = [sys.executable, "-c", "input()"] if user is None else ["/bin/cat"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, user=user)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
