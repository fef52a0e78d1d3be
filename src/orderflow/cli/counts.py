"""How many events wait, counted and said in one way by every command (see `messaging.inbox.Waits`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orderflow.messaging.inbox import Waits


def total(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The sum of what services or consumers have counted."""
    every = list(rows)
    return {str(each): sum(row[each] for row in every) for each in Waits}


def words(counts: Mapping[str, int]) -> str:
    """`3 dead, 0 retrying, 2 held`."""
    return ", ".join(f"{counts[each]} {each}" for each in Waits)
