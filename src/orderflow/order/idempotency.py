"""The header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from orderflow.runtime.problem_types import KEY_REUSED, MALFORMED_KEY, REQUEST_IN_PROGRESS
from orderflow.runtime.problems import FieldError, ProblemError

HEADER = "Idempotency-Key"
KEY_MAX = 255
PATTERN = (
    rf'^(?:"(?:[ !#-\[\]-~]|\\["\\]){{1,{KEY_MAX}}}"'
    rf"|[!#-+\--:<-\[\]-~]{{1,{KEY_MAX}}})$"
)
"""What `parse_key` takes, for the document."""

_STRING = re.compile(r'^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$')
_BARE = re.compile(r"^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+$")
_ESCAPE = re.compile(r"\\(.)")


def parse_key(header: str) -> str:
    """The key in the header: a string of RFC 9651 (`"8e03978e"`), or the same without its quotes.

    Raises ProblemError 400: not such a string, or not 1 to 255 characters long.
    """
    text = header.strip(" \t")
    quoted = _STRING.fullmatch(text)
    if quoted is not None:
        key = _ESCAPE.sub(r"\1", quoted[1])
    elif _BARE.fullmatch(text):
        key = text
    else:
        raise _malformed('wanted is a text in quotes: "8e03978e-40d5"')
    if not 1 <= len(key) <= KEY_MAX:
        raise _malformed(f"wanted are 1 to {KEY_MAX} characters")
    return key


def fingerprint(order: msgspec.Struct) -> str:
    """Equal for equal orders, however their JSON was spaced and sorted."""
    return hashlib.blake2b(msgspec.json.encode(order), digest_size=16).hexdigest()


class InFlight:
    """The keys whose first request is being carried out in this process."""

    def __init__(self) -> None:
        self._keys: set[str] = set()

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Raises ProblemError 409 while another request holds the key."""
        if key in self._keys:
            detail = f"a request with this {HEADER} is still being carried out"
            raise ProblemError(409, detail, kind=REQUEST_IN_PROGRESS, retry_after_s=1)
        self._keys.add(key)
        try:
            yield
        finally:
            self._keys.discard(key)


def key_reused() -> ProblemError:
    """422, as the draft has it for a key that comes with another content."""
    detail = "was used for an order with another content"
    named = FieldError(detail=detail, parameter=HEADER)
    return ProblemError(422, f"{HEADER}: {detail}", kind=KEY_REUSED, errors=[named])


def _malformed(detail: str) -> ProblemError:
    named = FieldError(detail=detail, parameter=HEADER)
    return ProblemError(400, f"{HEADER}: {detail}", kind=MALFORMED_KEY, errors=[named])
