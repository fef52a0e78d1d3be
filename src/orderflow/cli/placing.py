"""Placing one order so that it can be placed again safely."""

from __future__ import annotations

from typing import Any

import click

from orderflow.cli.http import AnswerLostError, ServiceClient

KEY_HEADER = "Idempotency-Key"


def place_order(client: ServiceClient, wanted: dict[str, Any], key: str) -> tuple[dict[str, Any], bool]:
    """The order, and whether an earlier request of this key had placed it.

    Raises AnswerLostError that says how to ask again, and what `ServiceClient.ask` raises.
    """
    headers = {KEY_HEADER: quoted(key)}
    try:
        answer = client.ask("POST", "/orders", body=wanted, headers=headers)
    except AnswerLostError as error:
        raise AnswerLostError(
            f"{error}. Whether the order was placed is not known; to ask again without placing it twice, "
            f"repeat the command with --idempotency-key {key}"
        ) from error
    return answer.body, answer.headers.get("idempotency-replayed") == "true"


def quoted(key: str) -> str:
    """As a string of RFC 9651. Raises click.UsageError."""
    if not (key.isascii() and key.isprintable() and 0 < len(key) <= 255):
        raise click.UsageError(f"--idempotency-key is {key[:40]!r}; wanted: 1 to 255 printable ASCII characters")
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
