"""The header `traceparent` (W3C Trace Context, level 1)."""

from __future__ import annotations

import random
import re

_VALID = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.DOTALL)
_VERSION_00_LENGTH = 55


def accept_traceparent(header: bytes | None, chance: random.Random) -> str:
    """The caller's trace, or a new sampled one when there is none or it is not valid."""
    if header is not None and _is_valid(header):
        return header[:_VERSION_00_LENGTH].decode("ascii")
    bits = chance.getrandbits(192)
    return f"00-{bits >> 64:032x}-{bits & 0xFFFF_FFFF_FFFF_FFFF:016x}-01"


def _is_valid(header: bytes) -> bool:
    if header.startswith(b"00") and len(header) != _VERSION_00_LENGTH:
        return False
    return _VALID.fullmatch(header) is not None
