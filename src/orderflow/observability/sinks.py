"""Where log lines go. A sink never raises and never stops a service: what cannot be written is counted."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Protocol

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Sink(Protocol):
    """Takes whole lines. `dropped` counts writes that failed."""

    dropped: int

    def write(self, lines: bytes) -> None: ...

    def close(self) -> None: ...


class DescriptorSink:
    """Writes to an open file descriptor (2 for standard error)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.dropped = 0

    def write(self, lines: bytes) -> None:
        try:
            written = os.write(self._descriptor, lines)
            while written < len(lines):
                written += os.write(self._descriptor, lines[written:])
        except OSError:
            self.dropped += 1

    def close(self) -> None:
        """The descriptor belongs to the process."""


class RotatingFileSink:
    """Appends to a file; at `max_bytes` it becomes `name.1`, the older ones move up, `kept` of them stay."""

    def __init__(self, path: Path, max_bytes: int, kept: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._lock = threading.Lock()
        self._descriptor = -1
        self._size = 0
        self.dropped = 0

    def open(self) -> None:
        """Find out at the start whether the file can be written. Raises OSError, not for a full disk."""
        try:
            self._open()
        except OSError as error:
            if error.errno not in _FULL:
                raise

    def write(self, lines: bytes) -> None:
        with self._lock:
            try:
                self._append(lines)
            except OSError:
                self.dropped += 1
                self._close()

    def close(self) -> None:
        with self._lock:
            self._close()

    def _append(self, lines: bytes) -> None:
        if self._descriptor >= 0 and self._size + len(lines) > self._max_bytes and self._size > 0:
            self._rotate()
        if self._descriptor < 0:
            self._open()
        self._size += os.write(self._descriptor, lines)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        self._descriptor = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._descriptor).st_size

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _rotate(self) -> None:
        self._close()
        for number in range(self._kept, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
