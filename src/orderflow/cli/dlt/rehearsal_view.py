"""A rehearsal as a person reads it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orderflow.cli.dlt.entries import entry
from orderflow.cli.dlt.letter_view import because, name_of, order_of, short
from orderflow.cli.output import text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

STYLES = MappingProxyType(
    {"succeeds": "green", "duplicate": "cyan", "held": "yellow", "busy": "yellow", "fails": "red", "illegal": "red"}
)


def listed(found: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """An entry for each event, with what it would change and publish, or how it would fail."""
    for each in found:
        yield from entry(
            (text(each["verdict"], STYLES.get(each["verdict"], "")), *name_of(each)),
            (
                order_of(each),
                text(short(because(each)), "red"),
                *(text(_change(row)) for row in each["rows"]),
                *(text(f"publishes {event['type']} on {event['topic']}") for event in each["events"]),
                *(text(f"asks for {intent}") for intent in each["intents"]),
            ),
        )


def summary(found: Sequence[Mapping[str, Any]]) -> Text:
    """How many of each verdict."""
    counts = Counter(each["verdict"] for each in found)
    return text(", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES if counts[verdict]), "bold")


def _change(row: Mapping[str, Any]) -> str:
    """The columns that differ; of a new row only its status, which is all of a new order or payment that matters."""
    before, after = row["before"], row["after"]
    if before is None:
        status = f": {_value(after['status'])}" if "status" in after else ""
        return f"{row['table']} new{status}"
    steps = ", ".join(f"{name} {_value(before.get(name))} -> {_value(value)}" for name, value in after.items())
    return f"{row['table']}: {steps}"


def _value(value: Any) -> str:
    return short(value if isinstance(value, str) else json.dumps(value))
