"""What operators ask of the owning service: dead letters, parked keys, outbox, lag."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from orderflow.messaging.decision import Service
from orderflow.messaging.recovery.port import Letter, LetterFilter
from orderflow.messaging.store import Store
from orderflow.messaging.transport import Transport
from orderflow.runtime.operation import Handler, Operation, Parameter, Reply, Request, Response
from orderflow.runtime.problems import ProblemError

Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Position = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was given up. `position` orders the list; texts come from outside: show them as text."""

    position: int
    consumer: str
    key: str
    event_id: UUID
    event_type: str
    state: str
    attempts: int
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
    """`next` goes into `after` for the next page; null at the end."""

    dead_letters: list[DeadLetter]
    next: int | None


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a record: `text` where they are UTF-8, else `base64`; both null for no value."""

    text: str | None = None
    base64: str | None = None


class DeadLetterDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A dead or parked event with the record that came in."""

    letter: DeadLetter
    value: Content
    headers: list[tuple[str, Content]]


class StuckKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What is stuck at one consumer: how many keys, and events that are retried, dead, or held behind one."""

    consumer: str
    keys: int
    retrying: int
    dead: int
    held: int
    oldest: datetime


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """Events that are written and not yet published."""

    unsent: int
    oldest_ms: int


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """Where a consumer stands on one partition."""

    consumer: str
    topic: str
    partition: int
    committed: int
    end: int
    lag: int


class Operators:
    """Answers from the service's own database and its log."""

    def __init__(self, service: Service, store: Store, transport: Transport) -> None:
        self._service = service
        self._store = store
        self._transport = transport

    async def dead_letters(self, request: Request[None]) -> Reply:
        limit: int = request.values["limit"]
        found = await self._store.recovery.letters(LetterFilter(), limit, request.values["after"])
        following = found[-1].event.position if len(found) == limit else None
        return Reply(body=DeadLetterPage(dead_letters=[_letter(view) for view in found], next=following))

    async def dead_letter(self, request: Request[None]) -> Reply:
        view = await self._store.recovery.letter(request.values["id"])
        if view is None:
            raise ProblemError(404, "there is no such dead or parked event")
        record = view.event.record
        headers = [(name, _content(value)) for name, value in record.headers]
        return Reply(body=DeadLetterDetails(letter=_letter(view), value=_content(record.value), headers=headers))

    async def parked(self, _: Request[None]) -> Reply:
        found = await self._store.recovery.summary()
        return Reply(
            body=[
                StuckKeys(
                    consumer=each.consumer,
                    keys=each.keys,
                    retrying=each.retrying,
                    dead=each.dead,
                    held=each.held,
                    oldest=each.oldest,
                )
                for each in found
            ]
        )

    async def outbox(self, _: Request[None]) -> Reply:
        backlog = await self._store.backlog()
        return Reply(body=Backlog(unsent=backlog.unsent, oldest_ms=backlog.oldest_ms))

    async def lag(self, _: Request[None]) -> Reply:
        return Reply(body=await self.read_lag())

    async def read_lag(self) -> list[Lag]:
        """Every consumer of the service on every partition. Raises TransportUnavailableError."""
        return [
            Lag(
                consumer=subscription.consumer,
                topic=each.topic,
                partition=each.partition,
                committed=each.committed,
                end=each.end,
                lag=each.lag,
            )
            for subscription in self._service.subscriptions
            for each in await self._transport.lag(subscription.consumer, subscription.topics)
        ]

    def operations(self) -> Sequence[Operation]:
        """`/ops/…`."""
        listing = (
            Parameter(name="limit", where="query", description="Most entries", type=Limit, default=100),
            Parameter(name="after", where="query", description="Start after this position", type=Position, default=0),
        )
        one = Parameter(name="id", where="path", description="Event id or position", type=UUID | Position)
        return (
            Operation(
                method="GET",
                path="/ops/dead-letters",
                summary="Events that were given up",
                tag="operators",
                handler=self.dead_letters,
                parameters=listing,
                responses=[Response(status=200, description="In order of position", type=DeadLetterPage)],
            ),
            Operation(
                method="GET",
                path="/ops/dead-letters/{id}",
                summary="One dead or parked event, with its record",
                tag="operators",
                handler=self.dead_letter,
                parameters=(one,),
                responses=[
                    Response(status=200, description="The event", type=DeadLetterDetails),
                    Response(status=404, description="There is none"),
                ],
            ),
            _plain("/ops/parked", "Stuck keys, by consumer", self.parked, list[StuckKeys]),
            _plain("/ops/outbox", "Events that are not published yet", self.outbox, Backlog),
            _plain("/ops/lag", "How far the consumers are behind", self.lag, list[Lag]),
        )


def _plain(path: str, summary: str, handler: Handler, answer: object) -> Operation:
    return Operation(
        method="GET",
        path=path,
        summary=summary,
        tag="operators",
        handler=handler,
        responses=[Response(status=200, description="As it stands", type=answer)],
    )


def _letter(view: Letter) -> DeadLetter:
    event, failure = view.event, view.event.failure
    return DeadLetter(
        position=event.position,
        consumer=view.consumer,
        key=event.key,
        event_id=event.event_id,
        event_type=event.event_type,
        state=event.state.name.lower(),
        attempts=event.attempts,
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


def _content(value: bytes | None) -> Content:
    if value is None:
        return Content()
    try:
        return Content(text=value.decode())
    except UnicodeDecodeError:
        return Content(base64=b64encode(value).decode())
