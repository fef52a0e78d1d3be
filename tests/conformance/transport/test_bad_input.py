"""What nobody can read: given up with its exact bytes, harming nobody, and shown without harm."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import StringIO
from uuid import uuid4

import pytest
from rich.console import Console

from orderflow.cli.topic import parts
from orderflow.core.dead_letters import FLOW_STATUS
from orderflow.core.engine import Engine, EngineConfig
from orderflow.core.envelopes import header_text
from orderflow.core.inbox import InboxState
from orderflow.core.operations.model import LetterFilter, StoredLetter
from orderflow.core.operations.port import OperatedStore
from orderflow.core.postgres import schema
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import tables_of
from orderflow.core.service import Subscription
from orderflow.core.store import Plan
from orderflow.core.telemetry import Signals
from orderflow.core.timing import SystemClock
from orderflow.core.transport import ConsumerRecord, ProducerRecord, TopicSettings, Transport, size_of
from orderflow.events.base import INVENTORY_STATUS
from orderflow.services.inventory.service import SERVICE
from tests.conformance.transport.bad_records import (
    CHANGES,
    MEBIBYTE,
    corpus,
    filled,
    full_records,
    good,
    replaced_text,
)
from tests.support.postgres import PostgresServer
from tests.support.records import take
from tests.support.waiting import eventually

GOOD = 20
POLL_BYTES_MAX = 32 * MEBIBYTE


@asynccontextmanager
async def inventory_on(transport: Transport, topic: str, store: OperatedStore) -> AsyncIterator[Engine]:
    """The real service, reading one topic of this test."""
    made = [TopicSettings(name, 1) for name in (f"{topic}.DLT", FLOW_STATUS, INVENTORY_STATUS)]
    await transport.create_topics(made)
    engine = Engine(
        replace(SERVICE, subscriptions=(Subscription(f"inventory-{topic}", (topic,)),)),
        store,
        transport,
        gateway=None,
        signals=Signals(),
        clock=SystemClock(),
        rng=random.Random(1),
        config=EngineConfig(),
    )
    engine.start()
    try:
        yield engine
    finally:
        await engine.drain(10.0)


@pytest.fixture
async def store(postgres: PostgresServer) -> AsyncIterator[OperatedStore]:
    name = f"bad_input_{uuid4().hex[:8]}"
    url = postgres.create_database(name)
    await schema.migrate(url, schema.schema_of(SERVICE))
    made = await PostgresStore.connect(url, tables=tables_of(SERVICE.tables))
    yield made
    await made.close()
    postgres.drop_database(name)


async def test_each_bad_record_is_given_up_at_once_with_its_bytes_and_all_others_flow(
    transport: Transport, topic: str, store: OperatedStore
) -> None:
    bad = corpus(topic)
    fine = [good(topic) for _ in range(GOOD)]
    async with inventory_on(transport, topic, store):
        await transport.append(mixed(list(bad.values()), fine))
        letters = await eventually(lambda: all_of(store, len(bad)), timeout_s=60)
        assert {letter.event.attempts for letter in letters} == {1}
        reserved = await take(await transport.subscribe(f"reader-{topic}", [f"{topic}.DLT"]), len(bad))
        await eventually(lambda: handled(store, fine), timeout_s=60)
    for name, record in bad.items():
        assert any(is_letter_of(each, record) for each in reserved), name
    assert len(reserved) == len(bad)


async def test_what_the_database_refuses_to_look_up_harms_nobody_either(
    transport: Transport, topic: str, store: OperatedStore
) -> None:
    fine = [good(topic) for _ in range(GOOD)]
    refused = replaced_text(good(topic), b'"sku":"none"', b'"sku":"\\u0000"')
    async with inventory_on(transport, topic, store):
        await transport.append(mixed([refused], fine))
        await eventually(lambda: handled(store, fine), timeout_s=60)
        (stuck,) = await letters_of(store, LetterFilter(state=None))
    assert (stuck.event.record.value, stuck.event.failure is not None) == (refused.value, True)


async def test_a_record_that_fills_the_log_is_given_up_and_kept_whole_and_all_others_flow(
    transport: Transport, topic: str, store: OperatedStore
) -> None:
    full = {name: filled(record) for name, record in full_records(topic).items()}
    fine = [good(topic) for _ in range(GOOD)]
    async with inventory_on(transport, topic, store):
        await transport.append(mixed(list(full.values()), fine))
        letters = await eventually(lambda: all_of(store, len(full)), timeout_s=60)
        told = await take(await transport.subscribe(f"reader-{topic}", [f"{topic}.DLT"]), len(full))
        await eventually(lambda: handled(store, fine), timeout_s=60)
    kept = [(each.event.record.key, each.event.record.value, each.event.record.headers) for each in letters]
    for name, record in full.items():
        assert (record.key, record.value, record.headers) in kept, name
    by_event = {header_text(each.headers, "dlt_event_id"): each for each in told}
    for each in letters:
        letter = by_event[str(each.event.event_id)]
        assert header_text(letter.headers, "dlt_omitted_parts")
        assert header_text(letter.headers, "dlt_omitted") == str(size_of(each.event.record))
        assert header_text(letter.headers, "dlt_whole").endswith(f"as event {each.event.event_id}")


async def letters_of(store: OperatedStore, wanted: LetterFilter) -> list[StoredLetter]:
    found = [await store.recovery.letter(each.position) for each in await store.recovery.letters(wanted, 1000)]
    return [each for each in found if each is not None]


async def all_of(store: OperatedStore, count: int) -> list[StoredLetter]:
    letters = await letters_of(store, LetterFilter(state=InboxState.DEAD))
    assert len(letters) == count, f"{len(letters)} of {count}"
    return letters


async def handled(store: OperatedStore, records: list[ProducerRecord]) -> bool:
    names = [((record.key or b"").decode(), "orderflow.PaymentSucceeded") for record in records]
    async with store.transaction() as tx:
        consumer = f"inventory-{records[0].topic}"
        known = (await tx.open(Plan(consumer, names))).known
    return [known.get(name) for name in names] == [InboxState.DONE] * len(names)


def is_letter_of(letter: ConsumerRecord, record: ProducerRecord) -> bool:
    same = (letter.key, letter.value, letter.headers[: len(record.headers)])
    return same == (record.key, record.value, record.headers) and all(
        header_text(letter.headers, name) for name in ("dlt_consumer", "dlt_topic", "dlt_error", "dlt_fingerprint")
    )


def mixed(bad: list[ProducerRecord], fine: list[ProducerRecord]) -> list[ProducerRecord]:
    records = [*bad, *fine]
    random.Random(3).shuffle(records)
    return records


async def test_a_poll_is_bounded_in_bytes_too(transport: Transport, topic: str, group: str) -> None:
    for _ in range(6):
        await transport.append([ProducerRecord(topic, b"one", b"x" * MEBIBYTE) for _ in range(12)])
    consumer = await transport.subscribe(group, [topic])
    taken = 0
    while taken < 72:
        records = await consumer.poll(500)
        assert sum(len(record.value or b"") for record in records) <= POLL_BYTES_MAX
        taken += len(records)


@pytest.mark.parametrize("name", CHANGES)
def test_a_bad_record_is_shown_without_harm(name: str) -> None:
    bad = corpus("topic")[name]
    record = ConsumerRecord(bad.topic, 0, 0, bad.key, bad.value, bad.headers)
    screen = StringIO()
    Console(file=screen, width=200).print(*parts(record))
    shown = screen.getvalue()
    harmful = {character for character in shown if unicodedata.category(character) in {"Cc", "Cf", "Cs"}}
    assert harmful == {"\n"}
