"""What holds an order up: how it is done to a running system, how it is undone, and what has to be named first.

An injection is entered with everything well, and yields the order that it holds up; at its end all is healed, and
that order can end.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

import orderflow
from orderflow.chaos.proxy import CUT, HOLD, SLOW, LinkFault
from orderflow.chaos.system import of_python
from orderflow.core.postgres.outbox import SLOT_LOCKS
from orderflow.core.transport import ProducerRecord
from orderflow.diagnosis.causes import CauseKind
from orderflow.local.home import database_name
from orderflow.runtime.wiring import connect_transport
from tests.causes.stage import NONE, PARTITIONS, PLENTY, Stage
from tests.e2e.shop import VISA
from tests.support.waiting import eventually

Inject = Callable[[Stage], AbstractAsyncContextManager[str]]
POSTGRES, KAFKA, DISK = "postgres", "kafka", "disk"
SLOTS = 16
CROWD = 200
REFUND_FAILS = "pm_card_refundFail"


@dataclass(frozen=True, slots=True)
class Injection:
    """`named`: the kind of the first cause, at which `service`; the pattern `says` is found in its part or sentence.
    `on` is the stage that it needs. With `listed`, `orderflow stuck` names it too: of an order that has ended all
    but its notice or its refund, it tells nothing. `ends`: healed, the order comes to its end. `on_the_way`: what is
    true, and named, before that: an event is tried again before it is dead.
    """

    name: str
    what: str
    inject: Inject
    named: CauseKind
    service: str
    says: str = ""
    on: str = POSTGRES
    listed: bool = True
    ends: bool = True
    on_the_way: frozenset[CauseKind] = frozenset()


@asynccontextmanager
async def stopped(stage: Stage, service: str) -> AsyncIterator[str]:
    """The order service has to take the order before it can be away: meanwhile the next one is kept waiting."""
    process = stage.services[service]
    if service == "order":
        async with _waiting_at_payment(stage) as order_id:
            await process.stop()
    else:
        await process.stop()
        order_id = await stage.shop.place(PLENTY)
    try:
        yield order_id
    finally:
        await process.start()
        await process.ready()


@asynccontextmanager
async def frozen(stage: Stage, service: str) -> AsyncIterator[str]:
    process = stage.services[service]
    if service == "order":
        async with _waiting_at_payment(stage) as order_id:
            process.freeze()
    else:
        process.freeze()
        order_id = await stage.shop.place(PLENTY)
    try:
        yield order_id
    finally:
        process.go_on()
        await process.ready()


@asynccontextmanager
async def _waiting_at_payment(stage: Stage) -> AsyncIterator[str]:
    """An order is placed and published, and not handled until the block ends."""
    payment = stage.services["payment"]
    payment.freeze()
    try:
        order_id = await stage.shop.place(PLENTY)
        await eventually(partial(_is_published, stage, order_id))
        yield order_id
    finally:
        payment.go_on()


async def _is_published(stage: Stage, order_id: str) -> bool:
    return bool((await stage.shop.get("order", f"/ops/trails/{order_id}"))["unsent"] == [])


@asynccontextmanager
async def troubled(stage: Stage, link: str, trouble: LinkFault, *, method: str = VISA) -> AsyncIterator[str]:
    """The way to a database is. The order service has its order by then."""
    if link == "order":
        async with _waiting_at_payment(stage) as order_id:
            stage.links[link].begin(trouble)
    else:
        stage.links[link].begin(trouble)
        order_id = await stage.shop.place(PLENTY, method=method)
    try:
        yield order_id
    finally:
        stage.links[link].heal()


@asynccontextmanager
async def slow_bank(stage: Stage) -> AsyncIterator[str]:
    process = stage.services["payment"]
    await process.restart(gateway_timeout_ms=120_000, intent_lease_ms=200_000)
    try:
        async with troubled(stage, "bank", LinkFault(SLOW, 4_000)) as order_id:
            yield order_id
    finally:
        await process.restart()


@asynccontextmanager
async def altered(stage: Stage, service: str, change: str, back: str) -> AsyncIterator[str]:
    """The database is altered by its administrator, and everybody has to connect anew."""
    name = database_name(service)
    stage.server.execute(f"ALTER DATABASE {name} {change}")
    stage.end_sessions(service)
    try:
        yield await stage.shop.place(PLENTY)
    finally:
        stage.server.execute(f"ALTER DATABASE {name} {back}")
        stage.end_sessions(service)


@asynccontextmanager
async def held_row(stage: Stage, database: str, statement: str) -> AsyncIterator[str]:
    """Another session holds what the step needs, in a transaction that does not end."""
    async with stage.session(database) as session:
        transaction = session.transaction()
        await transaction.start()
        await session.execute(statement)
        order_id = await stage.shop.place(PLENTY)
        try:
            yield order_id
        finally:
            await transaction.rollback()


@asynccontextmanager
async def slots_taken(stage: Stage, service: str) -> AsyncIterator[str]:
    """All slots of the outbox are another session's, which publishes nothing."""
    async with stage.session(service) as session:
        own = session.get_server_pid()
        for slot in range(SLOTS):
            waiting = asyncio.ensure_future(session.execute("SELECT pg_advisory_lock($1, $2)", SLOT_LOCKS, slot))
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=0.05)
                _end_holder(stage, service, slot, own)
            await waiting
        async with _talking(session):
            yield await stage.shop.place(PLENTY)


