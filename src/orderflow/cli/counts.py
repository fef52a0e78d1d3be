"""How many events wait, counted and said in one way by every command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

WAITS = ("dead", "retrying", "held")
"""`messaging.inbox.Waits`, whose module takes a while to load."""


def total(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The sum of what services or consumers have counted."""
    every = list(rows)
    return {each: sum(row[each] for row in every) for each in WAITS}


def words(counts: Mapping[str, int]) -> str:
    """`3 dead, 0 retrying, 2 held`."""
    return ", ".join(f"{counts[each]} {each}" for each in WAITS)
