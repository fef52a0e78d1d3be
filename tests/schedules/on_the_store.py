"""Cases of the store: batches, the outbox, what is parked, intents, migrations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import ClassVar
from uuid import UUID

import asyncpg

from orderflow.core.envelopes import Result, from_command
from orderflow.core.operations.editing import discard
from orderflow.core.operations.model import (
    LetterFilter,
    LetterMissingError,
    ReplayPlan,
    ReplayState,
    StoredLetter,
)
from orderflow.core.postgres import schema
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import tables_of
from orderflow.core.processor import KeyBusyError, Processor
from orderflow.core.relay import Relay
from orderflow.core.store import Act, OutboxFilter, StoreUnavailableError
from orderflow.core.telemetry import Outcome, Signals
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.timing import Pacer
from orderflow.core.transport import TopicSettings
from orderflow.events.order import Item
from orderflow.services.order import service as order
from orderflow.services.order.messages import Placed, PlaceOrder
from tests.schedules.explore import Case, Part
from tests.schedules.processes import FOREVER_MS, POLICY, Database, Process
from tests.schedules.turns import CLOCK, point
from tests.support.callers import person
from tests.unit.core.still_clock import StillClock
from tests.unit.core.toy import Counted

ACT = Act(caller=person("somebody"), reason="a reason", confirmed=True)


class ServiceCase(Case):
    """Processes of the toy service."""

    processes: ClassVar[int] = 2

    def __init__(self) -> None:
        self.database = Database()

    async def open(self, url: str) -> None:
        await self.database.open(url, self.processes)

    async def close(self) -> None:
        await self.database.close()

    async def begin(self, rng: Random) -> Mapping[str, Part]:
        return await self.actors(rng, await self.database.begin())

    async def actors(self, rng: Random, processes: Sequence[Process]) -> Mapping[str, Part]:
        raise NotImplementedError

    async def check(self) -> AsyncIterator[str]:
        async for each in self.database.sound():
            yield each
        async for each in self.broken():
            yield each

    async def broken(self) -> AsyncIterator[str]:
        """What is broken beside what holds after whatever was done."""
        nothing: Sequence[str] = ()
        for each in nothing:
            yield each


class OverlappingBatches(ServiceCase):
    """Two batches, each with records of both keys, in opposite order."""

    name = "batches"
    about = "two batches on the same rows, in opposite order: no update is lost, nobody waits for ever"

    async def actors(self, rng: Random, processes: Sequence[Process]) -> Mapping[str, Part]:
        there = [("x", 1), ("y", 2)]
        back = [("y", 4), ("x", 8)]

        def batch(process: Process, amounts: Sequence[tuple[str, int]], first: int) -> Part:
            read = [
                process.read(Counted(name=name, amount=amount), first + n) for n, (name, amount) in enumerate(amounts)
            ]

            async def admit() -> None:
                self.results += await process.admit(*read)

            return admit

        self.results: list[Result] = []
        return {"a": batch(processes[0], there, 0), "b": batch(processes[1], back, 10)}

    async def broken(self) -> AsyncIterator[str]:
        for result in self.results:
            if result.outcome is not Outcome.HANDLED:
                yield f"{result.incoming.name} is {result.outcome}: {result.failure}"
        totals = await self.database.totals()
        if totals != {"x": 9, "y": 6}:
            yield f"x is to be 9 and y 6, and they are {dict(totals)}"


class Redelivered(ServiceCase):
    """After a rebalance two processes have the same records in hand, and one of them may die."""

    name = "redelivered"
    about = "the same records in the hands of two processes, one of which may die: handled once, in order"
    in_suite = 20
    cuts = 1

    async def actors(self, rng: Random, processes: Sequence[Process]) -> Mapping[str, Part]:
        self.amounts = [1, 2, 4][: rng.randint(1, 3)]
        read = [processes[0].read(Counted(name="x", amount=amount), n) for n, amount in enumerate(self.amounts)]
        cut = rng.randrange(len(read) + 1)
        self.again = processes[1], read

        async def in_two() -> None:
            if read[:cut]:
                await processes[1].admit(*read[:cut])
            if read[cut:]:
                await processes[1].admit(*read[cut:])

        return {"a": lambda: processes[0].admit(*read), "b": in_two}

    async def broken(self) -> AsyncIterator[str]:
        process, read = self.again
        await process.admit(*read)
        added = (await self.database.added()).get("x", ())
        if list(added) != self.amounts:
            yield f"{self.amounts} was to be added to x, and {added} was"


class Relays(ServiceCase):
    """Two relays that come, go and share slots, and two writers whose ids may commit in the other order."""

    name = "relays"
    about = "two relays and two writers: each row in the log, in order of its key, once as long as nobody is lost"
    in_suite = 25
    processes = 2

    async def actors(self, rng: Random, processes: Sequence[Process]) -> Mapping[str, Part]:
        self.log = MemoryLog(StillClock(), Random(1))
        self.log.create([TopicSettings("totals", 1), TopicSettings("flow-status", 1)])
        self.keys = rng.sample(["x", "y", "z"], 2)

        def writer(process: Process, first: int) -> Part:
            async def write() -> None:
                for n in range(2):
                    events = [Counted(name=key, amount=1) for key in self.keys]
                    await process.admit(*(process.read(each, first + 10 * n + i) for i, each in enumerate(events)))

            return write

        def relaying(process: Process) -> Part:
            async def relay() -> None:
                made = relay_of(process, MemoryTransport(self.log, hop=point))
                for _ in range(3):
                    with suppress(StoreUnavailableError):
                        made.wake()
                        await made.step()
                        process.clock.now += 2
                await made.close()

            return relay

        return {
            "writer": writer(processes[0], 0),
            "later": writer(processes[1], 100),
            "relay": relaying(processes[0]),
            "rival": relaying(processes[1]),
        }

    async def broken(self) -> AsyncIterator[str]:
        await drain(self.database, self.log)
        rows = await self.database.own.fetch("SELECT event_id, key FROM outbox ORDER BY id")
        logged = self.log.slice("totals", 0, 0, 1_000)
        seen: defaultdict[bytes | None, list[UUID]] = defaultdict(list)
        for record in logged:
            event_id = UUID(dict(record.headers)["ce_id"].decode())  # type: ignore[union-attr]
            if event_id not in seen[record.key]:
                seen[record.key].append(event_id)
        wanted: defaultdict[bytes, list[UUID]] = defaultdict(list)
        for row in rows:
            wanted[row["key"]].append(row["event_id"])
        for key, its in wanted.items():
            if seen[key] != its:
                yield f"{key.decode()}: the log has {seen[key]} for the first time in this order, and not {its}"
        if len(logged) > len(rows) and not self.cuts:
            yield f"{len(rows)} rows were published {len(logged)} times"


class RelaysThatDie(Relays):
    """The same with losses: then a row may be in the log twice, but not out of order."""

    name = "relays-cut"
    about = "the same with a session or a process lost: each row in the log, in order of its first time"
    in_suite = 10
    cuts = 2


async def drain(database: Database, log: MemoryLog) -> None:
    """All who relayed are gone, and another one publishes what is left."""
    for store in database.stores:
        for reader in list(store.readers):
            await reader.close()
    relay = relay_of(Process(database.stores[0], database.moods), MemoryTransport(log))
    await relay.step()
    await relay.close()


def relay_of(process: Process, transport: MemoryTransport) -> Relay:
    clock = process.clock
    return Relay("counter", process.store.outbox(), transport, Pacer(clock, 0, 1000), Signals([]), clock)


class Purge(ServiceCase):
    """The upkeep of the outbox among writers, a relay that marks, and an operator who has rows published again."""

    name = "purge"
    about = "purging and republishing among writers and a relay: no row is dropped that the log does not have"
    in_suite = 80

    async def actors(self, rng: Random, processes: Sequence[Process]) -> Mapping[str, Part]:
        self.log = MemoryLog(StillClock(), Random(1))
        self.log.create([TopicSettings("totals", 1)])
        first, second = processes
        await first.admit(first.read(Counted(name="x", amount=1), 0))
        await drain(self.database, self.log)

        async def write() -> None:
            await second.admit(second.read(Counted(name="x", amount=1), 1))

        async def relay() -> None:
            made = relay_of(first, MemoryTransport(self.log, hop=point))
            made.wake()
            await made.step()
            await made.close()

        async def upkeep() -> None:
            for _ in range(2):
                await second.store.purge(0)

        async def again() -> None:
            await first.store.republish(OutboxFilter(), ACT, "all")

        other = {"relay": relay} if rng.random() < 0.5 else {"operator": again}
        return {"writer": write, "upkeep": upkeep, **other}

    async def check(self) -> AsyncIterator[str]:
        await drain(self.database, self.log)
        named = [dict(record.headers)["ce_sequence"] for record in self.log.slice("totals", 0, 0, 1_000)]
        if left := await self.database.own.fetchval("SELECT count(*) FROM outbox_pending"):
            yield f"{left} rows are pending, and nobody can read them"
        if list(dict.fromkeys(named)) != [b"1", b"2"]:
            yield f"the log has {named} of x, and not 1 before 2"


class PurgeInside(Purge):
    name = "purge-inside"
    about = "the same, with statements that stop at each row that becomes unsent or sent"
    in_suite = 60
    stops = ("outbox_pending",)


class Parked(ServiceCase):
    """A key whose head fails: two retriers, an operator and new records meet at it."""

    name = "parked"
    about = "two retriers, a discard, a replay and new records of one key: each event handled once, in order"
    in_suite = 12
    processes = 3
    cuts = 1

    async def actors(self, rng: Random, processes: Sequence[Process]) -> Mapping[str, Part]:
        first, second, third = processes
        head = await self.parked(first, gives_up=rng.random() < 0.5)

        def retrying(process: Process) -> Part:
            async def retry() -> None:
                for _ in range(2):
                    await process.retrier().step()

            return retry

        def replaying(process: Process) -> Part:
            async def replay() -> None:
                recovery = process.store.recovery
                await recovery.begin_replay([head.letter.position], ReplayPlan(), ACT, 0, "all")
                while claimed := await recovery.claim_replay(FOREVER_MS):
                    await recovery.send(claimed.number, 10)
                    await recovery.replay(claimed.number)
                    await recovery.finish_step(claimed.number, 0, ReplayState.DONE)

            return replay

        async def discarding() -> None:
            with suppress(LetterMissingError, KeyBusyError):
                await discard(head, ACT, third.processor)

        async def reading() -> None:
            await second.admit(second.read(Counted(name="x", amount=4), 2))

        others = {
            "reader": reading,
            "replay": replaying(third),
            "replay too": replaying(second),
            "discard": discarding,
            "rival": retrying(second),
        }
        chosen = rng.sample(sorted(others), 2)
        return {"retrier": retrying(first), **{name: others[name] for name in chosen}}

    async def parked(self, process: Process, *, gives_up: bool) -> StoredLetter:
        """The key's first two events wait, and the head may be dead."""
        self.moods = self.database.moods
        self.moods.broken.add("x")
        for n in range(2):
            await process.admit(process.read(Counted(name="x", amount=1 << n), n))
        for _ in range(3 * gives_up):
            await process.retrier().step()
        self.moods.broken.clear()
        recovery = process.store.recovery
        letters = await recovery.letters(LetterFilter(state=None, key="x"), 10)
        head = await recovery.letter(letters[0].position)
        assert head is not None
        return head

    async def broken(self) -> AsyncIterator[str]:
        said = Counter(row["moment"] for row in await self.database.own.fetch("SELECT moment FROM parked_history"))
        if said["replayed"] > said["dead"]:
            yield f"it was dead {said['dead']} times, and replayed {said['replayed']} times"
        process = Process(self.database.stores[0], self.moods)
        await self.database.own.execute("UPDATE parked_events SET state = 2 WHERE state = 3")
        await process.admit(*(process.read(Counted(name="x", amount=1 << n), n) for n in range(3)))
        for _ in range(3):
            await process.retrier().step()
        rows = await self.database.own.fetch("SELECT event_id, state FROM processed_events WHERE key = 'x'")
        states = {row["event_id"]: row["state"] for row in rows}
        wanted = [1 << n for n in range(3) if states[process.read(Counted(name="x", amount=1), n).event_id] == 1]
        added = list((await self.database.added()).get("x", ()))
        if added != wanted:
            yield f"handled are {wanted}, and what was added is {added}"
        if waiting := await self.database.own.fetchval("SELECT count(*) FROM parked_events"):
            yield f"{waiting} events wait for ever"


