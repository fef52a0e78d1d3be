"""What only the units of work on PostgreSQL have: two calls each, session locks, and functions made by migrations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from orderflow.core import envelopes
from orderflow.core.envelopes import Incoming, from_command, from_record
from orderflow.core.identity import event_id
from orderflow.core.messages import Envelope, Event
from orderflow.core.postgres import schema
from orderflow.core.postgres.functions import KEPT, Functions
from orderflow.core.postgres.schema import MigrationSequence
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import Facts, Table, tables_of
from orderflow.core.postgres.transaction import number_literal, text_literal
from orderflow.core.processor import Processor
from orderflow.core.service import Fact
from orderflow.core.store import DataRefusedError, End, Plan, SchemaBehindError, Store, StoreUnavailableError
from orderflow.core.telemetry import Outcome, Signals
from orderflow.core.timing import SystemClock
from orderflow.core.transport import ConsumerRecord
from orderflow.events.inventory import ReservedLine, StockReserved
from orderflow.events.order import Item
from orderflow.events.payment import PaymentSucceeded
from orderflow.services.order import service as order
from orderflow.services.order.messages import PlaceOrder
from tests.conformance import store_tables
from tests.conformance.store_tables import Counter, Move, Parcel
from tests.conformance.store_values import CONSUMER, changes, commit, entry, load, outgoing
from tests.schedules.processes import POLICY
from tests.support.saga import new_order_id
from tests.support.waiting import eventually

ITEM = Item(sku="SKU-A", quantity=2, unit_price=1250)
A = Counter(counter_id="a", value=1)
CORE = schema.core()
OWN = MigrationSequence.from_package("parcels", store_tables.__name__, store_tables.tables())


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    await schema.migrate(database_url, [CORE, OWN])
    opened = await PostgresStore.connect(database_url, tables=store_tables.tables())
    yield opened
    await opened.close()


HOSTILE = ["", "NULL", "null", "{}", "a,b", '"', "\\", '\\"', "a\n\tb", " edge ", "\u20ac\U0001f600", "x" * 10_000]


@pytest.mark.parametrize(
    "values", [[], HOSTILE, ["plain", "text"], ["a", None, '"'], [None], *([each] for each in HOSTILE)]
)
async def test_a_text_that_is_passed_within_a_literal_is_itself(database_url: str, values: list[str | None]) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT $1::text::text[]", text_literal(values)) == values
    finally:
        await connection.close()


@pytest.mark.parametrize("values", [[], [0, -1, None, 2**63 - 1, -(2**63)], [None]])
async def test_numbers_that_are_passed_within_a_literal_are_themselves(
    database_url: str, values: list[int | None]
) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT $1::text::bigint[]", number_literal(values)) == values
    finally:
        await connection.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the driver is asked, a round trip each."""
    said: list[str] = []
    for name in ("execute", "fetch", "fetchrow", "fetchval", "prepare"):
        monkeypatch.setattr(asyncpg.Connection, name, _noting(getattr(asyncpg.Connection, name), said))
    return said


def _noting(ask: Any, said: list[str]) -> Any:
    async def noting(self: object, query: str, *others: Any, **how: Any) -> Any:
        said.append(query)
        return await ask(self, query, *others, **how)

    return noting


def of(said: list[str]) -> list[str]:
    """The statements by what they are: `open`, `commit`, or the words themselves."""
    return [next((kind for kind in ("open", "commit") if f"public.orderflow_{kind}_" in each), each) for each in said]


async def locked(database_url: str) -> list[int]:
    """The advisory locks that anybody holds or waits for, by the lower half of their numbers."""
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch(
        "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY objid"
    )
    await connection.close()
    return [row["objid"] for row in rows]


async def are_locked(database_url: str, wanted: list[int]) -> bool:
    """Who waits for a lock counts with who holds it."""
    return await locked(database_url) == wanted


async def take_locks(store: Store, *locks: int) -> None:
    async with store.transaction() as tx:
        await tx.open(Plan(CONSUMER, locks=locks))


