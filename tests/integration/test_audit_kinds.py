"""Every kind of corruption, planted among 100,000 clean orders: found on its orders, and nowhere else."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

import asyncpg
import pytest

from orderflow.audit.collect import Collector, ledgers, opened
from orderflow.audit.findings import Finding, Kind, Report
from orderflow.audit.live import Scope, audit
from orderflow.audit.orders import check_order
from orderflow.core import postgres_log
from orderflow.core.dead_letters import topic_of
from orderflow.core.transport import ProducerRecord
from orderflow.events.base import PAYMENT_STATUS
from tests.support.clean_books import fill
from tests.support.corruption import ON_ORDER_EVENTS, PLANTS, UNDER_WAY, Plant
from tests.support.damage import unguarded
from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, Databases, databases

ORDERS = 100_000
LEDGER = 10_000
FIRST = ORDERS - 5_000
BLOCK = 20
KINDS = {"completed": 0, "declined": 7, "refunded": 9}
COMPLETED_ONLY = ("movements", "idempotency_keys")
NEVER = "00000000-0000-7000-8000-000000000000"
FORGED = "fffffffe-0000-7000-8000-000000000000"

NOT_AT_REST = (Kind.INTENT_UNCALLED_FOR, Kind.INTENT_OPEN, Kind.EVENT_UNSENT, Kind.WORK_LEFT)
"""What cannot be there while all is at rest."""
AT_OTHERS = (Kind.EVENT_NEVER_RECEIVED,)
"""What can be found of a service outside of the saga only: see test_example_shipping.py."""

Found = dict[Kind, set[str]]


class Planted:
    """The databases with everything planted, and what has to be found."""

    def __init__(self, made: Databases) -> None:
        self.made = made
        self.expected: Found = defaultdict(set)
        self.clean: Report | None = None
        self.broken: Report | None = None
        self._ids: list[str] = []

    async def prepare(self) -> None:
        await fill(self.made, ORDERS, LEDGER)
        rows = await fetch(self.made.urls["order"], "SELECT order_id FROM orders ORDER BY order_id")
        self._ids = [str(row["order_id"]) for row in rows]
        self.clean = await look(self.made)
        for place, plant in enumerate(PLANTS):
            await self.plant(plant, FIRST + place * BLOCK, self.expected)
        await self._shuffle(FIRST + len(PLANTS) * BLOCK)
        await self._forge()
        self.expected[Kind.ORDER_MISSING].add(NEVER)
        self.broken = await look(self.made, accepted=(NEVER, self._ids[0]))

    def untouched(self, place: int, of: str) -> str:
        """An order that nothing was planted on."""
        return self._ids[SPOIL_FROM + place * BLOCK + KINDS[of] - 1]

    async def plant(self, plant: Plant, first: int, expected: Found) -> None:
        """On two orders from number `first` on; what has to be found of them goes to `expected`."""
        numbers = [first + KINDS[plant.of] + step for step in (0, 10)]
        chosen = [self._ids[number - 1] for number in numbers]
        quoted = ", ".join(f"'{each}'" for each in chosen)
        for database, statements in plant.sql.items():
            filled = [each.format(ids=f"({quoted})", list=quoted, skus="{skus}") for each in statements]
            await unguarded(self.made.urls[database], *filled)
        skus = tuple(f"SKU-{number % 50}" for number in numbers)
        for kind in (plant.kind, *plant.also):
            if kind not in plant.of_all:
                expected[kind].update(chosen if plant.subjects is None else plant.subjects)
        for kind, subjects in plant.of_all.items():
            for subject in subjects:
                expected[kind].update(skus if subject == "{skus}" else (subject,))

    async def _shuffle(self, number: int) -> None:
        """The two records of an order change places."""
        order_id, url = self._ids[number - 1], self.made.urls["log"]
        found = f'SELECT partition_id AS part, "offset" AS place {ON_ORDER_EVENTS}'.format(ids=f"('{order_id}')")
        first, second = await fetch(url, found.replace("FROM", "FROM records,", 1))
        moved = 'UPDATE records SET "offset" = {to} WHERE partition_id = {part} AND "offset" = {place}'
        part, one, other = first["part"], first["place"], second["place"]
        await unguarded(
            url,
            moved.format(to=-1, part=part, place=one),
            moved.format(to=one, part=part, place=other),
            moved.format(to=other, part=part, place=-1),
        )
        self.expected[Kind.RECORDS_OUT_OF_ORDER].add(order_id)

    async def _forge(self) -> None:
        """Records that no service has made, and that all consumers have read."""
        transport = await postgres_log.PostgresLogTransport.connect(self.made.urls["log"])
        headers = (
            ("ce_id", FORGED.encode()),
            ("ce_source", b"/orderflow/payment"),
            ("dlt_event_id", FORGED.encode()),
        )
        try:
            await transport.append(
                [
                    ProducerRecord(topic, FORGED.encode(), b"{}", headers)
                    for topic in (PAYMENT_STATUS, topic_of(PAYMENT_STATUS))
                ]
            )
        finally:
            await transport.close()
        await unguarded(
            self.made.urls["log"],
            "UPDATE group_offsets SET committed = greatest(committed, next_offset) FROM partitions "
            "WHERE partitions.id = partition_id",
        )
        self.expected[Kind.RECORD_FORGED].add(FORGED)
        self.expected[Kind.DEAD_LETTER_UNKNOWN].add(FORGED)


async def look(made: Databases, accepted: tuple[str, ...] = (), *, topics: bool = True) -> Report:
    transport = await postgres_log.PostgresLogTransport.connect(made.urls["log"])
    try:
        return await audit(made.urls, transport, wait_s=0.0, accepted=accepted, scope=Scope(topics=topics))
    finally:
        await transport.close()


async def fetch(url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


TABLES: Mapping[str, Mapping[str, str]] = {
    "order": {
        "orders": "order_id",
        "order_history": "order_id",
        "order_refunds": "order_id",
        "idempotency_keys": "order_id",
        "processed_events": "key",
        "streams": "key",
        "outbox": "convert_from(key, 'UTF8')",
    },
    "payment": {"payments": "order_id", "processed_events": "key", "streams": "key"},
    "inventory": {"reservations": "order_id", "movements": "cause", "processed_events": "key", "streams": "key"},
    "notification": {"notifications": "order_id", "processed_events": "key"},
    "bank": {"bank_charges": "order_id", "bank_refunds": "order_id"},
}
SPOILED = {
    "text": "{column} || 'x'",
    "bigint": "{column} + 700000",
    "integer": "{column} + 700000",
    "smallint": "3",
    "uuid": "gen_random_uuid()",
    "jsonb": "'[]'",
}
COLUMNS = """SELECT column_name, data_type FROM information_schema.columns
    WHERE table_name = '{table}' AND column_name NOT IN ('order_id', 'key', 'cause', 'number') ORDER BY 1"""
RULES = "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = '{table}'::regclass"
SPOIL_FROM = ORDERS - 3_000


async def spoil(planted: Planted) -> set[str]:
    """One value of one row, or the row itself, of each order chosen; returns the orders."""
    spoiled: set[str] = set()
    for database, tables in TABLES.items():
        url = planted.made.urls[database]
        for table, key in tables.items():
            for row in await fetch(url, RULES.format(table=table)):
                await unguarded(url, f"ALTER TABLE {table} DROP CONSTRAINT {row['conname']}")
            columns = {row["column_name"]: row["data_type"] for row in await fetch(url, COLUMNS.format(table=table))}
            changes = [
                f"UPDATE {table} SET {name} = {SPOILED[kind].format(column=name)}"
                for name, kind in columns.items()
                if kind in SPOILED and table != "outbox"
            ]
            for begun in [*changes, f"DELETE FROM {table}"]:
                order_id = planted.untouched(len(spoiled), "completed" if table in COMPLETED_ONLY else "refunded")
                one = f"SELECT ctid FROM {table} WHERE {key} = '{order_id}' LIMIT 1"
                await unguarded(url, f"{begun} WHERE {key} = '{order_id}' AND ctid = ({one})")
                spoiled.add(order_id)
    return spoiled


def names(findings: Iterable[Finding]) -> Counter[tuple[Kind, str]]:
    return Counter((finding.kind, finding.subject) for finding in findings)


@pytest.fixture(scope="module")
def planted(postgres: PostgresServer) -> Iterator[Planted]:
    with databases(postgres, *SERVICES) as made:
        planted = Planted(made)
        asyncio.run(planted.prepare())
        yield planted


def test_clean_books_have_no_findings(planted: Planted) -> None:
    report = planted.clean
    assert report is not None
    assert (report.at_rest, report.orders, report.count, report.findings) == (True, ORDERS, 0, [])
    assert report.statuses == {"COMPLETED": ORDERS * 8 // 10, "FAILED": ORDERS * 2 // 10}
    assert report.judged == 0
    assert report.records == LEDGER * 4


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (*NOT_AT_REST, *AT_OTHERS)])
def test_a_kind_is_found_where_it_was_planted_and_nowhere_else(planted: Planted, kind: Kind) -> None:
    assert planted.broken is not None
    assert planted.broken.at_rest
    found = {finding.subject for finding in planted.broken.findings if finding.kind is kind}
    assert planted.expected[kind]
    assert found == planted.expected[kind]


async def test_what_the_judge_finds_falls_through_the_sieve(planted: Planted) -> None:
    """Every column of every row of some orders, each spoiled on an order of its own."""
    spoiled = await spoil(planted)
    report = await look(planted.made, topics=False)
    async with opened(planted.made.urls) as reading, reading.snapshots():
        collector = Collector(reading, await ledgers(reading))
        judged = [
            finding async for books in collector.orders(spoiled) for finding in check_order(books, at_rest=True)
        ]
    assert len({finding.subject for finding in judged}) > len(spoiled) // 2
    assert names(judged) == names(finding for finding in report.findings if finding.subject in spoiled)


async def test_what_lasts_is_told_also_while_something_is_under_way(planted: Planted) -> None:
    """Each finding of an order was there at two looks; what was not open before is found as well."""
    before = await look(planted.made, topics=False)
    asked: Found = defaultdict(set)
    for place, plant in enumerate(UNDER_WAY):
        await planted.plant(plant, FIRST - (place + 1) * BLOCK, asked)

    report = await look(planted.made, topics=False)

    assert (before.at_rest, report.at_rest) == (True, False)
    new = names(report.findings) - names(before.findings)
    assert set(new) == {(kind, subject) for kind, subjects in asked.items() for subject in subjects}
    assert names(before.findings) - names(report.findings) == Counter()
