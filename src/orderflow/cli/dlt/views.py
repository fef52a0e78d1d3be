"""Dead letters, their groups, rehearsals, replays and the operators' log, as a person reads them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from orderflow.cli.errors import counted
from orderflow.cli.output import block, joined, text
from orderflow.cli.tables import Fitted, Forms, entry, ident, moment, table, when
from orderflow.cli.topic import value_text
from orderflow.core.operations.model import (
    Content,
    DeadLetter,
    DeadLetterDetails,
    DeadLetterGroup,
    Follower,
    HistoryEntry,
    OperatorAction,
    Original,
    Rehearsed,
    Replay,
    RowChange,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from orderflow.cli.dlt.replay import ReplayName

SHOWN_OF_MESSAGE = 160
SHOWN_OF_VALUE = 10_000
SET_OUT_MAX = 200_000
SHOWN_HEADERS = 50
TYPES_SHOWN = 3
STATES = MappingProxyType({"dead": "bold red", "retrying": "bold yellow", "held": "cyan"})
VERDICTS = MappingProxyType(
    {"succeeds": "green", "duplicate": "cyan", "held": "yellow", "busy": "yellow", "fails": "red", "illegal": "red"}
)
REPLAY_STATES = MappingProxyType({"running": "cyan", "paused": "yellow", "stopped": "bold red", "done": "green"})
COUNTS = ("waiting", "under_way", "succeeded", "failed_again", "discarded", "gone")
NUMBERED = re.compile(r"^(?:replay|fault) (\d+)")


class Failed(Protocol):
    """What has failed: a letter, a group, or a moment of a letter's life."""

    @property
    def error(self) -> str: ...

    @property
    def message(self) -> str: ...


class Named(Protocol):
    """An event at a consumer."""

    @property
    def position(self) -> int: ...

    @property
    def event_id(self) -> UUID | str: ...

    @property
    def event_type(self) -> str: ...


def letters(found: Iterable[tuple[str, DeadLetter]]) -> Iterator[RenderableType]:
    """An entry for each, with its service."""
    for service, letter in found:
        behind = f", {letter.behind} behind it" if letter.behind else ""
        failed = f"failed {moment(letter.last_failed_at)}, attempt {letter.attempts}"
        since = failed if letter.attempts else f"came in {moment(letter.parked_at)}"
        yield from entry(
            (state(letter.state), *name_of(service, letter)),
            (order_of(letter.key), text(f"{since}{behind}", "dim"), text(short(because(letter)), "red")),
        )


def name_of(service: str, event: Named) -> Sequence[Forms | Text]:
    """Where an event is, what, and which."""
    return (
        text(f"{service} {event.position}", "bold"),
        text(short(event.event_type) or "(no type)", "cyan"),
        ident(event.event_id),
    )


def order_of(key: str) -> Text:
    """The order that the event belongs to; a key is an order's id, or whatever came as one."""
    return text(f"order {short(key)}")


def details(service: str, shown: DeadLetterDetails, order: Mapping[str, Any] | None) -> Iterator[RenderableType]:
    """Everything on one event."""
    letter = shown.letter
    yield joined(
        text(short(letter.event_type) or "(no type)", "bold"),
        text(f"  {letter.event_id}  "),
        state(letter.state),
        text("  edited" if letter.edited else "", "yellow"),
    )
    for name, fact in _facts(service, letter, order).items():
        yield joined(text(f"  {name + ':':<14}", "dim"), text(fact))
    for name, value in shown.headers[:SHOWN_HEADERS]:
        yield joined(text(f"  {short(name)}: ", "dim"), text(_content(value), "dim"))
    if len(shown.headers) > SHOWN_HEADERS:
        more = counted(len(shown.headers) - SHOWN_HEADERS, "more header")
        yield text(f"  ... and {more}; all of them: orderflow dlt show --json", "dim")
    yield from _value(shown.value)
    yield from _original(shown.original)
    yield ""
    yield from history(shown.history)
    yield from _followers(shown.followers, letter.behind)
    if letter.state == "dead":
        yield text(f"See what a replay would do with: orderflow dlt rehearse {letter.event_id}", "dim")
    yield ""


