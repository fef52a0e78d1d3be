"""What PostgreSQL refuses of a batch is parked alone, whatever the kind of refusal, and costs few transactions."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import ClassVar
from uuid import uuid4

import asyncpg
import pytest
from msgspec.structs import replace

from orderflow.core.dead_letters import FLOW_EVENTS
from orderflow.core.engine import EngineConfig, policy_of
from orderflow.core.envelopes import Incoming, Result, from_record
from orderflow.core.identity import event_id
from orderflow.core.messages import Catalogue, Envelope, Event
from orderflow.core.postgres import schema
from orderflow.core.postgres.schema import MigrationSequence
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.processor import Processor
from orderflow.core.retries import Retrier
from orderflow.core.service import Decision, Fact, Handler, Ref, Row, Rows, Service, Subscription
from orderflow.core.telemetry import BatchCommitted, BatchSplit, Outcome, Signal, Signals
from orderflow.core.timing import SystemClock
from tests.conformance import store_tables
from tests.conformance.store_tables import Counter, Move, Parcel, ParcelState
from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually
from tests.unit.core.world import record_of

COUNT = 100


class Written(Event, frozen=True, kw_only=True):
    """Read: its decision writes what it says, sound or not."""

    TYPE: ClassVar[str] = "depot.Written"
    TOPIC: ClassVar[str] = "depot"

    name: str
    what: str = "sound"
    words: str = ""
    number: int = 1

    @property
    def key(self) -> str:
        return self.name


def touches(event: Written) -> tuple[Ref, ...]:
    counter = Ref(Counter, event.name)
    return (counter, Ref(Parcel, event.words)) if event.what == "look-up" else (counter,)


def decide(rows: Rows, envelope: Envelope) -> Decision:
    """`rows` are not looked at: that is the defect."""
    message = envelope.message
    assert isinstance(message, Written)
    written: list[Row] = [Counter(counter_id=message.name, value=message.number)]
    facts: list[Fact] = []
    match message.what:
        case "state":
            written.append(Parcel(parcel_id=message.name, state=ParcelState.SENT))
        case "text":
            written.append(Parcel(parcel_id=message.name, note=message.words))
        case "small number":
            written.append(Parcel(parcel_id=message.name, weight=2**31))
        case "move":
            facts.append(Move(parcel_id=message.name, number=1, place="here"))
    return Decision(rows=tuple(written), facts=tuple(facts))


class Depot:
    """A service over those tables, without a log: batches are put into its way in."""

    def __init__(self, store: PostgresStore, url: str) -> None:
        self.seen: list[Signal] = []
        self.url = url
        signals, clock, rng = Signals([self.seen.append]), SystemClock(), random.Random(1)
        service = Service(
            name="depot",
            catalogue=Catalogue((Written, *FLOW_EVENTS)),
            subscriptions=(Subscription("depot", ("depot",)),),
            publishes=("flow-status",),
            handlers={Written: Handler(touches, decide)},
        )
        policy = policy_of(EngineConfig(retry_first_ms=1, retry_ceiling_ms=2), rng)
        self.catalogue = service.catalogue
        self.processor = Processor(service, store, policy, signals, clock)
        self.retrier = Retrier("depot", self.processor, store, signals, clock)

    async def admit(self, *events: Written) -> list[Result]:
        return await self.processor.admit("depot", [self._read(event, n) for n, event in enumerate(events)])

    def committed(self) -> list[list[Outcome]]:
        return [
            [each.outcome for each in signal.handled] for signal in self.seen if isinstance(signal, BatchCommitted)
        ]

    def splits(self) -> int:
        return len([signal for signal in self.seen if isinstance(signal, BatchSplit)])

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        await connection.execute(statement)
        await connection.close()

    async def asked(self, query: str) -> object:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    def _read(self, event: Written, offset: int) -> Incoming:
        unique = event_id(event.key, event.what, str(offset), 1)
        return from_record(record_of(event, offset=offset, event_id=unique), self.catalogue)


@pytest.fixture
async def depot(database_url: str) -> AsyncIterator[Depot]:
    own = MigrationSequence.from_package("parcels", store_tables.__name__, store_tables.tables())
    await schema.migrate(database_url, [schema.core(), own])
    store = await PostgresStore.connect(database_url, tables=store_tables.tables())
    yield Depot(store, database_url)
    await store.close()


def sound(count: int = COUNT - 1) -> list[Written]:
    return [Written(name=f"order-{n}") for n in range(count)]


NAMED = {
    "unique": Written(name="bad", what="move"),
    "check": Written(name="bad", number=-1),
    "foreign key": Written(name="bad", what="move"),
    "NUL in a row": Written(name="bad", what="text", words="a\x00b"),
    "NUL in a row that is looked up": Written(name="bad", what="look-up", words="\x00"),
    "number beyond 64 bits": Written(name="bad", number=2**63),
}
UNNAMED = {
    "state machine": Written(name="bad", what="state"),
    "number beyond 32 bits": Written(name="bad", what="small number"),
}


async def prepare(depot: Depot, kind: str) -> None:
    if kind == "unique":
        await depot.execute("INSERT INTO moves (parcel_id, number, place) VALUES ('bad', 1, 'there')")
    if kind == "foreign key":
        await depot.execute("ALTER TABLE moves ADD FOREIGN KEY (parcel_id) REFERENCES parcels (parcel_id)")


@pytest.mark.parametrize("kind", [*NAMED, *UNNAMED])
async def test_one_event_that_is_refused_is_parked_and_the_others_are_handled(depot: Depot, kind: str) -> None:
    await prepare(depot, kind)
    events = sound()
    events.insert(60, (NAMED | UNNAMED)[kind])

    results = await depot.admit(*events)

    is_final = kind == "state machine"
    assert [result.outcome for result in results] == [
        (Outcome.DEAD if is_final else Outcome.PARKED) if n == 60 else Outcome.HANDLED for n in range(COUNT)
    ]
    assert await depot.asked("SELECT count(*) FROM counters") == COUNT - 1
    error = "TransitionRefusedError" if is_final else "DataRefusedError"
    assert await depot.asked("SELECT string_agg(error, ',') FROM parked_events") == error
    if kind in NAMED:
        assert len(depot.committed()) == 1
        assert depot.splits() == 0
    else:
        assert len(depot.committed()) <= 8


async def test_events_that_hold_a_nul_are_parked_beside_the_others_however_many(depot: Depot) -> None:
    bad = [Written(name=f"bad-{n}", what="text", words="\x00") for n in range(20)]

    results = await depot.admit(*sound(), *bad)

    assert [result.outcome for result in results].count(Outcome.PARKED) == 20
    assert len(depot.committed()) == 1


async def test_refused_heads_are_tried_again_together_and_given_up_together(depot: Depot) -> None:
    bad = [Written(name=f"bad-{n}", what="text", words="\x00") for n in range(5)]
    await depot.admit(*sound(), *bad, Written(name="bad-1"))
    await depot.admit(Written(name="later"))
    depot.seen.clear()

    async def all_due() -> bool:
        due = "SELECT count(*) FROM parked_events WHERE state = 2 AND attempts > 0 AND next_attempt_at <= now()"
        return await depot.asked(due) == 5

    while await depot.asked("SELECT count(*) FROM parked_events WHERE state = 3") != 5:
        await eventually(all_due)
        depot.retrier.schedule(0)
        await depot.retrier.step()

    assert await depot.asked("SELECT count(*) FROM parked_events WHERE attempts = 0") == 1
    told = [outcome for outcomes in depot.committed() for outcome in outcomes]
    assert (told.count(Outcome.PARKED), told.count(Outcome.DEAD)) == (20, 5)
    assert len(depot.committed()) < 15


@pytest.fixture
async def latin(postgres: PostgresServer) -> AsyncIterator[Depot]:
    """A depot whose database lacks most characters."""
    name = f"latin_{uuid4().hex[:12]}"
    postgres.execute(f"CREATE DATABASE \"{name}\" ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    url = postgres.url(name)
    own = MigrationSequence.from_package("parcels", store_tables.__name__, store_tables.tables())
    await schema.migrate(url, [schema.core(), own])
    store = await PostgresStore.connect(url, tables=store_tables.tables())
    yield Depot(store, url)
    await store.close()
    postgres.drop_database(name)


@pytest.mark.parametrize("refused", ["the key", "the type", "the failure"])
async def test_what_the_database_will_not_even_park_ends_as_a_dead_letter_of_its_place(
    latin: Depot, refused: str
) -> None:
    name = "日本" if refused == "the key" else "bad"
    event = Written(name=name, what="text" if refused == "the failure" else "sound", words="日本")
    record = record_of(event, offset=7)
    if refused == "the type":
        record = replace(record, headers=(*record.headers, ("ce_type", "日本".encode())))
    poison = from_record(record, latin.catalogue)

    results = await latin.processor.admit(
        "depot", [poison, from_record(record_of(sound()[0], offset=8), latin.catalogue)]
    )
    again = await latin.processor.admit("depot", [poison])

    assert [each.outcome for each in [*results, *again]][1:] == [Outcome.HANDLED, Outcome.DUPLICATE]
    if refused == "the failure":
        assert results[0].outcome is Outcome.PARKED
        return
    assert results[0].outcome is Outcome.DEAD
    key = "counts/0/7" if refused == "the key" else "bad"
    found = await latin.asked("SELECT key || ' ' || error || ' ' || state FROM parked_events")
    assert found == f"{key} UnstorableError 3"
    message = str(await latin.asked("SELECT message FROM parked_events"))
    assert message.startswith("the database refuses counts/0@7 (")
    assert sha256(record.value or b"").hexdigest() in message
    assert await latin.asked("SELECT count(*) FROM outbox WHERE topic = 'counts.DLT'") == 1