async def test_a_batch_is_two_calls(store: PostgresStore, asked: list[str]) -> None:
    batch = changes(
        rows=[A, Parcel(parcel_id="p")],
        facts=[Move(parcel_id="p", number=1, place="x")],
        inbox=[entry("k", "1")],
        emitted={("/shop", "k"): 1},
        outbox=[outgoing("k")],
    )
    async with store.transaction() as tx:
        await tx.open(Plan(CONSUMER, [("k", "1")], [1, 2], [A.ref]))
        await tx.commit(batch)
    assert of(asked) == ["open", "commit"]


async def test_a_batch_that_is_abandoned_is_two_calls_and_a_look_without_locks_is_one(
    store: PostgresStore, asked: list[str]
) -> None:
    async with store.transaction() as tx:
        await tx.open(Plan(CONSUMER, locks=[1]))
    assert of(asked)[:1] == ["open"]
    assert "pg_advisory_unlock_all" in asked[1]
    assert len(asked) == 2
    asked.clear()
    async with store.transaction() as tx:
        await tx.open(Plan(CONSUMER, [("k", "1")], rows=[A.ref]))
    assert of(asked) == ["open"]


async def test_a_new_order_and_what_it_hears_are_two_round_trips_each_also_when_they_wait_for_one_another(
    database_url: str, asked: list[str]
) -> None:
    await schema.migrate(database_url, schema.schema_of(order.SERVICE))
    store = await PostgresStore.connect(database_url, tables=tables_of(order.SERVICE.tables))
    processor = Processor(order.SERVICE, store, POLICY, Signals([]), SystemClock())
    placed = PlaceOrder(
        order_id=new_order_id(), customer_id="c", currency="EUR", items=(ITEM,), payment_method="pm_card_visa"
    )
    command = from_command(placed, "/orderflow/order", None, uuid4())
    paid = heard(
        PaymentSucceeded(order_id=placed.order_id, customer_id="c", currency="EUR", total=2500, items=(ITEM,))
    )
    lines = (ReservedLine(sku="SKU-A", quantity=2),)
    reserved = heard(StockReserved(order_id=placed.order_id, lines=lines, customer_id="c"))
    asked.clear()

    for message in (command, paid):
        assert [each.outcome for each in await processor.admit("order", [message])] == [Outcome.HANDLED]
        assert of(asked) == ["open", "commit"]
        asked.clear()
    done = await asyncio.gather(*(processor.admit("order", [each]) for each in (reserved, paid)))

    assert [each.outcome for [each] in done] == [Outcome.HANDLED, Outcome.DUPLICATE]
    assert sorted(each for each in of(asked) if each in ("open", "commit")) == ["commit"] * 2 + ["open"] * 2
    await store.close()


async def test_an_order_like_the_last_one_is_one_round_trip_until_one_comes_that_is_there(
    database_url: str, asked: list[str]
) -> None:
    await schema.migrate(database_url, schema.schema_of(order.SERVICE))
    store = await PostgresStore.connect(database_url, tables=tables_of(order.SERVICE.tables))
    processor = Processor(order.SERVICE, store, POLICY, Signals([]), SystemClock())

    async def place(key: str) -> list[str]:
        asked.clear()
        command = PlaceOrder(
            order_id=new_order_id(),
            customer_id="c",
            currency="EUR",
            items=(ITEM,),
            payment_method="pm_card_visa",
            idempotency_key=key,
        )
        [done] = await processor.admit("order", [from_command(command, "/orderflow/order", None, uuid4())])
        assert done.outcome is Outcome.HANDLED, done
        return ["at once" if "LATERAL" in text else kind for text, kind in zip(asked, of(asked), strict=True)]

    assert [await place(key) for key in "ab"] == [["open", "commit"], ["at once"]]
    assert await place("a") == ["at once", "open", "commit"]
    assert [await place(key) for key in "cd"] == [["open", "commit"], ["at once"]]
    assert await locked(database_url) == []
    await store.close()


