"""A rehearsal as a person reads it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orderflow.cli.dlt.letter_view import because, short
from orderflow.cli.output import block, table, text

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

STYLES = MappingProxyType(
    {"succeeds": "green", "duplicate": "cyan", "held": "yellow", "busy": "yellow", "fails": "red", "illegal": "red"}
)


def table_of(found: Sequence[Mapping[str, Any]]) -> Table:
    """One line an event, with what it would change and publish, or how it would fail."""
    return table(
        ("service", "position", "type", "order", "verdict", "what would change", "what would be said"),
        [
            (
                each["service"],
                each["position"],
                each["event_type"],
                each["key"],
                text(each["verdict"], STYLES.get(each["verdict"], "")),
                _changes(each),
                _said(each),
            )
            for each in found
        ],
        right=("position",),
    )


def summary(found: Sequence[Mapping[str, Any]]) -> Text:
    """How many of each verdict."""
    counts = Counter(each["verdict"] for each in found)
    return text(", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES if counts[verdict]), "bold")


def _changes(each: Mapping[str, Any]) -> Text:
    if each["error"]:
        return text(short(because(each)), "red")
    return block("\n".join(_change(row) for row in each["rows"]))


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


def _said(each: Mapping[str, Any]) -> Text:
    events = [f"{event['type']} on {event['topic']}" for event in each["events"]]
    intents = [f"asks for {intent}" for intent in each["intents"]]
    return block("\n".join([*events, *intents]))
