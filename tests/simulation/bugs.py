"""Bugs for the simulator to catch, planted by substitution: the production code is as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from orderflow.events.inventory import StockRejected
from orderflow.messaging.carrier import Carrier
from orderflow.messaging.consumer_loop import ConsumerLoop
from orderflow.messaging.crowd import Crowd
from orderflow.messaging.decision import Decision, Service, Subscription
from orderflow.messaging.engine import Engine
from orderflow.messaging.engine_config import policy_of
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.fold import Fold
from orderflow.messaging.inbox import ParkedEvent
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.result import Result
from orderflow.messaging.rows import Ref, Row, Rows
from orderflow.messaging.store import DEPTH_LIMIT, Changes, Recognition, Transaction
from orderflow.messaging.stores.memory.store import MemoryStore
from orderflow.messaging.transport import Transport
from orderflow.payment import model, refunds
from orderflow.payment.messages import RefundUnknown
from orderflow.payment.rows import Payment, Status
from orderflow.simulation.code import Code


class SettlesFirst(ConsumerLoop):
    """Bug: the offset is settled before the batch is committed."""

    async def _step(self) -> None:
        if self._closing.is_set():
            return
        if self._member is None:
            self._member = await self._transport.subscribe(self.consumer, self._topics)
        records = await self._take(self._member)
        if records:
            await self._member.settle(records)
            await self._patience.until_done(lambda: self._carry(records))


class SettlesFirstEngine(Engine):
    def _consumer_loop(self, subscription: Subscription, transport: Transport) -> ConsumerLoop:
        consumer = subscription.consumer
        away = policy_of(self._config, self._chance).away
        crowd = Crowd(self.service.name, consumer, away, self._signals, self._clock, self._chance)
        return SettlesFirst(
            subscription,
            frozenset(),
            Carrier(subscription, self._inlet, crowd, self._config.batch_max),
            transport,
            self._pacer(self._config.pace_max_ms, self._config.batch_max),
            self._patience(f"consumer {consumer}"),
            self._config.batch_max,
            self._before_joining,
            lambda: 0,
        )


@dataclass
class DedupesApart:
    """Bug: the inbox rows are committed in a transaction of their own, before the effect is."""

    inner: Transaction
    store: MemoryStore

    async def lock(self, locks: Sequence[int]) -> None:
        await self.inner.lock(locks)

    async def recognise(
        self, consumer: str, messages: Sequence[tuple[str, str | None]], depth_limit: int = DEPTH_LIMIT
    ) -> Recognition:
        return await self.inner.recognise(consumer, messages, depth_limit)

    async def load(self, refs: Iterable[Ref]) -> dict[Ref, Row]:
        return await self.inner.load(refs)

    async def parked(self, consumer: str, keys: Sequence[str], limit: int) -> Sequence[ParkedEvent]:
        return await self.inner.parked(consumer, keys, limit)

    async def write(self, changes: Changes) -> None:
        async with self.store.transaction() as own:
            await own.recognise(changes.consumer, [(entry.key, entry.identity) for entry in changes.inbox])
            await own.write(Changes(consumer=changes.consumer, inbox=changes.inbox))
        await self.inner.write(replace(changes, inbox=[]))


class DedupesApartStore:
    """Everything else is the store that it wraps."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[DedupesApart]:
        async with self._store.transaction() as inner:
            yield DedupesApart(inner, self._store)


class DedupesApartEngine(Engine):
    def __init__(self, service: Service, store: MemoryStore, transport: Transport, **others: Any) -> None:
        apart: Any = DedupesApartStore(store)
        super().__init__(service, apart, transport, **others)


def overtaking(take: Callable[[Fold, Incoming], Result]) -> Callable[[Fold, Incoming], Result]:
    """Bug: what is parked of a key does not hold its later events."""

    def take_at_once(fold: Fold, incoming: Incoming) -> Result:
        if incoming.parked is None:
            fold._parking.closed.discard(incoming.key)
        return take(fold, incoming)

    return take_at_once


def refund_unguarded(rows: Rows, envelope: Envelope) -> Decision:
    """Bug: whoever asks gets a refund under a key of its own, whatever the payment's state is."""
    message = envelope.message
    assert isinstance(message, StockRejected | RefundUnknown)
    payment = rows.get(Payment, message.order_id)
    assert payment is not None
    due = payment if payment.status is Status.REFUND_DUE else model.advance(payment, model.STOCK_REJECTED)
    intent = refunds.refund_intent(due)
    intent = type(intent)(key=f"{intent.key}:{envelope.id}", kind=intent.kind, request=intent.request)
    return Decision(rows=(due,) if due is not payment else (), intents=(intent,))


def refunds_unguarded() -> Code:
    code = Code()
    payment = code.services["payment"]
    handlers = dict(payment.handlers)
    for message_type in (StockRejected, RefundUnknown):
        handlers[message_type] = replace(handlers[message_type], decide=refund_unguarded)
    return Code(services={**code.services, "payment": replace(payment, handlers=handlers)})
