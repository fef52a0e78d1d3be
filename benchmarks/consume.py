"""Durable consume: PaymentSucceeded from the log through the inventory's own code, until every order has its answer.

One process, the production engine: decode, dedupe, decide, save, outbox, in batches; its relay publishes beside it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

import asyncpg
import msgspec

from benchmarks.samples import SKUS, is_poison, sample_id
from orderflow.events.order import Item
from orderflow.events.payment import PaymentSucceeded
from orderflow.events.topics import TOPICS
from orderflow.inventory.messages import SetStock
from orderflow.inventory.service import SERVICE
from orderflow.messaging import cloudevents, identity
from orderflow.messaging.clock import SystemClock
from orderflow.messaging.dead_letters import topic_of
from orderflow.messaging.engine import Engine
from orderflow.messaging.engine_config import EngineConfig
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.signals import Signals
from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.stores.postgres.store import PostgresStore
from orderflow.messaging.stores.postgres.tables import tables_of
from orderflow.messaging.transport import ProducerRecord, TopicSettings, Transport

SOURCE = "/orderflow/payment"
APPEND = 500
NUL = "\x00"
"""A text that PostgreSQL refuses."""


async def run_consume(urls: Mapping[str, str], transport: Transport, events: int, poison_every: int = 0) -> float:
    """Events/s from the first answers to the last: joining the group is not counted.

    `urls` has the database of an inventory service that nobody else runs, with its tables. One in `poison_every`
    events (0: none) is refused by the database, so that its batch is split.
    """
    topics = [TopicSettings(name, 6) for topic in TOPICS for name in (topic, topic_of(topic))]
    await transport.create_topics(topics)
    await _append(transport, events, poison_every)
    answerable = events - (events // poison_every if poison_every else 0)
    store = await PostgresStore.connect(
        urls["inventory"], tables=tables_of(SERVICE.tables), application_name="benchmark"
    )
    engine = Engine(
        SERVICE,
        store,
        transport,
        gateway=None,
        signals=Signals(),
        clock=SystemClock(),
        chance=random.Random(),
        config=EngineConfig(),
    )
    engine.start()
    try:
        for sku in SKUS:
            await engine.submit(SetStock(sku=sku, on_hand=10_000_000, only_if_new=True))
        before = await _until_answered(urls["inventory"], 1)
        started = time.perf_counter()
        return (await _until_answered(urls["inventory"], answerable) - before) / (time.perf_counter() - started)
    finally:
        await engine.kill()
        await store.close()


async def _append(transport: Transport, events: int, poison_every: int) -> None:
    for first in range(0, events, APPEND):
        numbers = range(first, min(first + APPEND, events))
        await transport.append([_record(number, is_poison(number, poison_every)) for number in numbers])


def _record(number: int, poison: bool) -> ProducerRecord:
    event = PaymentSucceeded(
        order_id=sample_id(),
        customer_id=f"customer-{number % 1000}",
        currency="EUR",
        items=(Item(sku=NUL if poison else SKUS[number % len(SKUS)], quantity=1, unit_price=1250),),
        total=1250,
    )
    envelope = Envelope(
        id=identity.event_id(SOURCE, event.TYPE, event.key, 1),
        message=event,
        source=SOURCE,
        key=event.key,
        sequence=1,
        causation=sample_id(),
    )
    headers = cloudevents.with_time(cloudevents.to_headers(envelope), time.time_ns() // 1_000_000)
    return ProducerRecord(event.TOPIC, event.key.encode(), msgspec.json.encode(event), headers)


async def _until_answered(url: str, events: int) -> int:
    """Return when at least so many events have their answer: how many have."""
    query = load_queries("benchmarks", "watch.sql")["count_reservations"]
    connection = await asyncpg.connect(url)
    try:
        while (answered := await connection.fetchval(query)) < events:  # noqa: ASYNC110  # a table has no event
            await asyncio.sleep(0.1 if answered else 0.01)
        return int(answered)
    finally:
        await connection.close()
