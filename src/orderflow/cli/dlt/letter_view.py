"""Dead letters as a person reads them."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orderflow.cli.dlt.entries import entry
from orderflow.cli.output import block, joined, text
from orderflow.cli.plain import counted
from orderflow.cli.record_view import value_text
from orderflow.cli.tables import Forms, ident, table, when
from orderflow.cli.times import moment

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

SHOWN_OF_MESSAGE = 160
SHOWN_OF_VALUE = 10_000
SET_OUT_MAX = 200_000
SHOWN_HEADERS = 50
STYLES = MappingProxyType({"dead": "bold red", "retrying": "bold yellow", "held": "cyan"})


def listed(letters: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """An entry for each."""
    for letter in letters:
        behind = f", {letter['behind']} behind it" if letter["behind"] else ""
        failed = f"failed {moment(letter['last_failed_at'])}, attempt {letter['attempts']}"
        since = failed if letter["attempts"] else f"came in {moment(letter['parked_at'])}"
        yield from entry(
            (state(letter["state"]), *name_of(letter)),
            (order_of(letter), text(f"{since}{behind}", "dim"), text(short(because(letter)), "red")),
        )


def name_of(letter: Mapping[str, Any]) -> Sequence[Forms | Text]:
    """Where an event is, what, and which."""
    return (
        text(f"{letter['service']} {letter['position']}", "bold"),
        text(short(letter["event_type"]) or "(no type)", "cyan"),
        ident(letter["event_id"]),
    )


def order_of(letter: Mapping[str, Any]) -> Text:
    """The order that the event belongs to; a key is an order's id, or whatever came as one."""
    return text(f"order {short(letter['key'])}")


def parts(shown: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Everything on one event."""
    letter = shown["letter"]
    yield joined(
        text(short(letter["event_type"]) or "(no type)", "bold"),
        text(f"  {letter['event_id']}  "),
        state(letter["state"]),
        text("  edited" if letter["edited"] else "", "yellow"),
    )
    for name, fact in _facts(shown).items():
        yield joined(text(f"  {name + ':':<14}", "dim"), text(fact))
    for name, value in shown["headers"][:SHOWN_HEADERS]:
        yield joined(text(f"  {short(name)}: ", "dim"), text(_content(value), "dim"))
    if len(shown["headers"]) > SHOWN_HEADERS:
        more = counted(len(shown["headers"]) - SHOWN_HEADERS, "more header")
        yield text(f"  ... and {more}; all of them: orderflow dlt show --json", "dim")
    yield from _value(shown["value"])
    yield from _original(shown["original"])
    yield ""
    yield from history(shown["history"])
    yield from _followers(shown["followers"], letter["behind"])
    if letter["state"] == "dead":
        yield text(f"See what a replay would do with: orderflow dlt rehearse {letter['event_id']}", "dim")
    yield ""


def state(value: str) -> Text:
    return text(value, STYLES.get(value, ""))


def short(words: str) -> str:
    return words if len(words) <= SHOWN_OF_MESSAGE else f"{words[:SHOWN_OF_MESSAGE]}..."


def because(failed: Mapping[str, Any]) -> str:
    """The error and its message, of a letter, a group or a moment of a letter's life."""
    return ": ".join(part for part in (failed["error"], failed["message"]) if part)


def bytes_of(content: Mapping[str, Any]) -> bytes | None:
    if content["text"] is not None:
        return str(content["text"]).encode()
    return None if content["base64"] is None else b64decode(content["base64"])


def _facts(shown: Mapping[str, Any]) -> Mapping[str, object]:
    letter, order = shown["letter"], shown["order"]
    facts = {
        "service": f"{shown['service']}, consumer {letter['consumer']}, position {letter['position']}",
        "order": f"{letter['key']} is {order['status']}" if order else short(letter["key"]),
        "record": _place(letter),
        "why": ": ".join(part for part in (letter["kind"], because(letter)) if part),
        "fingerprint": letter["fingerprint"],
        "attempts": letter["attempts"],
        "replays": letter["replays"],
        "came in": moment(letter["parked_at"]),
        "first failed": moment(letter["first_failed_at"]),
        "last failed": moment(letter["last_failed_at"]),
    }
    if letter["state"] == "retrying":
        facts["next attempt"] = moment(letter["next_attempt_at"])
    return facts


def _place(letter: Mapping[str, Any]) -> str:
    if not letter["topic"]:
        return "none: it is what the outside world answered to this service"
    return f"{letter['topic']}/{letter['partition']}@{letter['offset']}"


def _original(original: Mapping[str, Any] | None) -> Iterator[RenderableType]:
    if original is not None:
        yield ""
        yield text("What came in, before it was edited:", "bold")
        yield from _value(original["value"])


def history(happened: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """What has happened to an event, oldest first."""
    if happened:
        yield table(
            ("time", "what", "attempt", "by", "why"),
            [
                (
                    when(each["at"]),
                    each["moment"],
                    each["attempt"] or "",
                    each["who"],
                    short(because(each)),
                )
                for each in happened
            ],
            right=("attempt",),
            drop=("attempt",),
        )


def end(service: str, happened: Sequence[Mapping[str, Any]]) -> str:
    """How it ended there, when, and by whom. A release before 0.2 has not noted that."""
    last = happened[-1]
    at = moment(last["at"])
    if last["moment"] == "discarded":
        because = f"because: {short(last['message'])}"
        return f"It waits no longer at {service}: {last['who']} discarded it at {at}, {because}"
    if last["moment"] != "handled":
        return f"It waits no longer at {service}. An earlier release did not note how it ended: orderflow dlt log"
    replayed = [each["who"] for each in happened if each["moment"] == "replayed"]
    after = f" after {replayed[-1]} had replayed it" if replayed else ", when it was tried again"
    return f"It waits no longer at {service}: it was handled at {at}{after}."


def _followers(followers: Sequence[Mapping[str, Any]], behind: int) -> Iterator[RenderableType]:
    if not followers:
        return
    yield ""
    yield text(f"Held behind it: {counted(behind, 'event')} of this order", "yellow")
    yield table(
        ("position", "event id", "type", "state", "came in"),
        [
            (
                each["position"],
                ident(each["event_id"]),
                short(each["event_type"]),
                state(each["state"]),
                when(each["parked_at"]),
            )
            for each in followers
        ],
        right=("position",),
        drop=("came in",),
    )
    if behind > len(followers):
        yield f"and {behind - len(followers)} more"


def _value(content: Mapping[str, Any]) -> Iterator[RenderableType]:
    """No more than a person reads: a value may have megabytes, and only a short one is set out in lines."""
    value = bytes_of(content)
    if value is not None and len(value) > SET_OUT_MAX:
        told = content["text"] if content["text"] is not None else content["base64"]
        yield block(told[:SHOWN_OF_VALUE])
        left = len(told) - SHOWN_OF_VALUE
    else:
        whole = value_text(value)
        yield whole[:SHOWN_OF_VALUE]
        left = len(whole) - SHOWN_OF_VALUE
    if left > 0:
        yield text(f"... and {left} more characters; all of it: orderflow dlt show --json", "dim")


def _content(content: Mapping[str, Any]) -> str:
    if content["text"] is not None:
        return short(str(content["text"]))
    return "(none)" if content["base64"] is None else short(f"base64 {content['base64']}")
