"""What the operators' endpoints tell: structs that are the JSON, and how they are made from the core's."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Literal, TypeVar
from uuid import UUID

import msgspec

from orderflow.messaging.recovery.port import Letter
from orderflow.messaging.transport import ConsumerRecord

State = Literal["dead", "retrying", "held"]
V = TypeVar("V")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was given up (`dead`), will be tried again (`retrying`) or waits behind such a one (`held`).

    `position` orders the list. `behind` counts the events of its key that wait behind it. `edited`: its value is
    no longer the one that came in. Texts come from outside: show them as text.
    """

    position: int
    consumer: str
    key: str
    event_id: UUID
    event_type: str
    state: State
    attempts: int
    replays: int
    behind: int
    edited: bool
    kind: str
    error: str
    message: str
    fingerprint: str
    topic: str
    partition: int
    offset: int
    parked_at: datetime
    first_failed_at: datetime | None
    last_failed_at: datetime | None
    next_attempt_at: datetime


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """`next` goes into `after` for the next page; null at the end. A page may be short, or empty, before the end.

    `confirm` says why a change of these events must be confirmed, "" where it need not be.
    """

    dead_letters: list[DeadLetter]
    next: int | None
    confirm: str


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a record: `text` where they are UTF-8, else `base64`; both null for no value."""

    text: str | None = None
    base64: str | None = None


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """What came in, where it was edited since."""

    event_id: UUID | None
    value: Content
    headers: list[tuple[str, Content]]


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """A moment of a parked event's life: failed, dead (given up), replayed, edited, and at its end handled or
    discarded; by whom, if by a person. `message` is what failed, or why it was discarded.
    """

    at: datetime
    moment: str
    attempt: int
    error: str
    message: str
    who: str


class Follower(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the same key that waits behind."""

    position: int
    event_id: UUID
    event_type: str
    state: State
    parked_at: datetime


class DeadLetterDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A dead or parked event with its record, its history (oldest first) and the first events that wait behind it."""

    letter: DeadLetter
    value: Content
    headers: list[tuple[str, Content]]
    original: Original | None
    history: list[Happening]
    followers: list[Follower]
    confirm: str


def shown(core: object, view: type[V]) -> V:
    """What the core knows, as the struct (or list of structs) that has the same fields."""
    return msgspec.convert(core, view, from_attributes=True)


def letter_of(view: Letter) -> DeadLetter:
    event, failure = view.event, view.event.failure
    return DeadLetter(
        position=event.position,
        consumer=view.consumer,
        key=event.key,
        event_id=event.event_id,
        event_type=event.event_type,
        state=state_of(view),
        attempts=event.attempts,
        replays=event.replays,
        behind=view.behind,
        edited=view.original is not None,
        kind=failure.kind if failure else "",
        error=failure.error if failure else "",
        message=failure.message if failure else "",
        fingerprint=failure.fingerprint if failure else "",
        topic=event.record.topic,
        partition=event.record.partition,
        offset=event.record.offset,
        parked_at=view.parked_at,
        first_failed_at=view.first_failed_at,
        last_failed_at=view.last_failed_at,
        next_attempt_at=view.next_attempt_at,
    )


def state_of(view: Letter) -> State:
    return view.event.waits.value


def original_of(view: Letter) -> Original | None:
    if view.original is None:
        return None
    return Original(
        event_id=view.original_id, value=content_of(view.original.value), headers=headers_of(view.original)
    )


def follower_of(view: Letter) -> Follower:
    return Follower(
        position=view.event.position,
        event_id=view.event.event_id,
        event_type=view.event.event_type,
        state=state_of(view),
        parked_at=view.parked_at,
    )


def headers_of(record: ConsumerRecord) -> list[tuple[str, Content]]:
    return [(name, content_of(value)) for name, value in record.headers]


def content_of(value: bytes | None) -> Content:
    if value is None:
        return Content()
    try:
        return Content(text=value.decode())
    except UnicodeDecodeError:
        return Content(base64=b64encode(value).decode())