class ParkedInside(Parked):
    name = "parked-inside"
    about = "the same, with statements that stop at each parked event that they change"
    in_suite = 8
    stops = ("parked_events",)
    cuts = 0


class Intents(ServiceCase):
    """Two processes look for what is to be asked; a third answers, and leases run out."""

    name = "intents"
    about = "two processes claim what is due: one intent is leased to one of them at a time"
    stops = ("intents",)
    processes = 2

    async def actors(self, rng: Random, processes: Sequence[Process]) -> Mapping[str, Part]:
        self.keys = [f"ask:{n}" for n in range(3)]
        await self.database.own.execute(
            "INSERT INTO intents (key, kind, request, message_key, cause, attempts, due_at) SELECT key, 'ask', '{}',"
            " key, gen_random_uuid(), 0, clock_timestamp() - interval '1 s' * n"
            " FROM unnest($1::text[]) WITH ORDINALITY AS intent (key, n)",
            self.keys,
        )
        self.leased: Counter[str] = Counter()
        self.freed: Counter[str] = Counter()

        def claiming(process: Process, limit: int) -> Part:
            async def claim() -> None:
                for _ in range(2):
                    found = await process.store.claim_intents(limit, FOREVER_MS)
                    self.leased.update(each.intent.key for each in found)

            return claim

        async def time_passes() -> None:
            rows = await self.clock.fetch(
                "UPDATE intents SET due_at = clock_timestamp() - interval '1 s'"
                " WHERE key = 'ask:1' AND due_at > clock_timestamp() RETURNING key"
            )
            self.freed.update(row["key"] for row in rows)

        return {"a": claiming(processes[0], 2), "b": claiming(processes[1], 3), CLOCK: time_passes}

    async def open(self, url: str) -> None:
        await super().open(url)
        self.clock = await asyncpg.connect(url)

    async def close(self) -> None:
        await self.clock.close()
        await super().close()

    async def broken(self) -> AsyncIterator[str]:
        for key in self.keys:
            if not 1 <= self.leased[key] <= 1 + self.freed[key]:
                yield f"{key} was leased {self.leased[key]} times, and its lease ran out {self.freed[key]} times"


