"""Text from outside, made harmless for logs: printable, short, without secrets."""

from __future__ import annotations

from orderflow.messaging import redaction

TEXT_MAX = 500
READ_MAX = 2 * TEXT_MAX


def clean(text: str) -> str:
    """`text` without what moves a cursor, breaks a line or reverses it; at most 500 characters."""
    if text.isprintable() and len(text) <= TEXT_MAX:
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text[:TEXT_MAX])


def redact(text: str) -> str:
    """Clean text in which secrets and personal data are replaced by ***."""
    return clean(redaction.redact(text[:READ_MAX]))
