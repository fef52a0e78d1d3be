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
            _plain("/ops/parked", "Stuck keys, by consumer", self.parked, list[StuckKeys]),
            _plain("/ops/outbox", "Events that are not published yet", self.outbox, Backlog),
            _plain("/ops/lag", "How far the consumers are behind", self.lag, list[Lag]),
        )


def _plain(path: str, summary: str, handler: Handler, answer: object) -> Operation:
    return Operation(
        method="GET",
        path=path,
        summary=summary,
        tag=TAG,
        handler=handler,
        responses=[Response(status=200, description="As it stands", type=answer)],
    )