class IdempotencyKey(Case):
    """Two requests with one Idempotency-Key reach two processes at once."""

    name = "idempotency-key"
    about = "one Idempotency-Key in two requests: one order, and both callers are told of it"

    def __init__(self) -> None:
        self.stores: list[PostgresStore] = []

    async def open(self, url: str) -> None:
        await schema.migrate(url, schema.schema_of(order.SERVICE))
        self.own = await asyncpg.connect(url)
        for _ in range(2):
            self.stores.append(await PostgresStore.connect(url, tables=tables_of(order.SERVICE.tables)))

    async def begin(self, rng: Random) -> Mapping[str, Part]:
        await self.own.execute(
            "DELETE FROM idempotency_keys; DELETE FROM orders; DELETE FROM processed_events; DELETE FROM streams;"
            " DELETE FROM outbox_pending; DELETE FROM outbox"
        )
        self.told: list[UUID] = []

        def ordering(store: PostgresStore, number: int) -> Part:
            command = PlaceOrder(
                order_id=UUID(int=number),
                customer_id="c",
                currency="EUR",
                items=(Item(sku="s", quantity=1, unit_price=1),),
                payment_method="m",
                idempotency_key="key",
                fingerprint="f",
            )
            processor = Processor(order.SERVICE, store, POLICY, Signals([]), StillClock())

            async def place() -> None:
                incoming = from_command(command, "/orderflow/order", None, command.order_id)
                [result] = await processor.admit("order", [incoming])
                assert isinstance(result.answer, Placed)
                self.told.append(result.answer.order_id)

            return place

        return {"a": ordering(self.stores[0], 1), "b": ordering(self.stores[1], 2)}

    async def check(self) -> AsyncIterator[str]:
        placed = [row["order_id"] for row in await self.own.fetch("SELECT order_id FROM orders")]
        if len(placed) != 1:
            yield f"{len(placed)} orders were placed"
        if self.told != placed * 2:
            yield f"{placed} was placed, and the callers were told {self.told}"

    async def close(self) -> None:
        for store in self.stores:
            await store.close()
        await self.own.close()


