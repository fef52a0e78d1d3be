"""What a command says when it cannot do what it was asked: one sentence and a stable exit code.

Text from outside is data: shown, it can neither move the cursor nor reorder or hide what stands around it.
"""

from __future__ import annotations

import unicodedata
from enum import IntEnum
from typing import ClassVar

_JOINERS = "\u200c\u200d"
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: object) -> str:
    """The text with control, format and unassigned characters as escapes (`\\x1b`), on one line."""
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(_escaped(character) if _is_harmful(character) else character for character in shown)


def printable_block(text: str) -> str:
    """The same for text of several lines, whose line ends stay."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _is_harmful(character: str) -> bool:
    return unicodedata.category(character) in _HARMFUL and character not in _JOINERS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def counted(number: int, what: str) -> str:
    """`1 event`, `2 events`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


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


class RequestRefusedError(CliError):
    """The service understood the request and refuses it."""

    code = ExitCode.REFUSED
    kind = "refused"


class ProposedError(RequestRefusedError):
    """It takes two approvers: it waits for another one."""

    kind = "proposed"


class TimeUpError(CliError):
    """What was waited for did not happen in the time given."""

    code = ExitCode.TIME_UP
    kind = "time_up"


class ReaderGoneError(Exception):
    """Whoever read our standard output has closed it (click would end a BrokenPipeError as a failure)."""