async def test_a_session_is_as_before_however_its_unit_of_work_ended(database_url: str, store: PostgresStore) -> None:
    """No lock is left, and who rests in the pool is not cut off for resting."""
    plan = Plan(CONSUMER, locks=[1, 2])

    async def committed() -> None:
        async with store.transaction() as tx:
            await tx.open(plan)
            await tx.commit(changes(rows=[A]))

    async def taken_back() -> None:
        async with store.transaction() as tx:
            await tx.open(plan)
            await tx.commit(changes(inbox=[entry("k", "1")]), End.ROLLBACK)

    async def refused() -> None:
        with pytest.raises(DataRefusedError):
            async with store.transaction() as tx:
                await tx.open(plan)
                await tx.commit(changes(rows=[A, Counter(counter_id="b", value=-1)]))

    async def abandoned() -> None:
        async with store.transaction() as tx:
            await tx.open(plan)

    async def cancelled() -> None:
        with pytest.raises(asyncio.CancelledError):
            async with store.transaction() as tx:
                await tx.open(plan)
                raise asyncio.CancelledError

    for ending in (committed, taken_back, refused, abandoned, cancelled):
        await ending()
        assert await locked(database_url) == [], ending
        assert [row[0] for row in await store.work.fetch("SHOW idle_session_timeout")] == ["0"], ending


async def test_who_gives_up_half_way_into_his_locks_gives_back_those_that_he_has(
    database_url: str, store: PostgresStore
) -> None:
    hasty = await PostgresStore.connect(database_url, tables=store_tables.tables())
    before = await hasty.work.fetch("SELECT pg_backend_pid()")
    async with store.transaction() as tx:
        await tx.open(Plan(CONSUMER, locks=[2]))
        giving_up = asyncio.create_task(take_locks(hasty, 1, 2, 3))
        await eventually(lambda: are_locked(database_url, [1, 2, 2]))
        giving_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await giving_up
        assert await locked(database_url) == [2]
        assert await hasty.work.fetch("SELECT pg_backend_pid()") == before, "the session is fit for another use"
    await hasty.close()


async def test_a_process_that_stands_still_in_a_batch_leaves_its_locks_to_others_and_writes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orderflow.core.postgres.functions.IDLE_IN_TRANSACTION_TIMEOUT_MS", 2_000)
    await schema.migrate(database_url, [CORE, OWN])
    slow, other = [await PostgresStore.connect(database_url, tables=store_tables.tables()) for _ in range(2)]
    tx = slow.transaction()
    async with asyncio.timeout(60):
        await tx.__aenter__()
        await tx.open(Plan(CONSUMER, locks=[1]))
        async with other.transaction() as next_one:
            await next_one.open(Plan(CONSUMER, locks=[1]))
    with pytest.raises(StoreUnavailableError) as late:
        await tx.commit(changes(rows=[A]))
    await tx.__aexit__(StoreUnavailableError, late.value, None)
    assert await load(other, A.ref) == {}
    await slow.close()
    await other.close()


async def test_a_lock_is_held_until_what_was_written_under_it_can_be_seen(
    database_url: str, store: PostgresStore
) -> None:
    """Those who wait for the lock see the commit, whatever it waits for: here, for a row that somebody else holds."""
    await commit(store, changes(rows=[A]))
    holder = await asyncpg.connect(database_url)
    second = Counter(counter_id="a", value=2)

    async def write() -> None:
        async with store.transaction() as tx:
            found = await tx.open(Plan(CONSUMER, locks=[1], rows=[A.ref]))
            await tx.commit(changes(rows=[second], existing=frozenset(found.rows)))

    async def read() -> object:
        async with store.transaction() as tx:
            return (await tx.open(Plan(CONSUMER, locks=[1], rows=[A.ref]))).rows[A.ref]

    async with holder.transaction():
        await holder.execute("UPDATE counters SET value = 1")
        writing = asyncio.create_task(write())
        await eventually(lambda: waiting(store, "transactionid"))
        reading = asyncio.create_task(read())
        await eventually(lambda: waiting(store, "advisory"))
    await writing
    assert await reading == second
    await holder.close()


async def waiting(store: Store, kind: str) -> bool:
    assert isinstance(store, PostgresStore)
    rows = await store.fetch("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = $1", kind)
    return bool(rows[0][0])


# --- the functions


async def made(database_url: str) -> set[str]:
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT proname FROM pg_proc WHERE proname LIKE 'orderflow_open_%'")
    await connection.close()
    return {row["proname"] for row in rows}


