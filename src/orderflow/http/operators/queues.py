"""What waits in a service, what it has lost and published, and what operators did: queues and logs of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from orderflow.core.operations.model import Expired, OperatorAction, StuckSummary, Trail
from orderflow.core.operations.port import OperatedStore, RecoveryStore
from orderflow.core.operations.recovery import Recovery
from orderflow.core.service import Service
from orderflow.core.store import OutboxFilter
from orderflow.core.transport import Transport
from orderflow.http.operation import Operation, Parameter, Reply, Request, Response
from orderflow.http.operators.asking import CONFIRM, NOT_THERE, Limit, Position, Text, act_of, key_of, operator, route
from orderflow.http.operators.examples import ACTIONS, EXPIRED, LAG, PUBLISHED, REASON, REPUBLISH, STUCK, TRAIL
from orderflow.http.problems import ProblemError

Instant = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000)]
"""In ms since the epoch, up to the end of the year 9999."""


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """Events that are written and not yet published."""

    unsent: int
    oldest_ms: int


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """Where a consumer stands on one partition: the next offset to read, the first kept, the next to be appended.

    `expired` are records that retention dropped before the consumer had read them, as far as the log tells now.
    `held` are those that it is not given before a transaction of some producer ends.
    """

    consumer: str
    topic: str
    partition: int
    committed: int
    first: int
    end: int
    lag: int
    expired: int
    held: int = 0


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was done about the loss, for the operators' log."""

    reason: Text


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """How many lost records are now acknowledged; they no longer raise an alarm."""

    consumer: str
    records: int


_STUCK = Response(200, "The current state", list[StuckSummary], example=STUCK)
_BACKLOG = Response(200, "The current state", Backlog, example=Backlog(unsent=0, oldest_ms=0))
_LAG = Response(200, "The current state", list[Lag], example=LAG)
_TRAIL = Response(200, "The current state", Trail, example=TRAIL)
_CONSUMER = Parameter("consumer", "path", "The consumer", Text)
_ACKNOWLEDGED = Response(
    200, "The alarm has ended", Acknowledged, example=Acknowledged(consumer="payment", records=3)
)


class PublishedRows(msgspec.Struct, frozen=True, kw_only=True):
    """Published events of one topic that the outbox still has, and when the oldest and the newest were written."""

    topic: str
    count: int
    oldest: datetime
    newest: datetime


class RepublishRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which published events; what is absent does not narrow. `key` is the id of an order.

    `from_ms` (included) and `to_ms` (not) are when they were written, in ms since the epoch. Why; `confirmed`: a
    person has confirmed it.
    """

    topic: Text | None = None
    key: Text | None = None
    from_ms: Instant | None = None
    to_ms: Instant | None = None
    reason: Text
    confirmed: bool = False


class Republished(msgspec.Struct, frozen=True, kw_only=True):
    """How many events are published again, as soon as the relay comes to them."""

    republished: int


class Queues:
    """Answers from the service's own database and its log."""

    def __init__(self, service: Service, store: OperatedStore, transport: Transport) -> None:
        self._service = service
        self._store = store
        self._transport = transport

    @property
    def store(self) -> OperatedStore:
        return self._store

    async def stuck(self, _: Request[None]) -> Reply:
        """Stuck keys, by consumer.

        How many orders (or unreadable records) wait because of an event that could not be handled, and since when.
        """
        return Reply(body=await self._store.recovery.summary())

    async def outbox(self, _: Request[None]) -> Reply:
        """Events that are not published yet.

        A growing number means that the log is unavailable or the relay is stalled.
        """
        return Reply(body=msgspec.convert(await self._store.backlog(), Backlog, from_attributes=True))

    async def lag(self, _: Request[None]) -> Reply:
        """How far the consumers are behind.

        Every consumer of this service on every partition that it reads.
        """
        return Reply(body=await self.read_lag())

    async def read_lag(self) -> list[Lag]:
        """Every consumer of the service on every partition. Raises TransportUnavailableError."""
        return [
            Lag(
                consumer=subscription.consumer,
                topic=each.topic,
                partition=each.partition,
                committed=each.position,
                first=each.first,
                end=each.end,
                lag=each.lag,
                expired=each.expired,
                held=each.held,
            )
            for subscription in self._service.subscriptions
            for each in await self._transport.lag(subscription.consumer, subscription.topics)
        ]

    async def trail(self, request: Request[None]) -> Reply:
        """The path of one key.

        For one order: what came in at each consumer of the service, what is written but not yet published, and what
        the outside world was asked but has not answered.
        """
        return Reply(body=await self._store.recovery.trail(request.values["key"]))

    def operations(self) -> Sequence[Operation]:
        return (
            route("GET /ops/trails/{key}", self.trail, _TRAIL, parameters=(key_of,)),
            route("GET /ops/stuck", self.stuck, _STUCK),
            route("GET /ops/outbox", self.outbox, _BACKLOG),
            route("GET /ops/lag", self.lag, _LAG),
        )


