"""What went wrong, described so that it can be stored, grouped and shown."""

from __future__ import annotations

import hashlib
import traceback
from pathlib import PurePath

from orderflow.messaging.catalogue import UndecodableError
from orderflow.messaging.inbox import Failure
from orderflow.messaging.redaction import redact

MESSAGE_MAX = 500
READ_MAX = 2 * MESSAGE_MAX
INFRASTRUCTURE = "infrastructure"
PERMANENT = "permanent"
UNKNOWN = "unknown"


class InfrastructureError(Exception):
    """Something that a decision stands on is away. The message waits, and no attempt is counted."""


class FinalError(Exception):
    """What is stored rules the message out, now and later: it is given up at its first try, and says nothing about
    others of its type.

    A service's decisions raise this, or a class of their own made from it, for what their model forbids.
    """


def describe(error: BaseException) -> Failure:
    """The failure of a message: class, short printable text, and a fingerprint that groups equal ones."""
    name = type(error).__name__
    if isinstance(error, UndecodableError):
        return Failure(PERMANENT, name, shown(error.detail), _digest(f"{name}:{error.reason}:{error.about}"))
    return Failure(_kind(error), name, shown(_said(error)), _digest(f"{name}:{_first_own_frame(error)}"))


def _said(error: BaseException) -> str:
    """Its text. An error that cannot even say it is described all the same."""
    try:
        return str(error)
    except Exception as failed:  # noqa: BLE001  # a service's own code, which may raise whatever it likes
        return f"(its text cannot be had: {type(failed).__name__})"


def shown(text: str) -> str:
    """At most 500 characters without control characters and secrets: it may be shown and stored anywhere.

    More is read than is shown, so that a secret across the cut is still recognised.
    """
    redacted = redact(text[:READ_MAX])[:MESSAGE_MAX]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in redacted)


def _kind(error: BaseException) -> str:
    if isinstance(error, InfrastructureError):
        return INFRASTRUCTURE
    return PERMANENT if isinstance(error, FinalError) else UNKNOWN


def _first_own_frame(error: BaseException) -> str:
    """Where the service's own code raised: the innermost frame that is not the core's."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = [code for code in codes if "orderflow/messaging" not in code.co_filename.replace("\\", "/")]
    code = own[-1] if own else (codes[-1] if codes else None)
    return f"{PurePath(code.co_filename).name}:{code.co_name}" if code else ""


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
