"""Text from outside, made harmless for logs: printable, short, without passwords."""

from __future__ import annotations

import re

TEXT_MAX = 500
_URL_PASSWORD = re.compile(r"(://[^\s:@/]*):[^\s/]*@")
_NAMED_SECRET = re.compile(r"\b(password|passwd|secret|token)=[^&\s]+", re.IGNORECASE)


def clean(text: str) -> str:
    """`text` without what moves a cursor, breaks a line or reverses it; at most 500 characters."""
    if text.isprintable() and len(text) <= TEXT_MAX:
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text[:TEXT_MAX])


def redact(text: str) -> str:
    """Clean text in which passwords of URLs and of `password=` are replaced by ***."""
    return clean(_NAMED_SECRET.sub(r"\1=***", _URL_PASSWORD.sub(r"\1:***@", text)))
