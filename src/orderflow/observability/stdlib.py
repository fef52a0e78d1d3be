"""The standard library's logging, led into the one log writer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from orderflow.observability.logs import Level, LogWriter
from orderflow.observability.signal_log import error_fields
from orderflow.observability.text import redact

NUMBERS = re.compile(r"0x[0-9a-f]+|[0-9]+")
TEMPLATE_MAX = 100


class WriterHandler(logging.Handler):
    """Writes records of warning level and above as lines with action `library`."""

    def __init__(self, log: LogWriter) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            detail = redact(record.getMessage().strip())
        except Exception:  # noqa: BLE001  (a wrong format string in a library must not become ours)
            detail = redact(str(record.msg))
        fields: dict[str, object] = {"logger": record.name, "message": detail}
        if record.exc_info and record.exc_info[1] is not None:
            fields |= error_fields(record.exc_info[1])
        level = Level.ERROR if record.levelno >= logging.ERROR else Level.WARNING
        self._log.write(level, "library", fields, like=NUMBERS.sub("#", str(record.msg)[:TEMPLATE_MAX]))


@contextmanager
def routed_logging(log: LogWriter) -> Iterator[None]:
    """Within this block the root logger writes to `log` alone, warnings of the interpreter included."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers[:] = [WriterHandler(log)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(level)
        root.handlers[:] = before