class Migrations(Case):
    """Two processes bring one database to their release."""

    name = "migrations"
    about = "the same migrations run by two processes, one of which may be lost: each applied once, in order"
    in_suite = 20
    cuts = 1

    async def open(self, url: str) -> None:
        self.sessions = [await asyncpg.connect(url) for _ in range(3)]
        self.url = url

    async def begin(self, rng: Random) -> Mapping[str, Part]:
        self.sessions = [
            await asyncpg.connect(self.url) if session.is_closed() else session for session in self.sessions
        ]
        await self.sessions[2].execute("DROP TABLE IF EXISTS schema_migrations, made")
        steps = ("CREATE TABLE made (n integer PRIMARY KEY)", "INSERT INTO made VALUES (1)")
        made = [schema.Migration(n, f"step_{n}", text, f"{n}") for n, text in enumerate(steps, 1)]
        self.sequence = schema.MigrationSequence("made", tuple(made))
        a, b = self.sessions[:2]
        return {
            "a": lambda: schema.apply(a, [self.sequence]),
            "b": lambda: schema.apply(b, [self.sequence]),
        }

    async def check(self) -> AsyncIterator[str]:
        await schema.apply(self.sessions[2], [self.sequence])
        rows = [tuple(row) for row in await self.sessions[2].fetch("SELECT number, name FROM schema_migrations")]
        if sorted(rows) != [(1, "step_1"), (2, "step_2")]:
            yield f"applied are {rows}"

    async def close(self) -> None:
        for session in self.sessions:
            await session.close()


CASES: Sequence[type[Case]] = (
    OverlappingBatches,
    Redelivered,
    Relays,
    RelaysThatDie,
    Purge,
    PurgeInside,
    Parked,
    ParkedInside,
    Intents,
    IdempotencyKey,
    Migrations,
)
