"""The log writer: JSON lines, or readable coloured text on a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Literal

import msgspec

from orderflow.observability.sinks import RotatingFileSink, Sink, descriptor_sink
from orderflow.observability.text import clean

Line = dict[str, object]
Format = Literal["auto", "json", "text"]
_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_RESET = "\x1b[0m"
FIRST = frozenset({"time", "level", "service", "action"})


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

    `wall_ms` is the time now in ms since the epoch.
    """

    def __init__(
        self, service: str, sink: Sink, *, level: Level, text: bool, colour: bool, wall_ms: Callable[[], int]
    ) -> None:
        self.service = service
        self.level = level
        self._sink = sink
        self._encode = _text_encoder(colour=colour) if text else _json_encoder()
        self._wall_ms = wall_ms
        self._dropped = 0

    def write(self, level: Level, action: str, fields: Mapping[str, object] | None = None) -> None:
        """One line, if `level` is wanted."""
        if level >= self.level:
            self.write_lines([{**self.head(level, action), **(fields or {})}])

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
        moment = datetime.fromtimestamp(self._wall_ms() / 1000, UTC)
        return f"{moment.isoformat(timespec='milliseconds')[:-6]}Z"

    def close(self) -> None:
        self._sink.close()


def open_log(
    service: str,
    *,
    style: Format,
    level: str,
    file: os.PathLike[str] | None,
    file_max_bytes: int,
    files_kept: int,
    wall_ms: Callable[[], int],
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
    return LogWriter(service, sink, level=Level.named(level), text=text, colour=colour, wall_ms=wall_ms)


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
