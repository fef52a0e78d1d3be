"""Where lines go. A sink never raises and stops nobody: what cannot be written is dropped and counted."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Protocol

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
WAITING_BYTES_MAX = 1 << 20
LAST_WORDS_S = 1.0


class Sink(Protocol):
    """Takes whole lines. `dropped` counts writes that failed."""

    dropped: int

    def write(self, lines: bytes) -> None: ...

    def close(self) -> None: ...


def descriptor_sink(descriptor: int) -> Sink:
    """The sink that fits an open file descriptor: whoever reads a pipe, a socket or a terminal can stand still."""
    try:
        waits_for_nobody = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        waits_for_nobody = True
    return DescriptorSink(descriptor) if waits_for_nobody else BackgroundSink(descriptor)


class DescriptorSink:
    """Writes to an open file descriptor, at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.dropped = 0

    def write(self, lines: bytes) -> None:
        if not _written(self._descriptor, lines):
            self.dropped += 1

    def close(self) -> None:
        """The descriptor belongs to the process."""


class BackgroundSink:
    """Writes to an open file descriptor on a thread of its own, which may wait for the reader for ever.

    What waits is bounded by `waiting_bytes_max`; beyond, it is dropped.
    """

    def __init__(self, descriptor: int, waiting_bytes_max: int = WAITING_BYTES_MAX) -> None:
        self._descriptor = descriptor
        self._room = waiting_bytes_max
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._is_writing = False
        self.dropped = 0

    def write(self, lines: bytes) -> None:
        with self._changed:
            if self._closed or len(lines) > self._room or not self._runs():
                self.dropped += 1
                return
            self._room -= len(lines)
            self._waiting.append(lines)
            self._changed.notify_all()

    def close(self) -> None:
        """Wait a moment until everything is written. The descriptor belongs to the process."""
        self.flush(LAST_WORDS_S)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Whether everything was written, or failed, in that time."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._waiting or self._is_writing:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
        return True

    def _runs(self) -> bool:
        if self._thread is None:
            # A daemon: a write that never returns does not keep the process from its end.
            thread = threading.Thread(target=self._work, name=f"write-to-{self._descriptor}", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                lines = self._waiting.popleft()
                self._is_writing = True
            written = _written(self._descriptor, lines)
            with self._changed:
                self._is_writing = False
                self._room += len(lines)
                self.dropped += not written
                self._changed.notify_all()


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
            # A name that cannot be changed is no reason to lose lines: the file grows.
            with suppress(OSError):
                self._rotate()
        if self._descriptor < 0:
            self._open()
        if not _written(self._descriptor, lines):
            # A disk that fills up takes half a line; the next one must not be glued to it.
            os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(lines)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        self._descriptor = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._descriptor).st_size

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _rotate(self) -> None:
        self._close()
        for number in range(self._kept, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _written(descriptor: int, lines: bytes) -> bool:
    """Whether all of it could be written."""
    try:
        written = os.write(descriptor, lines)
        while written < len(lines):
            written += os.write(descriptor, lines[written:])
    except OSError:
        return False
    return True
