"""Dead letters as a person reads them."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orderflow.cli.output import joined, table, text
from orderflow.cli.record_view import value_text
from orderflow.cli.times import moment

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

SHOWN_OF_MESSAGE = 80


def table_of(letters: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each."""
    return table(
        ("service", "position", "event id", "type", "order", "why", "attempts", "given up"),
        [
            (
                letter["service"],
                letter["position"],
                letter["event_id"],
                letter["event_type"],
                letter["key"],
                _short(_why(letter)),
                letter["attempts"],
                moment(letter["last_failed_at"] or letter["parked_at"]),
            )
            for letter in letters
        ],
        right=("position", "attempts"),
    )


def parts(shown: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Everything on one event."""
    letter = shown["letter"]
    yield joined(
        text(letter["event_type"] or "(no type)", "bold"),
        text(f"  {letter['event_id']}  "),
        text(letter["state"], "bold red" if letter["state"] == "dead" else "bold yellow"),
    )
    facts = {
        "service": f"{shown['service']}, consumer {letter['consumer']}, position {letter['position']}",
        "order": letter["key"],
        "record": f"{letter['topic']}/{letter['partition']}@{letter['offset']}",
        "why": _why(letter),
        "fingerprint": letter["fingerprint"],
        "attempts": letter["attempts"],
        "came in": moment(letter["parked_at"]),
        "first failed": moment(letter["first_failed_at"]),
        "last failed": moment(letter["last_failed_at"]),
    }
    if letter["state"] != "dead":
        facts["next attempt"] = moment(letter["next_attempt_at"])
    for name, fact in facts.items():
        yield joined(text(f"  {name + ':':<14}", "dim"), text(fact))
    for name, value in shown["headers"]:
        yield joined(text(f"  {name}: ", "dim"), text(_content(value), "dim"))
    yield value_text(_bytes(shown["value"]))
    yield ""


def _why(letter: Mapping[str, Any]) -> str:
    said = [letter["kind"], letter["error"], letter["message"]]
    return ": ".join(part for part in said if part)


def _short(words: str) -> str:
    return words if len(words) <= SHOWN_OF_MESSAGE else f"{words[:SHOWN_OF_MESSAGE]}..."


def _content(content: Mapping[str, Any]) -> str:
    if content["text"] is not None:
        return str(content["text"])
    return "(none)" if content["base64"] is None else f"base64 {content['base64']}"


def _bytes(content: Mapping[str, Any]) -> bytes | None:
    if content["text"] is not None:
        return str(content["text"]).encode()
    return None if content["base64"] is None else b64decode(content["base64"])