@asynccontextmanager
async def _talking(session: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    """A session that says nothing for some seconds is taken for a relay that stands still, and ended."""
    over = asyncio.Event()

    async def talk() -> None:
        while not over.is_set():
            await session.execute("SELECT 1")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await over.wait()

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        over.set()
        await task


def _end_holder(stage: Stage, service: str, slot: int, own: int) -> None:
    stage.administer(
        service,
        f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> {own} "
        f"AND classid = {SLOT_LOCKS} AND objid = {slot} "
        f"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )


@asynccontextmanager
async def fault(stage: Stage, service: str, event: str, error: str, orders: int = 1) -> AsyncIterator[str]:
    """A decision fails for the orders of one customer, as by a defect of its code."""
    customer = f"struck by {error}"
    struck = ("--event", event, "--match", f"customer_id={customer}", "--error", error)
    await stage.done("fault", "add", service, *struck)
    try:
        ids = [await stage.shop.place(PLENTY, customer=customer) for _ in range(orders)]
        yield ids[-1]
    finally:
        await stage.done("fault", "clear", "--all")
        await replayed(stage)


async def replayed(stage: Stage) -> None:
    """What was given up is handled after all."""
    if json.loads(await stage.done("dlt", "list", "--json"))["dead_letters"]:
        await stage.done("dlt", "replay", "--all", "--at-once", "--yes", "--reason", "the cause is mended")


@asynccontextmanager
async def held_behind(stage: Stage) -> AsyncIterator[str]:
    """What cannot be read stands before the order's next event."""
    async with _waiting_at_payment(stage) as order_id:
        await _append(stage, ProducerRecord("payment-status", order_id.encode(), b"no event", ()))

        async def is_dead() -> bool:
            found = await stage.shop.get("order", f"/ops/dead-letters?key={order_id}&limit=9")
            return bool(found["dead_letters"])

        await eventually(is_dead)
    try:
        yield order_id
    finally:
        for service in ("order", "inventory", "notification"):
            listed = json.loads(await stage.done("dlt", "list", "--service", service, "--order", order_id, "--json"))
            for letter in listed["dead_letters"]:
                event_id = letter["event_id"]
                discard = ("dlt", "discard", event_id, "--service", service, "--yes", "--reason", "it is no event")
                await stage.done(*discard)


async def _append(stage: Stage, record: ProducerRecord) -> None:
    transport = await connect_transport(stage.settings())
    try:
        await transport.append([record])
    finally:
        await transport.close()


@asynccontextmanager
async def discarded(stage: Stage) -> AsyncIterator[str]:
    """An operator has given up an event that the order waits for."""
    async with fault(stage, "inventory", "PaymentSucceeded", "permanent") as order_id:
        letter: dict[str, Any] = {}

        async def is_dead() -> bool:
            found = await stage.shop.get("inventory", f"/ops/dead-letters?key={order_id}&limit=9")
            letter.update(*found["dead_letters"][:1])
            return bool(letter)

        await eventually(is_dead, timeout_s=60, every_s=0.2)
        await stage.done("dlt", "discard", letter["event_id"], "--yes", "--reason", "by mistake")
    yield order_id


@asynccontextmanager
async def refund_refused(stage: Stage) -> AsyncIterator[str]:
    order_id = await stage.shop.place(NONE, method=REFUND_FAILS)
    try:
        yield order_id
    finally:
        settle = ("payment", "settle", order_id, "--as", "refunded", "--yes", "--reason", "by bank transfer")
        await stage.done(*settle)


@asynccontextmanager
async def schema_behind(stage: Stage, service: str) -> AsyncIterator[str]:
    """A release that wants one more migration is started before that was applied."""
    newest = "ORDER BY applied_at DESC, sequence_name DESC, number DESC LIMIT 1"
    where = f"WHERE (sequence_name, number) = (SELECT sequence_name, number FROM schema_migrations {newest})"
    kept = stage.administer(service, f"SELECT * FROM schema_migrations {where}")
    process = stage.services[service]
    await process.stop()
    stage.administer(service, f"DELETE FROM schema_migrations {where}")
    await process.start()
    await process.ended()
    order_id = await stage.shop.place(PLENTY)
    try:
        yield order_id
    finally:
        values = ", ".join(f"'{value}'" for value in kept.split("|"))
        stage.administer(service, f"INSERT INTO schema_migrations VALUES ({values})")
        await process.start()
        await process.ready()


@asynccontextmanager
async def expired(stage: Stage) -> AsyncIterator[str]:
    """A service is away for longer than the log keeps records."""
    process = stage.services["inventory"]
    await process.stop()
    order_id = await stage.shop.place(PLENTY)
    await eventually(partial(_is_paid, stage, order_id))
    for _ in range(2):
        aged = "opened_at = opened_at - interval '30 days', closed_at = closed_at - interval '30 days'"
        stage.administer("log", f"UPDATE segments SET {aged}")
        stage.administer("log", "SELECT rotate_segments()")
    stage.administer("log", "SELECT truncate_expired()")
    await process.start()
    await process.ready()
    try:
        yield order_id
    finally:
        await found_again(stage, "inventory")


async def found_again(stage: Stage, consumer: str) -> None:
    """What the log has lost is published again."""
    reason = ("--yes", "--reason", "the records expired")
    await stage.done("outbox", "republish", "--topic", "payment-status", *reason)
    await stage.done("expired", "acknowledge", consumer, "--reason", "published again")


@asynccontextmanager
async def full_parking(stage: Stage) -> AsyncIterator[str]:
    """So many orders are parked that there is no room for more."""
    process = stage.services["inventory"]
    await process.restart(parked_keys_max=1)
    try:
        async with fault(stage, "inventory", "PaymentSucceeded", "permanent", orders=6) as order_id:
            yield order_id
    finally:
        await process.restart()
        await replayed(stage)


@asynccontextmanager
async def full_disk(stage: Stage) -> AsyncIterator[str]:
    """So many orders wait at payment that its tables have to grow, and there is no room for that."""
    assert stage.disk is not None
    async with _waiting_at_payment(stage) as order_id:
        await stage.shop.place_many([(PLENTY, VISA)] * CROWD, side_by_side=16)
        stage.disk.fill()
        _fill_up(stage)
    try:
        yield order_id
    finally:
        stage.disk.free()
        stage.administer("bank", "DROP TABLE IF EXISTS ballast")


def _fill_up(stage: Stage) -> None:
    """Take what room is left, in pieces that become smaller."""
    stage.administer("bank", "CREATE TABLE ballast (filled text)")
    for rows in (64, 16, 4, 1):
        piece = f"INSERT INTO ballast SELECT repeat(md5(random()::text), 220) FROM generate_series(1, {rows})"
        with suppress(RuntimeError):
            while True:
                stage.administer("bank", piece)


@asynccontextmanager
async def clock_off(stage: Stage) -> AsyncIterator[str]:
    """The clock of a service is an hour ahead, so that all orders seem to take an hour there."""
    clock = of_python(stage.folder / "clock")
    clock.set(3600)
    process = stage.services["payment"]
    await process.restart(clock.environment)
    try:
        await stage.shop.ends_of(await stage.shop.place_many([(PLENTY, VISA)] * 20))
        async with held_row(stage, "payment", "LOCK TABLE payments IN EXCLUSIVE MODE") as order_id:
            yield order_id
    finally:
        await process.restart()


@asynccontextmanager
async def old_release(stage: Stage) -> AsyncIterator[str]:
    """A release is deployed that does not know an event of the newer ones yet."""
    source = stage.folder / "old"
    if not source.exists():
        shutil.copytree(Path(orderflow.__file__).parent, source / "orderflow")
        _replace(source / "orderflow" / "__init__.py", f'"{orderflow.__version__}"', '"0.0.9"')
        _replace(
            source / "orderflow" / "events" / "payment.py", '"orderflow.PaymentSucceeded"', '"orderflow.Captured"'
        )
    process = stage.services["inventory"]
    await process.restart({"PYTHONPATH": str(source)})
    try:
        yield await stage.shop.place(PLENTY)
    finally:
        await process.restart()
        await replayed(stage)


def _replace(file: Path, text: str, by: str) -> None:
    before = file.read_text("utf-8")
    assert text in before
    file.write_text(before.replace(text, by), "utf-8")


@asynccontextmanager
async def broker_away(stage: Stage) -> AsyncIterator[str]:
    assert stage.kafka is not None
    stage.kafka.crash()
    try:
        yield await stage.shop.place(PLENTY)
    finally:
        stage.kafka.start()


@asynccontextmanager
async def broker_frozen(stage: Stage) -> AsyncIterator[str]:
    assert stage.kafka is not None
    stage.kafka.freeze()
    try:
        yield await stage.shop.place(PLENTY)
    finally:
        stage.kafka.go_on()


def _admin(stage: Stage) -> AdminClient:
    assert stage.kafka is not None
    return AdminClient({"bootstrap.servers": stage.kafka.bootstrap, "log_level": 0})


@asynccontextmanager
async def topic_missing(stage: Stage) -> AsyncIterator[str]:
    admin = _admin(stage)
    for future in admin.delete_topics(["payment-status"]).values():
        await asyncio.to_thread(future.result, 60)
    order_id = await stage.shop.place(PLENTY)
    try:
        yield order_id
    finally:
        await stage.make_topics()
        await stage.done("outbox", "republish", "--topic", "payment-status", "--yes", "--reason", "it was deleted")


@asynccontextmanager
async def topic_replaced(stage: Stage) -> AsyncIterator[str]:
    process = stage.services["inventory"]
    await process.stop()
    order_id = await stage.shop.place(PLENTY)
    await eventually(partial(_is_paid, stage, order_id))
    admin = _admin(stage)
    for future in admin.delete_topics(["payment-status"]).values():
        await asyncio.to_thread(future.result, 60)
    await stage.make_topics()
    await process.start()
    await process.ready()
    try:
        yield order_id
    finally:
        # It finds the records of all earlier orders missing as well, which have had their effect.
        await stage.command("audit", "--repair", "--order", order_id, "--yes", "--reason", "the topic was deleted")


@asynccontextmanager
async def hanging_transaction(stage: Stage) -> AsyncIterator[str]:
    """A producer has begun a transaction on the topic, and neither commits nor aborts."""
    assert stage.kafka is not None
    wanted = {"transactional.id": "hangs", "transaction.timeout.ms": 600_000, "log_level": 0}
    producer = Producer({"bootstrap.servers": stage.kafka.bootstrap, **wanted})
    await asyncio.to_thread(producer.init_transactions, 60)
    producer.begin_transaction()
    for partition in range(PARTITIONS):
        producer.produce("order-events", b"nothing", key=b"nobody", partition=partition)
    await asyncio.to_thread(producer.flush, 60)
    try:
        yield await stage.shop.place(PLENTY)
    finally:
        await asyncio.to_thread(producer.abort_transaction, 60)


@asynccontextmanager
async def expired_at_kafka(stage: Stage) -> AsyncIterator[str]:
    assert stage.kafka is not None
    # A group that has never read a partition cannot know that it has lost anything there.
    await stage.shop.ends_of(await stage.shop.place_many([(PLENTY, VISA)] * 20))
    process = stage.services["inventory"]
    await process.stop()
    order_id = await stage.shop.place(PLENTY)
    await eventually(partial(_is_paid, stage, order_id))
    transport = await connect_transport(stage.settings())
    try:
        ends = {place: end for place, (_, end) in (await transport.ends(["payment-status"])).items()}
    finally:
        await transport.close()
    await asyncio.to_thread(stage.kafka.drop_records, ends)
    await process.start()
    await process.ready()
    try:
        yield order_id
    finally:
        await found_again(stage, "inventory")


async def _is_paid(stage: Stage, order_id: str) -> bool:
    return bool((await stage.shop.get("order", f"/orders/{order_id}"))["status"] == "PAID")


FROZEN_LINK, CUT_LINK = LinkFault(HOLD), LinkFault(CUT)
READ_ONLY = ("SET default_transaction_read_only = on", "RESET default_transaction_read_only")
NO_ROOM = ("CONNECTION LIMIT 0", "CONNECTION LIMIT -1")
LOCKED_STOCK = f"UPDATE stock SET on_hand = on_hand WHERE sku = '{PLENTY}'"
HANGING = "SELECT FROM partitions FOR UPDATE"


def _by_service() -> Iterator[Injection]:
    for service in ("order", "payment", "inventory", "notification"):
        listed = service != "notification"
        yield Injection(
            f"{service}-stopped",
            f"the {service} service is stopped",
            partial(stopped, service=service),
            CauseKind.SERVICE_AWAY,
            service,
            listed=listed,
        )
        yield Injection(
            f"{service}-frozen",
            f"the {service} service is frozen (SIGSTOP)",
            partial(frozen, service=service),
            CauseKind.SERVICE_SILENT,
            service,
            listed=listed,
        )


INJECTIONS: Sequence[Injection] = (
    *_by_service(),
    Injection(
        "slots-taken",
        "another session holds the locks of all outbox slots",
        partial(slots_taken, service="order"),
        CauseKind.COMPONENT,
        "order",
        "which is not a relay",
    ),
    Injection(
        "log-away",
        "the connection to the log is cut",
        partial(troubled, link="log", trouble=CUT_LINK),
        CauseKind.COMPONENT,
        "order",
        "log database",
    ),
    Injection(
        "log-silent",
        "the log accepts connections but does not answer",
        partial(troubled, link="log", trouble=FROZEN_LINK),
        CauseKind.COMPONENT,
        "order",
        "transport",
    ),
    Injection(
        "partition-held",
        "a hanging transaction locks the partitions of the log",
        partial(held_row, database="log", statement=HANGING),
        CauseKind.COMPONENT,
        "order",
        "waited for a lock",
    ),
    Injection(
        "records-expired",
        "the log dropped the record before it was read",
        expired,
        CauseKind.EXPIRED,
        "inventory",
    ),
    Injection(
        "parked",
        "the decision fails and is retried",
        partial(fault, service="payment", event="OrderPlaced", error="permanent"),
        CauseKind.RETRYING,
        "payment",
    ),
    Injection(
        "dead",
        "the decision fails for the last time",
        partial(fault, service="inventory", event="PaymentSucceeded", error="permanent"),
        CauseKind.DEAD,
        "inventory",
        on_the_way=frozenset({CauseKind.RETRYING}),
    ),
    Injection(
        "held",
        "an unreadable record of the order comes before its event",
        held_behind,
        CauseKind.HELD,
        "order",
    ),
    Injection(
        "discarded",
        "an operator discarded the event",
        discarded,
        CauseKind.DISCARDED,
        "inventory",
        ends=False,
    ),
    Injection(
        "outage",
        "the decisions of many orders fail alike",
        partial(fault, service="payment", event="OrderPlaced", error="permanent", orders=16),
        CauseKind.OUTAGE,
        "payment",
    ),
    Injection(
        "decision-waits",
        "something that the decision needs is unavailable",
        partial(fault, service="payment", event="OrderPlaced", error="infrastructure"),
        CauseKind.FAULT,
        "payment",
    ),
    Injection(
        "consumer-hangs",
        "the consumer hangs in a decision",
        partial(fault, service="payment", event="OrderPlaced", error="hang"),
        CauseKind.FAULT,
        "payment",
    ),
    Injection(
        "bank-slow",
        "the bank takes many seconds to answer",
        slow_bank,
        CauseKind.BANK_SLOW,
        "payment",
    ),
    Injection(
        "bank-unknown",
        "the bank accepts the request and never reports the outcome",
        partial(troubled, link="bank", trouble=FROZEN_LINK),
        CauseKind.BANK_UNKNOWN,
        "payment",
    ),
    Injection(
        "bank-away",
        "the connection to the bank is cut",
        partial(troubled, link="bank", trouble=CUT_LINK),
        CauseKind.COMPONENT,
        "payment",
        "gateway",
    ),
    Injection(
        "refund-refused",
        "the bank refuses the refund",
        refund_refused,
        CauseKind.REFUND_REFUSED,
        "payment",
        listed=False,
    ),
    *(
        Injection(
            f"{service}-database-{name}",
            f"the database of {service} {what}",
            partial(troubled, link=service, trouble=trouble),
            CauseKind.COMPONENT,
            service,
            says,
        )
        for service in ("order", "payment")
        for name, what, trouble, says in (
            ("away", "is unavailable", CUT_LINK, "StoreUnavailableError"),
            ("silent", "accepts connections but does not answer", FROZEN_LINK, "database"),
        )
    ),
    Injection(
        "database-read-only",
        "the database of payment is read-only",
        partial(altered, service="payment", change=READ_ONLY[0], back=READ_ONLY[1]),
        CauseKind.COMPONENT,
        "payment",
        "read-only",
    ),
    Injection(
        "no-connections",
        "the database of inventory accepts no more connections",
        partial(altered, service="inventory", change=NO_ROOM[0], back=NO_ROOM[1]),
        CauseKind.COMPONENT,
        "inventory",
        "database",
    ),
    Injection(
        "schema-behind",
        "the schema of the database is behind the release",
        partial(schema_behind, service="payment"),
        CauseKind.CANNOT_START,
        "payment",
        "schema",
    ),
    Injection(
        "row-locked",
        "another session locks the row of the SKU",
        partial(held_row, database="inventory", statement=LOCKED_STOCK),
        CauseKind.COMPONENT,
        "inventory",
        "lock",
    ),
    Injection(
        "parking-full",
        "so many orders are parked that the partition waits (back-pressure)",
        full_parking,
        CauseKind.COMPONENT,
        "inventory",
        "parking",
    ),
    Injection(
        "clock-off",
        "the clock of payment is an hour ahead, and its table is locked",
        clock_off,
        CauseKind.COMPONENT,
        "payment",
        "waited for a lock",
    ),
    Injection(
        "old-release",
        "an old release of inventory, which does not know the event, is deployed",
        old_release,
        CauseKind.OLD_RELEASE,
        "inventory",
    ),
    Injection(
        "records-expired-at-kafka",
        "Kafka dropped the record before it was read",
        expired_at_kafka,
        CauseKind.EXPIRED,
        "inventory",
        on=KAFKA,
    ),
    Injection(
        "broker-away",
        "the Kafka broker is killed",
        broker_away,
        CauseKind.COMPONENT,
        "order",
        "[Tt]ransport",
        on=KAFKA,
    ),
    Injection(
        "broker-frozen",
        "the Kafka broker is frozen (SIGSTOP)",
        broker_frozen,
        CauseKind.COMPONENT,
        "order",
        "[Tt]ransport",
        on=KAFKA,
    ),
    Injection(
        "topic-missing",
        "a Kafka topic is deleted",
        topic_missing,
        CauseKind.COMPONENT,
        "payment",
        "payment-status",
        on=KAFKA,
    ),
    Injection(
        "topic-replaced",
        "a Kafka topic is deleted before it was read, and recreated",
        topic_replaced,
        CauseKind.LOST,
        "inventory",
        on=KAFKA,
    ),
    Injection(
        "transaction-hangs",
        "a Kafka transaction on the topic hangs, so nobody can read on",
        hanging_transaction,
        CauseKind.TRANSACTION,
        "payment",
        on=KAFKA,
    ),
    Injection(
        "disk-full",
        "the disk of the databases is full",
        full_disk,
        CauseKind.COMPONENT,
        "payment",
        "No space left",
        on=DISK,
    ),
)
