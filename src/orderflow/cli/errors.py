"""What a command says when it cannot do what it was asked: one sentence and a stable exit code."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Stable: programs may rely on these numbers."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    REFUSED = 5
    TIME_UP = 6
    INTERRUPTED = 130
    READER_GONE = 141


class CliError(Exception):
    """Its text says what was wrong, what was wanted and what to do. `kind` names it for programs."""

    code: ClassVar[ExitCode] = ExitCode.FAILED
    kind: ClassVar[str] = "failed"


class UnreachableError(CliError):
    """A service, a database or the log does not answer, or cannot answer now."""

    code = ExitCode.UNREACHABLE
    kind = "unreachable"


class UsageOfIdError(CliError):
    """A short id that could mean several."""

    code = ExitCode.USAGE
    kind = "usage"


class NotFoundError(CliError):
    """The order, topic or event that was named does not exist."""

    code = ExitCode.NOT_FOUND
    kind = "not_found"


class RefusedError(CliError):
    """The service understood the request and refuses it."""

    code = ExitCode.REFUSED
    kind = "refused"


class TimeUpError(CliError):
    """What was waited for did not happen in the time given."""

    code = ExitCode.TIME_UP
    kind = "time_up"


class ReaderGoneError(Exception):
    """Whoever read our standard output has closed it (click would end a BrokenPipeError as a failure)."""