def state(value: str) -> Text:
    return text(value, STATES.get(value, ""))


def short(words: str) -> str:
    return words if len(words) <= SHOWN_OF_MESSAGE else f"{words[:SHOWN_OF_MESSAGE]}..."


def because(failed: Failed) -> str:
    """The error and its message."""
    return ": ".join(part for part in (failed.error, failed.message) if part)


def _facts(service: str, letter: DeadLetter, order: Mapping[str, Any] | None) -> Mapping[str, object]:
    facts = {
        "service": f"{service}, consumer {letter.consumer}, position {letter.position}",
        "order": f"{letter.key} is {order['status']}" if order else short(letter.key),
        "record": _place(letter),
        "why": ": ".join(part for part in (letter.kind, because(letter)) if part),
        "fingerprint": letter.fingerprint,
        "attempts": letter.attempts,
        "replays": letter.replays,
        "came in": moment(letter.parked_at),
        "first failed": moment(letter.first_failed_at),
        "last failed": moment(letter.last_failed_at),
    }
    if letter.state == "retrying":
        facts["next attempt"] = moment(letter.next_attempt_at)
    return facts


def _place(letter: DeadLetter) -> str:
    if not letter.topic:
        return "none: it is an answer of the outside world to this service"
    return f"{letter.topic}/{letter.partition}@{letter.offset}"


def _original(original: Original | None) -> Iterator[RenderableType]:
    if original is not None:
        yield ""
        yield text("What came in, before it was edited:", "bold")
        yield from _value(original.value)


def history(happened: Sequence[HistoryEntry]) -> Iterator[RenderableType]:
    """What has happened to an event, oldest first."""
    if happened:
        yield table(
            ("time", "what", "attempt", "by", "why"),
            [
                (
                    when(each.at),
                    each.moment,
                    each.attempt or "",
                    each.who,
                    short(because(each)),
                )
                for each in happened
            ],
            right=("attempt",),
            drop=("attempt",),
        )


def end(service: str, happened: Sequence[HistoryEntry]) -> str:
    """How it ended there, when, and by whom. A release before 0.2 has not noted that."""
    last = happened[-1]
    at = moment(last.at)
    if last.moment == "discarded":
        because = f"because: {short(last.message)}"
        return f"It no longer waits at {service}: {last.who} discarded it at {at}, {because}"
    if last.moment != "handled":
        return f"It no longer waits at {service}. An earlier release did not note how it ended: orderflow dlt log"
    replayed = [each.who for each in happened if each.moment == "replayed"]
    after = f" after {replayed[-1]} had replayed it" if replayed else ", when it was retried"
    return f"It no longer waits at {service}: it was handled at {at}{after}."


def _followers(followers: Sequence[Follower], behind: int) -> Iterator[RenderableType]:
    if not followers:
        return
    yield ""
    yield text(f"Held behind it: {counted(behind, 'event')} of this order", "yellow")
    yield table(
        ("position", "event id", "type", "state", "came in"),
        [
            (
                each.position,
                ident(each.event_id),
                short(each.event_type),
                state(each.state),
                when(each.parked_at),
            )
            for each in followers
        ],
        right=("position",),
        drop=("came in",),
    )
    if behind > len(followers):
        yield f"and {behind - len(followers)} more"


def _value(content: Content) -> Iterator[RenderableType]:
    """No more than a person reads: a value may have megabytes, and only a short one is set out in lines."""
    value = content.to_bytes()
    if value is not None and len(value) > SET_OUT_MAX:
        told = content.text if content.text is not None else content.base64 or ""
        yield block(told[:SHOWN_OF_VALUE])
        left = len(told) - SHOWN_OF_VALUE
    else:
        whole = value_text(value)
        yield whole[:SHOWN_OF_VALUE]
        left = len(whole) - SHOWN_OF_VALUE
    if left > 0:
        yield text(f"... and {left} more characters; all of it: orderflow dlt show --json", "dim")


