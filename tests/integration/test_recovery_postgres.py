"""Recovery on a real PostgreSQL, with the payment's own rules."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import pytest

from orderflow.cli.dlt import check
from orderflow.core import envelopes, identity
from orderflow.core.engine import Engine, EngineConfig, policy_of
from orderflow.core.envelopes import Incoming, from_record
from orderflow.core.messages import Envelope, Event
from orderflow.core.operations import replay as replaying
from orderflow.core.operations.model import LetterFilter, Rehearsed, Replay, ReplayPlan, ReplayProgress, ReplayState
from orderflow.core.postgres import schema
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import tables_of
from orderflow.core.processor import Processor
from orderflow.core.service import Decision, Handler, Rows
from orderflow.core.store import Act, Plan
from orderflow.core.telemetry import Signals
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.timing import SystemClock
from orderflow.core.transport import ConsumerRecord, TopicSettings
from orderflow.events.inventory import MissingLine, StockRejected
from orderflow.events.order import Item, OrderPlaced
from orderflow.services.payment.model import Payment, PaymentStatus
from orderflow.services.payment.service import SERVICE
from tests.support.callers import person
from tests.support.postgres import PostgresServer
from tests.support.saga import new_order_id
from tests.support.waiting import eventually

ITEMS = (Item(sku="SKU-A", quantity=2, unit_price=1250),)
CONFIG = EngineConfig(attempts_max=1)
DEAD = LetterFilter()
ME = Act(caller=person("ada"), reason="mended", confirmed=True)
TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"


def broken(rows: Rows, envelope: Envelope) -> Decision:
    """The payment's first decision, as the last release had it."""
    raise ZeroDivisionError("a defect of the last release")


def leaping(rows: Rows, envelope: Envelope) -> Decision:
    """A decision that forgets the state machine; the database does not."""
    payment = rows.get(Payment, UUID(envelope.key))
    assert payment is not None
    leapt = msgspec.structs.replace(
        payment, status=PaymentStatus.REFUNDED, version=payment.version + 1, event="Leapt"
    )
    return Decision(rows=(leapt,))


LAST_RELEASE = replace(
    SERVICE,
    handlers={**SERVICE.handlers, OrderPlaced: replace(SERVICE.handlers[OrderPlaced], decide=broken)},
)


class Shop:
    """The payment service over a database of its own; what comes in is handed to the processor."""

    def __init__(self, store: PostgresStore, server: PostgresServer, url: str) -> None:
        self.store = store
        self.log = MemoryLog(SystemClock(), random.Random(1))
        topics = ("order-events", "inventory-status", "payment-status", "flow-status")
        names = [*topics, *(f"{name}.DLT" for name in topics)]
        self.log.create([TopicSettings(name, 1) for name in names])
        self._server = server
        self.url = url
        self._database = urlsplit(url).path.removeprefix("/")
        self._offset = 0

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Engine]:
        """A process of its own, dead in the end."""
        store = await PostgresStore.connect(self.url, tables=tables_of(SERVICE.tables))
        engine = self.engine(store=store)
        try:
            yield engine
        finally:
            await engine.kill()
            await store.close()

    def engine(self, service: Any = SERVICE, store: PostgresStore | None = None) -> Engine:
        return Engine(
            service,
            store or self.store,
            MemoryTransport(self.log),
            gateway=None,
            signals=Signals(),
            clock=SystemClock(),
            rng=random.Random(2),
            config=CONFIG,
        )

    async def admit(self, *events: Event, service: Any = SERVICE) -> None:
        """By a way in that has seen nothing fail yet."""
        processor = Processor(service, self.store, policy_of(CONFIG, random.Random(2)), Signals(), SystemClock())
        await processor.admit("payment", [self.incoming(event) for event in events])

    def incoming(self, event: Event) -> Incoming:
        self._offset += 1
        envelope = Envelope(
            id=identity.event_id("/test", event.TYPE, event.key, self._offset),
            message=event,
            source="/test",
            key=event.key,
        )
        headers = envelopes.to_headers(envelope)
        value = msgspec.json.encode(event)
        record = ConsumerRecord(event.TOPIC, 0, self._offset, event.key.encode(), value, headers)
        return from_record(record, SERVICE.catalogue)

    def checksums(self) -> dict[str, str]:
        """Of every table: how many rows it has, and a digest of them all."""
        content = "SELECT '{0}', count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM \"{0}\" AS t"
        parts = [content.format(name) for name in self.asked(TABLES).split()]
        lines = self.asked(" UNION ALL ".join(parts)).splitlines()
        return {line.partition("|")[0]: line.partition("|")[2] for line in lines}

    def asked(self, statement: str) -> str:
        return self._server.execute(statement, self._database)


