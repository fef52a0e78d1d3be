"""Durable consume: PaymentSucceeded from the log through the inventory's own code, until every order has its answer.

One process, the production engine: decode, dedupe, decide, save, outbox, in batches; its relay publishes beside it.

    python -m benchmarks.consume --events 50000        events/s, as JSON, beside the floor of the same work
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import msgspec
import uvloop

from benchmarks.counting import SERVER
from benchmarks.floor import run_reserve_floor
from benchmarks.samples import SKUS, is_poison, sample_id
from benchmarks.system import Release
from orderflow.core import envelopes, identity
from orderflow.core.access import PLATFORM
from orderflow.core.dead_letters import topic_of
from orderflow.core.engine import Engine, EngineConfig
from orderflow.core.kafka.transport import KafkaTransport
from orderflow.core.messages import Envelope
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import tables_of
from orderflow.core.postgres_log.transport import PostgresLogTransport
from orderflow.core.telemetry import Signals
from orderflow.core.timing import SystemClock
from orderflow.core.transport import ProducerRecord, TopicSettings, Transport
from orderflow.events.base import TOPICS
from orderflow.events.order import Item
from orderflow.events.payment import PaymentSucceeded
from orderflow.runtime.process import collect_rarely
from orderflow.services.inventory.messages import SetStock
from orderflow.services.inventory.service import SERVICE
from tests.support.kafka import KafkaServer, fetch_jars
from tests.support.postgres import PostgresServer
from tests.support.saga import databases

SOURCE = "/orderflow/payment"
APPEND = 500
COUNT_RESERVATIONS = "SELECT count(*) FROM reservations"
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
        rng=random.Random(),
        config=EngineConfig(),
    )
    engine.start()
    try:
        for sku in SKUS:
            await engine.submit(SetStock(sku=sku, on_hand=10_000_000, only_if_new=True), PLATFORM)
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
    headers = envelopes.with_time(envelopes.to_headers(envelope), time.time_ns() // 1_000_000)
    return ProducerRecord(event.TOPIC, event.key.encode(), msgspec.json.encode(event), headers)


async def _until_answered(url: str, events: int) -> int:
    """Return when at least so many events have their answer: how many have."""
    connection = await asyncpg.connect(url)
    try:
        while (answered := await connection.fetchval(COUNT_RESERVATIONS)) < events:  # noqa: ASYNC110  # a table has no event
            await asyncio.sleep(0.1 if answered else 0.01)
        return int(answered)
    finally:
        await connection.close()


def measure_consume(release: Release, transport: str, events: int, poison_every: int = 0) -> dict[str, float]:
    """`consume` and `floor` in events/s, by the code of that release in a process of its own."""
    arguments = ["--transport", transport, "--events", str(events), "--poison-every", str(poison_every)]
    with_its_own = (release.folder / "benchmarks" / "counting.py").exists()
    code = ["-m", "benchmarks.consume"] if with_its_own else ["-c", BEFORE_IT_WAS_A_COMMAND]
    done = subprocess.run(
        [str(release.python), *code, *arguments], cwd=release.folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"consume of {release.name}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


BEFORE_IT_WAS_A_COMMAND = """
import json, sys
from benchmarks.__main__ import _measure_consume, collect_rarely, run_as_a_service, servers
_, transport, _, events, _, poison_every = sys.argv[1:]
collect_rarely()
with servers(transport) as (admin, bootstrap):
    floor, consume = run_as_a_service(_measure_consume(admin, bootstrap, int(events), int(poison_every)))
print(json.dumps({"floor": floor, "consume": consume}))
"""
"""For releases whose benchmark of it cannot be called alone: the same functions, called from outside."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.consume", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--transport", choices=("postgres", "kafka"), default="postgres")
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--poison-every", type=int, default=0, help="one in so many is refused by the database")
    given = parser.parse_args()
    collect_rarely()
    with ExitStack() as stack:
        server = PostgresServer(SERVER)
        stack.callback(server.remove)
        server.start()
        bootstrap = None
        if given.transport == "kafka":
            broker = KafkaServer(fetch_jars(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
            stack.callback(broker.remove)
            broker.start()
            bootstrap = broker.bootstrap
        figures = uvloop.run(_measure(server, bootstrap, given.events, given.poison_every))
    print(json.dumps(figures))
    return 0


async def _measure(server: PostgresServer, bootstrap: str | None, events: int, poison_every: int) -> dict[str, float]:
    with databases(server, "inventory") as made:
        await made.migrate()
        floor = events / await run_reserve_floor(made.urls, events)
    with databases(server, "inventory") as made:
        await made.migrate()
        if bootstrap is not None:
            log: Transport = await KafkaTransport.connect(bootstrap)
        else:
            log = await PostgresLogTransport.connect(made.urls["log"])
        try:
            return {"floor": floor, "consume": await run_consume(made.urls, log, events, poison_every)}
        finally:
            await log.close()


if __name__ == "__main__":
    sys.exit(main())
