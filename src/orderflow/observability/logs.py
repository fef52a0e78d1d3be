"""The log: JSON lines, or readable coloured text on a terminal; repetitions are summed up, and no reader stops us.

Text from outside is made harmless first: printable, short, without secrets.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from orderflow.core import failures
from orderflow.core.timing import Clock

TEXT_MAX = 500
READ_MAX = 2 * TEXT_MAX


def clean(text: str) -> str:
    """`text` without what moves a cursor, breaks a line or reverses it; at most 500 characters."""
    if text.isprintable() and len(text) <= TEXT_MAX:
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text[:TEXT_MAX])


def redact(text: str) -> str:
    """Clean text in which secrets and personal data are replaced by ***."""
    return clean(failures.redact(text[:READ_MAX]))


Format = Literal["auto", "json", "text"]
_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_RESET = "\x1b[0m"
FIRST = frozenset({"time", "level", "service", "action"})
ALIKE = ("component", "consumer", "fingerprint", "logger", "where")
"""Fields that make warnings of one action different kinds; so does the class of an error, its text does not."""
TOLD_FIRST = 5
EVERY_S = 10.0
KINDS_MAX = 200
OTHERS = "others"
Line = dict[str, object]
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
WAITING_BYTES_MAX = 1 << 20
LAST_WORDS_S = 1.0


class Level(IntEnum):
    """How much a line matters."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40

    @classmethod
    def named(cls, name: str) -> Level:
        return cls[name.upper()]


_NAMES = {level: level.name.lower() for level in Level}


class LogWriter:
    """Writes lines of `time` (RFC 3339, ms), `level`, `service`, `action` and what else concerns them.

    Warnings and errors that repeat themselves are summed up, whoever writes them: see `Repeats`.
    """

    def __init__(self, service: str, sink: Sink, *, level: Level, text: bool, colour: bool, clock: Clock) -> None:
        self.service = service
        self.level = level
        self._sink = sink
        self._encode = _text_encoder(colour=colour) if text else _json_encoder()
        self._clock = clock
        self._repeats = Repeats()
        self._dropped = 0

    def write(self, level: Level, action: str, fields: Mapping[str, object] | None = None, *, like: str = "") -> None:
        """One line, if `level` is wanted. `like`: what sets its kind apart, where no field does."""
        if level < self.level:
            return
        line = {**self.head(level, action), **(fields or {})}
        if level < Level.WARNING or self.admits(line, like):
            self.write_lines([line])

    def admits(self, line: Line, like: str = "") -> bool:
        """Whether this line is to be written, or was counted: like so many before it, it is summed up."""
        now = self._clock.monotonic()
        self._sum_up(now)
        error = str(line.get("error", "")).partition(":")[0]
        return self._repeats.admit((line["action"], error, like, *(str(line.get(name)) for name in ALIKE)), line, now)

    def write_lines(self, lines: Sequence[Line]) -> None:
        """Several lines with one system call. Texts must be clean already.

        After writes that failed a line `log-dropped` stands first: how many of this process did so far.
        """
        if not lines:
            return
        if self._sink.dropped > self._dropped:
            self._dropped = self._sink.dropped
            lines = [{**self.head(Level.WARNING, "log-dropped"), "writes": self._dropped}, *lines]
        self._sink.write(self._encode(lines))

    def head(self, level: Level, action: str) -> Line:
        """The fields with which every line begins."""
        return {"time": self.now(), "level": _NAMES[level], "service": self.service, "action": action}

    def now(self) -> str:
        """RFC 3339 in UTC with ms."""
        moment = datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC)
        return f"{moment.isoformat(timespec='milliseconds')[:-6]}Z"

    async def sum_up(self) -> None:
        """Wait for the end of an interval, and write what was counted in it. Call it again and again."""
        await self._clock.sleep(EVERY_S)
        self._sum_up(self._clock.monotonic())

    def close(self) -> None:
        """What was counted is told."""
        self._sum_up(self._clock.monotonic(), at_once=True)
        self._sink.close()

    def _sum_up(self, now: float, *, at_once: bool = False) -> None:
        self.write_lines([{**line, "time": self.now()} for line in self._repeats.summed_up(now, at_once=at_once)])


def open_log(
    service: str,
    *,
    style: Format,
    level: str,
    file: os.PathLike[str] | None,
    file_max_bytes: int,
    files_kept: int,
    clock: Clock,
) -> LogWriter:
    """The writer that settings ask for: to `file`, which rotates itself, or to standard error.

    Raises OSError when `file` cannot be written.
    """
    terminal = file is None and os.isatty(2)
    if file is None:
        sink: Sink = descriptor_sink(2)
    else:
        sink = RotatingFileSink(Path(file), file_max_bytes, files_kept)
        sink.open()
    text = style == "text" or (style == "auto" and terminal)
    colour = terminal and not os.environ.get("NO_COLOR")
    return LogWriter(service, sink, level=Level.named(level), text=text, colour=colour, clock=clock)


def _json_encoder() -> Callable[[Sequence[Line]], bytes]:
    return msgspec.json.Encoder().encode_lines


def _text_encoder(*, colour: bool) -> Callable[[Sequence[Line]], bytes]:
    def encode(lines: Sequence[Line]) -> bytes:
        return "".join(as_text(line, colour=colour) for line in lines).encode("utf-8", "backslashreplace")

    return encode


def as_text(line: Line, *, colour: bool) -> str:
    """A line with all of the first fields, for people; it ends with a line break."""
    level = str(line["level"])
    shown = f"{level:7}"
    if colour:
        shown = f"{_COLOURS.get(level, '')}{shown}{_RESET}"
    rest = " ".join(f"{name}={_value(value)}" for name, value in line.items() if name not in FIRST)
    return f"{str(line['time'])[11:23]} {shown} {line['service']} {line['action']} {rest}".rstrip() + "\n"


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(_value(item) for item in value)
    text = clean(str(value))
    return f'"{text}"' if " " in text else text


@dataclass(slots=True)
class _Kind:
    """Lines of one kind since `began` (monotonic, s): `told` were written, `more` were not, `example` is the last."""

    began: float
    told: int = 0
    more: int = 0
    example: Line | None = None


class Repeats:
    """Lets the first lines of a kind through; then it sums up, one line a kind and interval, until the kind is quiet
    for a whole interval. The kinds beyond KINDS_MAX are one kind. For several threads.
    """

    def __init__(self) -> None:
        self._kinds: dict[Hashable, _Kind] = {}
        self._lock = threading.Lock()

    def admit(self, like: Hashable, line: Line, now: float) -> bool:
        """Whether the line is to be written; if not, it is counted. `like`: what lines of its kind have in common."""
        with self._lock:
            kind = self._kinds.get(like)
            if kind is None:
                if len(self._kinds) >= KINDS_MAX:
                    like = OTHERS
                kind = self._kinds.setdefault(like, _Kind(now))
            if kind.told < TOLD_FIRST:
                kind.told += 1
                return True
            kind.more += 1
            kind.example = line
            return False

    def summed_up(self, now: float, *, at_once: bool = False) -> list[Line]:
        """A line for each kind whose interval is over, or for all of them (`at_once`): the last that was not written,
        with `repeated`, how many were not, and `within_s`.
        """
        lines: list[Line] = []
        with self._lock:
            for like, kind in list(self._kinds.items()):
                since = now - kind.began
                if since < EVERY_S and not at_once:
                    continue
                if kind.example is None:
                    del self._kinds[like]
                    continue
                lines.append({**kind.example, "repeated": kind.more, "within_s": round(since, 1)})
                kind.began, kind.more, kind.example = now, 0, None
        return lines


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
