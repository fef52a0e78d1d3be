"""The log writer: JSON lines, or readable coloured text on a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Literal

import msgspec

from orderflow.messaging.clock import Clock
from orderflow.observability.repeats import EVERY_S, Line, Repeats
from orderflow.observability.sinks import RotatingFileSink, Sink, descriptor_sink
from orderflow.observability.text import clean

Format = Literal["auto", "json", "text"]
_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_RESET = "\x1b[0m"
FIRST = frozenset({"time", "level", "service", "action"})
ALIKE = ("component", "consumer", "fingerprint", "logger", "where")
"""Fields that make warnings of one action different kinds; so does the class of an error, its text does not."""


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
    colour = terminal and "NO_COLOR" not in os.environ
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