@pytest.fixture
async def shop(postgres: PostgresServer, database_url: str) -> AsyncIterator[Shop]:
    await schema.migrate(database_url, schema.schema_of(SERVICE))
    store = await PostgresStore.connect(database_url, tables=tables_of(SERVICE.tables))
    yield Shop(store, postgres, database_url)
    await store.close()


def placed(order_id: UUID) -> OrderPlaced:
    return OrderPlaced(
        order_id=order_id, customer_id="c", currency="EUR", items=ITEMS, total=2500, payment_method="pm_card_visa"
    )


def rejected(order_id: UUID) -> StockRejected:
    missing = (MissingLine(sku="SKU-A", requested=2, available=0),)
    return StockRejected(order_id=order_id, customer_id="c", missing=missing)


def told(rehearsed: list[Rehearsed] | Any) -> list[tuple[str, str]]:
    return [(each.event_type.split(".")[1], each.verdict.value) for each in rehearsed]


async def over(engine: Engine, number: int) -> Replay:
    """The replay once it does not run any more."""

    async def look() -> Replay | None:
        replay = await engine.recovery.find_replay(number)
        return replay if replay.state is not ReplayState.RUNNING else None

    replay = await eventually(look)
    assert replay is not None
    return replay


async def test_a_rehearsal_leaves_every_table_as_it_was_and_a_replay_does_what_it_said(shop: Shop) -> None:
    mended, waiting, early, done = (new_order_id() for _ in range(4))
    await shop.admit(placed(done))
    await shop.admit(placed(mended), service=LAST_RELEASE)
    await shop.admit(placed(waiting), service=LAST_RELEASE)
    await shop.admit(rejected(waiting))
    await shop.admit(rejected(early))
    await shop.admit(rejected(done))
    engine = shop.engine()
    before = shop.checksums()
    assert before["parked_events"].startswith("5|")
    assert before["payments"].startswith("1|")

    rehearsed = await engine.recovery.rehearse(DEAD)

    assert shop.checksums() == before
    assert told(rehearsed) == [
        ("OrderPlaced", "succeeds"),
        ("OrderPlaced", "succeeds"),
        ("StockRejected", "illegal"),
        ("StockRejected", "fails"),
        ("StockRejected", "illegal"),
    ]
    new = rehearsed[0].rows[0]
    assert (new.table, new.id, new.before, new.after["status"]) == ("payments", str(mended), None, "CHARGING")
    assert rehearsed[0].intents == [f"charge:{mended}"]
    assert msgspec.json.encode(rehearsed)

    engine.start()
    begun = await engine.recovery.replay(DEAD, ReplayPlan(failing_share_max=1), ME)
    ended = await over(engine, begun.number)
    await engine.kill()
    assert ended.progress == ReplayProgress(succeeded=2, failed_again=2)
    assert shop.asked("SELECT count(*), count(DISTINCT order_id) FROM payments") == "3|3"
    assert shop.asked("SELECT count(*) FROM intents") == "3"
    left = await engine.recovery.store.letters(LetterFilter(state=None), 10)
    assert [(each.key, each.state.name) for each in left] == [
        (str(waiting), "DEAD"),
        (str(early), "DEAD"),
        (str(done), "DEAD"),
    ]


async def test_what_the_database_refuses_as_illegal_is_told_as_such_with_those_before_it(shop: Shop) -> None:
    order_id = new_order_id()
    await shop.admit(placed(order_id), service=LAST_RELEASE)
    await shop.admit(rejected(order_id))
    touches = SERVICE.handlers[StockRejected].touches
    service = replace(SERVICE, handlers={**SERVICE.handlers, StockRejected: Handler(touches, leaping)})
    before = shop.checksums()

    rehearsed = await shop.engine(service).recovery.rehearse(DEAD)

    assert told(rehearsed) == [("OrderPlaced", "succeeds"), ("StockRejected", "illegal")]
    assert rehearsed[1].error == "TransitionRefusedError"
    assert shop.checksums() == before


