"""Services of ours in this event loop: real PostgreSQL, a database each, the log kept there, real HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx2
import msgspec

from orderflow.bank.postgres import bank_migrations
from orderflow.core import envelopes, postgres_log
from orderflow.core.identity import event_id, uuid7
from orderflow.core.messages import Catalogue, Envelope, Event, wire_name
from orderflow.core.postgres import schema
from orderflow.core.service import Service
from orderflow.core.timing import SystemClock
from orderflow.core.transport import ProducerRecord, Transport
from orderflow.privacy.key_store import keys_migrations
from orderflow.runtime.process import run_service
from orderflow.services.inventory.service import SERVICE as INVENTORY
from orderflow.services.notification.service import SERVICE as NOTIFICATION
from orderflow.services.order.service import SERVICE as ORDER
from orderflow.services.payment.service import SERVICE as PAYMENT
from orderflow.settings import Settings
from tests.support import callers
from tests.support.callers import token_in
from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually

E = TypeVar("E", bound=Event)

SERVICES = ("order", "payment", "inventory", "notification")
MASTER_KEY = "bWFzdGVyIGtleSBvZiB0aGUgdGVzdHMgOiAzMiBieXQ="


def definition_of(name: str) -> Service:
    return {each.name: each for each in (ORDER, PAYMENT, INVENTORY, NOTIFICATION)}[name]


class Databases:
    """The URLs of a run's databases, by name."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.urls = urls

    async def migrate(self) -> None:
        for name in SERVICES:
            if name in self.urls:
                await schema.migrate(self.urls[name], schema.schema_of(definition_of(name)))
        await postgres_log.migrate(self.urls["log"])
        if "bank" in self.urls:
            await schema.migrate(self.urls["bank"], [bank_migrations()])
        if "keys" in self.urls:
            await schema.migrate(self.urls["keys"], [keys_migrations()])

    def settings(self, home: Path, **overrides: object) -> Settings:
        given: dict[str, object] = {f"{name}_database_url": url for name, url in self.urls.items()}
        if "keys" in self.urls:
            given["keys_master_key"] = MASTER_KEY
        given |= {f"{name}_port": 0 for name in SERVICES}
        given |= {"log_format": "json", "drain_timeout_s": 5, "partitions": 2, "gateway_timeout_ms": 1500}
        return Settings.load(environ={}, home=home, overrides={**given, **overrides})


@contextmanager
def databases(server: PostgresServer, *services: str, keys: bool = False) -> Iterator[Databases]:
    """Empty databases for these services, the log, and the bank where payment is one of them. With `keys` names of
    customers are encrypted, and there is a database of their keys.
    """
    names = [*services, "log", *(["bank"] if "payment" in services else []), *(["keys"] if keys else [])]
    run = uuid4().hex[:8]
    urls = {name: server.create_database(f"{name}_{run}") for name in names}
    try:
        yield Databases(urls)
    finally:
        for name in names:
            server.drop_database(f"{name}_{run}")


@asynccontextmanager
async def running(
    name: str, databases: Databases, home: Path, **overrides: object
) -> AsyncIterator[httpx2.AsyncClient]:
    """One process's worth of a service and a client of it; stopped in good order at the end."""
    announced: list[dict[str, Any]] = []
    stop = asyncio.Event()
    settings = databases.settings(home, log_file=home / f"{name}.log", **overrides)
    service = run_service(definition_of(name), settings, port=0, announce=announced.append, stop=stop)
    task = asyncio.create_task(service)
    try:
        await eventually(lambda: announced or task.done(), timeout_s=60)
        assert announced, f"{name} ended with {task.result()}"
        async with callers.client(announced[0]["port"], announced[0]["ops_port"], token_in(home)) as client:
            yield client
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


class Wire:
    """The log as the other services would use it: says events, hears events."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def say(self, event: Event, source: str, sequence: int = 1) -> UUID:
        """Append the event as `source` would; returns its id. The same arguments are the same event."""
        envelope = Envelope(
            id=event_id(source, event.TYPE, event.key, sequence),
            message=event,
            source=source,
            key=event.key,
            sequence=sequence,
        )
        record = ProducerRecord(
            event.TOPIC,
            event.key.encode(),
            msgspec.json.encode(event),
            envelopes.with_time(envelopes.to_headers(envelope), 0),
        )
        await self.append(record)
        return envelope.id

    async def append(self, record: ProducerRecord) -> None:
        """Append a record as it is, whatever is in it."""
        await self._transport.append([record])

    async def heard(self, *types: type[Event]) -> list[Event]:
        """Every event of these types (of one topic) in the log."""
        catalogue = Catalogue(types)
        topic = types[0].TOPIC
        found: list[Event] = []
        for _, partition in await self._transport.ends([topic]):
            for record in await self._transport.read(topic, partition, 0, 10_000):
                if envelopes.header_text(record.headers, "ce_type") in {wire_name(each) for each in types}:
                    message = envelopes.read(record, catalogue).message
                    assert isinstance(message, Event)
                    found.append(message)
        return found

    async def unread(self, service: Service) -> int:
        """How many records the service has yet to read, or to note as read."""
        lags = [await self._transport.lag(each.consumer, each.topics) for each in service.subscriptions]
        return sum(partition.lag for lag in lags for partition in lag)

    async def hear(self, event_type: type[E], key: UUID, timeout_s: float = 20.0) -> E:
        """The one event of this type about this order, as soon as it is there."""

        async def look() -> list[Event]:
            return [each for each in await self.heard(event_type) if each.key == str(key)]

        found = await eventually(look, timeout_s=timeout_s)
        assert len(found) == 1, found
        assert isinstance(found[0], event_type)
        return found[0]


@asynccontextmanager
async def wire(databases: Databases) -> AsyncIterator[Wire]:
    transport = await postgres_log.PostgresLogTransport.connect(databases.urls["log"], rng=random.Random(1))
    try:
        yield Wire(transport)
    finally:
        await transport.close()


def new_order_id() -> UUID:
    return uuid7(SystemClock().wall_ms(), random.Random())