def _content(content: Content) -> str:
    if content.text is not None:
        return short(content.text)
    return "(none)" if content.base64 is None else short(f"base64 {content.base64}")


def groups(found: Sequence[tuple[str, DeadLetterGroup]]) -> Iterator[RenderableType]:
    """An entry for each, with its service."""
    if not found:
        yield "No dead letters."
    for service, group in found:
        seen = f"first {moment(group.first_seen)}, last {moment(group.last_seen)}"
        yield from entry(
            (
                text(group.fingerprint, "bold"),
                text(service),
                text(f"{counted(group.count, 'event')} of {counted(group.keys, 'order')}"),
                text(_types(group.event_types), "cyan"),
            ),
            (
                text(short(because(group)), "red"),
                text(f"{seen}; see one: orderflow dlt show {group.example} --service {service}", "dim"),
                text(f"note: {group.note}" if group.note else "", "yellow"),
            ),
        )


def _types(event_types: Sequence[str]) -> str:
    """The first of them: whoever writes bad records chooses what they call themselves."""
    shown = ", ".join(short(each) or "(no type)" for each in event_types[:TYPES_SHOWN])
    more = len(event_types) - TYPES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def actions(found: Sequence[tuple[str, OperatorAction]]) -> Iterator[RenderableType]:
    """An entry for each, with its service."""
    for service, each in found:
        # A replay or a fault has the name that commands take: its number counts within its service.
        target = NUMBERED.sub(rf"{service}-\1", each.target)
        done = text(f"{each.action} {target}", "bold")
        why = text(f"because: {each.reason}" if each.reason else "", "yellow")
        yield from entry(
            (when(each.at, "dim"), text(service), text(each.who, "cyan"), done),
            (text(each.result), why),
        )


def rehearsals(found: Sequence[tuple[str, Rehearsed]]) -> Iterator[RenderableType]:
    """An entry for each event, with what it would change and publish, or how it would fail; and how many of each."""
    for service, each in found:
        yield from entry(
            (text(each.verdict, VERDICTS.get(each.verdict, "")), *name_of(service, each)),
            (
                order_of(each.key),
                text(short(because(each)), "red"),
                *(text(_change(row)) for row in each.rows),
                *(text(f"publishes {event.type} on {event.topic}: {_plain(event.payload)}") for event in each.events),
                *(text(f"asks for {intent}") for intent in each.intents),
            ),
        )
    counts = Counter(str(each.verdict) for _, each in found)
    yield ""
    yield text(", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]), "bold")


def _change(row: RowChange) -> str:
    """The columns that differ; of a new row only its status, which is all of a new order or payment that matters."""
    before, after = row.before, row.after
    if before is None:
        status = f": {_plain(after['status'])}" if "status" in after else ""
        return f"{row.table} new{status}"
    steps = ", ".join(f"{name} {_plain(before.get(name))} -> {_plain(value)}" for name, value in after.items())
    return f"{row.table}: {steps}"


def _plain(value: Any) -> str:
    return short(value if isinstance(value, str) else json.dumps(value))


def replays(found: Mapping[ReplayName, Replay]) -> Iterator[RenderableType]:
    """How they stand, and for each that is held: why, and how to go on."""
    yield _replay_table(found)
    for name, each in found.items():
        if each.state in {"stopped", "paused"}:
            why = f": {each.why}" if each.why else ""
            yield ""
            yield text(f"{name} was {each.state}{why}", "bold red")
            yield text(f"Once that is fixed, resume with: orderflow dlt resume {name}")


def _replay_table(found: Mapping[ReplayName, Replay]) -> Fitted:
    counts = tuple(name.replace("_", " ") for name in COUNTS)
    return table(
        ("replay", "state", *counts, "begun", "by", "reason"),
        [
            (
                text(name, "bold"),
                text(each.state, REPLAY_STATES.get(each.state, "")),
                *(getattr(each.progress, count) for count in COUNTS),
                when(each.created_at),
                each.who,
                each.reason,
            )
            for name, each in found.items()
        ],
        right=counts,
        drop=("reason", "by", "gone", "discarded", "begun", "under way", "waiting"),
    )