async def test_live_traffic_is_not_waited_for_and_a_cancelled_rehearsal_holds_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = new_order_id()
    await shop.admit(placed(order_id), service=LAST_RELEASE)
    recovery = shop.engine().recovery
    before = shop.checksums()

    async with shop.store.transaction() as traffic:
        await traffic.open(Plan("order", locks=[identity.lock_id(str(order_id))]))
        rehearsing = asyncio.ensure_future(recovery.rehearse(DEAD))
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await eventually(lambda: shop.asked(waits) == "1")
        rehearsing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rehearsing
        await eventually(lambda: shop.asked(waits) == "0")
        with monkeypatch.context() as hasty:
            hasty.setattr("orderflow.core.operations.rehearsal.LOCK_WAIT_S", 0.2)
            busy = await recovery.rehearse(DEAD)

    assert told(busy) == [("OrderPlaced", "busy")]
    assert told(await recovery.rehearse(DEAD)) == [("OrderPlaced", "succeeds")]
    assert shop.checksums() == before
    assert shop.asked("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"


async def test_two_replays_at_once_and_a_process_that_dies_have_each_effect_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "LEASE_MS", 300)
    for _ in range(40):
        await shop.admit(placed(new_order_id()), service=LAST_RELEASE)
    async with shop.process() as first, shop.process() as second, shop.process() as third:
        for each in (first, second, third):
            each.start()
        begun = [
            await first.recovery.replay(DEAD, ReplayPlan(rate_per_s=60), ME),
            await second.recovery.replay(DEAD, ReplayPlan(canary=True), ME),
        ]
        await eventually(lambda: int(shop.asked("SELECT count(*) FROM payments")) >= 5)
        await first.kill()
        ended = [await over(third, replay.number) for replay in begun]

    outcomes = [replay.progress for replay in ended]
    assert [replay.state for replay in ended] == [ReplayState.DONE] * 2
    assert sum(each.succeeded + each.gone for each in outcomes) == sum(replay.progress.waiting for replay in begun)
    assert sum(each.succeeded for each in outcomes) == 40
    assert shop.asked("SELECT count(*), count(DISTINCT order_id) FROM payments") == "40|40"
    assert shop.asked("SELECT count(*) FROM intents") == "40"
    assert shop.asked("SELECT max(replays) FROM parked_events") == ""
    assert shop.asked("SELECT count(*) FROM parked_history WHERE moment = 'replayed'") == "40"


async def test_an_edit_and_a_discard_are_kept(shop: Shop) -> None:
    edited, discarded = new_order_id(), new_order_id()
    for order_id in (edited, discarded):
        await shop.admit(placed(order_id), service=LAST_RELEASE)
    recovery = shop.engine().recovery
    first, second = await recovery.store.letters(DEAD, 10)
    before = await recovery.store.letter(first.position)
    assert before is not None
    value = msgspec.json.encode(msgspec.structs.replace(placed(edited), payment_method="another"))

    letter = await recovery.edit(first.event_id, value, ME)
    await recovery.discard(second.event_id, ME)

    assert letter.original == before.event.record
    assert letter.event.record.value == value
    rehearsed = await recovery.rehearse(DEAD)
    assert [each.rows[0].after["payment_method"] for each in rehearsed] == ["another"]
    states = "SELECT state, count(*) FROM processed_events GROUP BY state ORDER BY state"
    assert shop.asked(states).split() == ["3|1", "4|1"]
    assert shop.asked("SELECT string_agg(action, ' ' ORDER BY number) FROM operator_actions") == "edit discard"


async def test_what_waits_is_read_from_the_table_page_by_page(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [new_order_id() for _ in range(5)]
    for order_id in orders:
        await shop.admit(placed(order_id), service=LAST_RELEASE)
    monkeypatch.setattr(check, "PAGE", 2)

    pages = [page async for page in check.read_waiting(shop.url)]

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [(consumer, event.key) for page in pages for consumer, event in page] == [
        ("payment", str(order_id)) for order_id in orders
    ]
    assert check.unreadable(pages[0], SERVICE.catalogue) == []
