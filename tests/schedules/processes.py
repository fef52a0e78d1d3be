"""Processes of the toy service on one PostgreSQL, and what its tables say after a schedule."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any
from uuid import uuid5

import asyncpg

from orderflow.core.decisions import Policy
from orderflow.core.envelopes import Incoming, Result, from_record
from orderflow.core.identity import NAMESPACE
from orderflow.core.messages import Message
from orderflow.core.postgres import schema
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import Facts, Table
from orderflow.core.processor import Processor
from orderflow.core.retries import Retrier
from orderflow.core.retry import Backoff, RetryPolicy
from orderflow.core.telemetry import Signals
from tests.unit.core.still_clock import StillClock
from tests.unit.core.toy import Moods, Movement, Tally, toy_service
from tests.unit.core.world import record_of

CONSUMER = "counter"
SLOTS = 2
FOREVER_MS = 3_600_000
TABLES: Sequence[Table | Facts] = (
    Table(
        Tally,
        load="SELECT name, total FROM tallies WHERE name = ANY ($1::text[])",
        insert="INSERT INTO tallies SELECT * FROM unnest($1::text[], $2::bigint[])",
        update="UPDATE tallies SET total = new.total FROM unnest($1::text[], $2::bigint[]) AS new (name, total)"
        " WHERE tallies.name = new.name",
    ),
    Facts(Movement, append="INSERT INTO movements SELECT * FROM unnest($1::text[], $2::bigint[])"),
)
EMPTY = """
DELETE FROM tallies; DELETE FROM movements; DELETE FROM parked_events; DELETE FROM processed_events;
DELETE FROM streams; DELETE FROM outbox_pending; DELETE FROM outbox; DELETE FROM intents; DELETE FROM parked_history;
DELETE FROM edited_events; DELETE FROM operator_actions; DELETE FROM replay_events; DELETE FROM replays;
"""
POLICY = Policy(
    retry=RetryPolicy(Backoff(0, 0), 3),
    away=Backoff(0, 0),
    ask_again=Backoff(0, 0),
    rng=random.Random(7),
    slots=SLOTS,
    lease_ms=FOREVER_MS,
    release="1.2.3",
    parked_keys_max=1_000,
    parked_depth_max=1_000,
)


class Process:
    """One process of the service."""

    def __init__(self, store: PostgresStore, moods: Moods) -> None:
        self.store = store
        self.clock = StillClock()
        self.processor = Processor(toy_service(moods), store, POLICY, Signals([]), self.clock)

    def retrier(self) -> Retrier:
        made = Retrier(CONSUMER, self.processor, self.store, Signals([]), self.clock)
        made.schedule(0)
        return made

    async def admit(self, *batch: Incoming) -> list[Result]:
        return await self.processor.admit(CONSUMER, batch)

    def read(self, event: Message, offset: int) -> Incoming:
        """The event as a record: the same for all who read that offset."""
        event_id = uuid5(NAMESPACE, f"{event.key}/{offset}")
        return from_record(record_of(event, offset=offset, event_id=event_id), self.processor.service.catalogue)


class Database:
    """The service's database: `moods` are shared by all processes, as one release is."""

    def __init__(self) -> None:
        self.moods = Moods()
        self.stores: list[PostgresStore] = []
        self.own: Any = None

    async def open(self, url: str, processes: int) -> None:
        await schema.migrate(url, [replace(schema.core(), tables=tuple(TABLES))])
        self.own = await asyncpg.connect(url)
        await self.own.execute(files(__package__ or "").joinpath("toys.sql").read_text("utf-8"))
        # So patient that it sees what was committed while it waited. That it gives up is tested elsewhere.
        await self.own.execute("ALTER FUNCTION outbox_empty_segment SET lock_timeout = '20s'")
        for _ in range(processes):
            self.stores.append(await PostgresStore.connect(url, tables=TABLES, slots=SLOTS, silence_s=1e9))

    async def begin(self) -> list[Process]:
        """Empty tables, and processes that know nothing."""
        await self.own.execute(EMPTY)
        self.moods.broken.clear()
        return [Process(store, self.moods) for store in self.stores]

    async def close(self) -> None:
        for store in self.stores:
            await store.close()
        if self.own is not None:
            await self.own.close()

    async def totals(self) -> Mapping[str, int]:
        return dict(await self.own.fetch("SELECT name, total FROM tallies"))

    async def added(self) -> Mapping[str, Sequence[int]]:
        """By name what was added, in order: each change is published with the total after it."""
        said = await self.own.fetch(
            "SELECT convert_from(key, 'UTF8'), (convert_from(value, 'UTF8')::json ->> 'total')::bigint"
            " FROM outbox WHERE topic = 'totals' ORDER BY id"
        )
        steps: defaultdict[str, list[int]] = defaultdict(list)
        for name, total in said:
            steps[name].append(total - sum(steps[name]))
        return steps

    async def sound(self) -> AsyncIterator[str]:
        """What holds after whatever was done."""
        totals, added = await self.totals(), await self.added()
        for name in totals.keys() | added.keys():
            if totals.get(name) != sum(added.get(name, ())):
                yield f"{name} is {totals.get(name)}, and what was published adds up to {sum(added.get(name, ()))}"
        for row in await self.own.fetch(
            "SELECT key, sum(emitted) AS emitted, (SELECT count(*) FROM outbox"
            " WHERE outbox.key = convert_to(streams.key, 'UTF8') AND topic IN ('totals', 'flow-status')) AS published"
            " FROM streams GROUP BY key"
        ):
            if row["emitted"] != row["published"]:
                yield f"the stream of {row['key']} counts {row['emitted']} events, and there are {row['published']}"
        if doubled := await self.own.fetch("SELECT event_id FROM outbox GROUP BY event_id HAVING count(*) > 1"):
            yield f"{len(doubled)} events were published under an id that another one has"