def release(number: int) -> MigrationSequence:
    """Another release's tables: a query that reads differently."""
    first, counters, last = store_tables.tables()
    assert isinstance(counters, Table)
    return replace(OWN, tables=(first, replace(counters, load=f"{counters.load}\n-- release {number}"), last))


async def test_two_releases_run_side_by_side_and_those_long_gone_are_dropped(
    database_url: str, store: PostgresStore
) -> None:
    names = [Functions(release(number).tables).names[0] for number in range(KEPT + 1)]
    for number in range(KEPT):
        await schema.migrate(database_url, [CORE, release(number)])
        await commit(store, changes(rows=[Counter(counter_id=f"old {number}", value=1)]))
    await schema.migrate(database_url, [CORE, release(KEPT)])
    assert await made(database_url) == set(names)
    with pytest.raises(SchemaBehindError, match="orderflow migrate"):
        await commit(store, changes(rows=[A]))
    await schema.migrate(database_url, [CORE, release(0)])
    assert names[0] in await made(database_url)


async def test_a_release_whose_functions_are_missing_is_told_before_it_starts(
    database_url: str, store: PostgresStore
) -> None:
    await schema.check(database_url, [CORE, OWN])
    with pytest.raises(SchemaBehindError, match=r"orderflow_open_[0-9a-f]{12}: run `orderflow migrate`"):
        await schema.check(database_url, [CORE, release(1)])


async def test_a_column_that_a_migration_adds_disturbs_no_session_that_is_open(
    database_url: str, store: PostgresStore
) -> None:
    await commit(store, changes(rows=[A]))
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE counters ADD COLUMN more text, ALTER COLUMN value TYPE numeric")
    await connection.close()
    assert await load(store, A.ref) == {A.ref: A}
    await commit(store, changes(rows=[Counter(counter_id="b", value=2)]))


WIDTH = 40


def wide(number: int) -> tuple[Any, Facts]:
    """A fact of forty columns."""
    names = [f"c{column}" for column in range(WIDTH)]
    name = f"wide_{number}"
    made: Any = msgspec.defstruct(name, [(each, int) for each in names], bases=(Fact,), frozen=True, kw_only=True)
    made.TABLE = name
    given = ", ".join(f"${column + 1}::bigint[]" for column in range(WIDTH))
    return made, Facts(made, f"INSERT INTO {name} ({', '.join(names)}) SELECT * FROM unnest({given})")


async def test_more_columns_than_a_function_takes_are_written_all_the_same(database_url: str) -> None:
    kinds = [wide(number) for number in range(3)]
    tables = tuple(facts for _, facts in kinds)
    await schema.migrate(database_url, [replace(CORE, tables=tables)])
    store = await PostgresStore.connect(database_url, tables=tables)
    connection = await asyncpg.connect(database_url)
    for number in range(3):
        columns = ", ".join(f"c{column} bigint" for column in range(WIDTH))
        await connection.execute(f"CREATE TABLE wide_{number} ({columns}, CHECK (c0 > 0))")
    for last, expected in ((1, nullcontext()), (0, pytest.raises(DataRefusedError))):
        ones = {f"c{n}": 1 for n in range(WIDTH)}
        facts = [kinds[0][0](**ones), kinds[1][0](**ones), kinds[2][0](**ones | {"c0": last})]
        with expected:
            await commit(store, changes(facts=facts, outbox=[outgoing("k")]))
    counts = [await connection.fetchval(f"SELECT count(*) FROM wide_{number}") for number in range(3)]
    assert (counts, (await store.backlog()).unsent) == ([1, 1, 1], 1)
    await connection.close()
    await store.close()


def heard(event: Event) -> Incoming:
    """As it comes from the log."""
    source = "/orderflow/another"
    made = event_id(source, event.TYPE, event.key, 1)
    envelope = Envelope(id=made, message=event, source=source, key=event.key, sequence=1)
    record = ConsumerRecord(
        event.TOPIC,
        0,
        0,
        event.key.encode(),
        msgspec.json.encode(event),
        envelopes.with_time(envelopes.to_headers(envelope), 1_700_000_000_000),
    )
    return from_record(record, order.SERVICE.catalogue)
