"""Following one order to its end over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from orderflow.cli.errors import UnreachableError
from orderflow.cli.http import ServiceClient
from orderflow.cli.order_view import is_final

HELD_S = 0.5
RETRY_S = 1.0
OWED = ("due", "refused")


def until_end(client: ServiceClient, order_id: str, timeout_s: float) -> Iterator[dict[str, Any] | None]:
    """The order again and again, the last time final, with no refund owed, or as it was when time was up.

    The service holds each answer for a moment, so an end is seen at once and a step within half a second.
    All of it takes no longer than `timeout_s`, also where answers do not come.
    Yields None while the service cannot be reached; the first call must reach it. Raises NotFoundError.
    """
    deadline = time.monotonic() + timeout_s
    order: dict[str, Any] | None = client.get(f"/orders/{order_id}", within_s=timeout_s)
    yield order
    while not (order and has_ended(order)) and (left_s := deadline - time.monotonic()) > 0:
        held_s = min(HELD_S, left_s)
        asked_at = time.monotonic()
        try:
            asked = {"wait": f"{held_s:.3f}"}
            order = client.get(f"/orders/{order_id}", asked, wait_s=held_s, within_s=left_s)
        except UnreachableError:
            order = None
        yield order
        early_s = (RETRY_S if order is None else held_s) - (time.monotonic() - asked_at)
        if early_s > 0 and not (order and has_ended(order)):
            time.sleep(min(early_s, max(0.0, deadline - time.monotonic())))


def has_ended(order: dict[str, Any]) -> bool:
    """Whether nothing more is to come: final, and no money to go back."""
    return is_final(order) and order.get("refund") not in OWED
