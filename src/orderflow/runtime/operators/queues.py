"""What waits in a service: parked keys, the outbox, the consumers' lag."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from orderflow.messaging.decision import Service
from orderflow.messaging.store import Store
from orderflow.messaging.transport import Transport
from orderflow.runtime.operation import Handler, Operation, Reply, Request, Response
from orderflow.runtime.operators.asking import TAG
from orderflow.runtime.operators.examples import LAG, PARKED
from orderflow.runtime.operators.views import shown


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
    """Where a consumer stands on one partition: the next offset to read, the first kept, the next to be appended.

    `expired` are records that retention dropped before the consumer had read them, as far as the log tells now.
    """

    consumer: str
    topic: str
    partition: int
    committed: int
    first: int
    end: int
    lag: int
    expired: int


class Queues:
    """Answers from the service's own database and its log."""

    def __init__(self, service: Service, store: Store, transport: Transport) -> None:
        self._service = service
        self._store = store
        self._transport = transport

    @property
    def store(self) -> Store:
        return self._store

    async def parked(self, _: Request[None]) -> Reply:
        return Reply(body=shown(await self._store.recovery.summary(), list[StuckKeys]))

    async def outbox(self, _: Request[None]) -> Reply:
        return Reply(body=shown(await self._store.backlog(), Backlog))

    async def lag(self, _: Request[None]) -> Reply:
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
            )
            for subscription in self._service.subscriptions
            for each in await self._transport.lag(subscription.consumer, subscription.topics)
        ]

    def operations(self) -> Sequence[Operation]:
        return (
            _plain(
                "/ops/parked",
                "Stuck keys, by consumer",
                "How many orders wait because of an event that could not be handled, and since when.",
                self.parked,
                Response(status=200, description="As it stands", type=list[StuckKeys], example=PARKED),
            ),
            _plain(
                "/ops/outbox",
                "Events that are not published yet",
                "A number that grows says that the log is away, or that the relay stands still.",
                self.outbox,
                Response(
                    status=200, description="As it stands", type=Backlog, example=Backlog(unsent=0, oldest_ms=0)
                ),
            ),
            _plain(
                "/ops/lag",
                "How far the consumers are behind",
                "Every consumer of this service on every partition that it reads.",
                self.lag,
                Response(status=200, description="As it stands", type=list[Lag], example=LAG),
            ),
        )


def _plain(path: str, summary: str, description: str, handler: Handler, told: Response) -> Operation:
    return Operation(
        method="GET",
        path=path,
        summary=summary,
        description=description,
        tag=TAG,
        handler=handler,
        responses=[told],
    )