class Actions:
    """Answers from the service's own database."""

    def __init__(self, store: RecoveryStore) -> None:
        self._store = store

    async def listed(self, request: Request[None]) -> Reply:
        """What operators did.

        The operators' log of this service: who did what, when, why, and with what result.
        """
        before: int | None = request.values["before"]
        return Reply(body=await self._store.actions(request.values["limit"], before))

    def operations(self) -> Sequence[Operation]:
        listing = (
            Parameter("limit", "query", "Maximum number of entries", Limit, default=100),
            Parameter("before", "query", "Only actions before this number", Position),
        )
        return (
            route(
                "GET /ops/actions",
                self.listed,
                Response(200, "Latest first", list[OperatorAction], example=ACTIONS),
                parameters=listing,
            ),
        )


class ExpiredOperations:
    """Answers from the service's own database."""

    def __init__(self, service: Service, recovery: Recovery) -> None:
        self._consumers = {each.consumer for each in service.subscriptions}
        self._recovery = recovery

    async def listed(self, _: Request[None]) -> Reply:
        """Records that expired unread and are not acknowledged.

        The log dropped them before their consumer got to them. What the outbox still has can be republished.
        """
        return Reply(body=await self._recovery.store.expired())

    async def acknowledge(self, request: Request[Acknowledgement]) -> Reply:
        """Acknowledge the records that a consumer has lost.

        This ends the consumer's alarm. It brings nothing back: republish first.
        """
        consumer: str = request.values["consumer"]
        if consumer not in self._consumers:
            raise ProblemError(404, "this service has no such consumer")
        lost = await self._recovery.acknowledge_expired(consumer, act_of(request, reason=request.body.reason))
        return Reply(body=Acknowledged(consumer=consumer, records=lost))

    def operations(self) -> Sequence[Operation]:
        return (
            route(
                "GET /ops/expired",
                self.listed,
                Response(200, "By partition", list[Expired], example=EXPIRED),
            ),
            route(
                "POST /ops/expired/{consumer}/acknowledge",
                self.acknowledge,
                _ACKNOWLEDGED,
                NOT_THERE,
                parameters=(_CONSUMER, operator),
                example=REASON,
            ),
        )


class Republishing:
    """Asks the core."""

    def __init__(self, recovery: Recovery, store: OperatedStore) -> None:
        self._recovery = recovery
        self._store = store

    async def published(self, request: Request[None]) -> Reply:
        """Published events that the outbox still has.

        What could be republished, by topic. The outbox keeps events for ORDERFLOW_OUTBOX_KEEP_HOURS.
        """
        found = await self._store.published(_filter_of(request.values))
        return Reply(
            body=[
                PublishedRows(
                    topic=rows.topic, count=rows.count, oldest=_moment(rows.oldest_ms), newest=_moment(rows.newest_ms)
                )
                for rows in found
            ]
        )

    async def republish(self, request: Request[RepublishRequest]) -> Reply:
        """Republish events; consumers drop those they have handled.

        For events that the log has lost. Each keeps its id, so consumers that have handled it do nothing.
        """
        asked = request.body
        act = act_of(request, reason=asked.reason, confirmed=asked.confirmed)
        count = await self._recovery.republish(msgspec.convert(asked, OutboxFilter, from_attributes=True), act)
        return Reply(body=Republished(republished=count))

    def operations(self) -> Sequence[Operation]:
        return (
            route(
                "GET /ops/outbox/published",
                self.published,
                Response(200, "By topic", list[PublishedRows], example=PUBLISHED),
                parameters=_NARROWING,
            ),
            route(
                "POST /ops/outbox/republish",
                self.republish,
                Response(
                    200, "They are waiting to be published again", Republished, example=Republished(republished=4)
                ),
                Response(409, "The outbox has no such events"),
                CONFIRM,
                parameters=(operator,),
                example=REPUBLISH,
            ),
        )


_NARROWING = (
    Parameter("topic", "query", "Only events of this topic", Text),
    Parameter("key", "query", "Only events of this key, an order's id", Text),
    Parameter("from_ms", "query", "Only events written since (ms since the epoch)", Instant),
    Parameter("to_ms", "query", "Only events written before (ms since the epoch)", Instant),
)


def _filter_of(values: Mapping[str, Any]) -> OutboxFilter:
    return OutboxFilter(**{name: values[name] for name in ("topic", "key", "from_ms", "to_ms")})


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
