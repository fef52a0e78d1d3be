"""What stands still on real databases and a real broker says so, is begun anew, and ends its process at last."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from confluent_kafka.admin import AdminClient

from orderflow.core import progress
from orderflow.core.engine import Engine, EngineConfig
from orderflow.core.kafka import KafkaTransport, membership
from orderflow.core.telemetry import BegunAnew, Stalled
from orderflow.core.transport import ProducerRecord, TopicSettings
from orderflow.runtime.process import ProcessExit, run_service
from tests.support.callers import client as at_both_doors
from tests.support.kafka import KafkaServer
from tests.support.locks import holding
from tests.support.postgres import PostgresServer
from tests.support.saga import databases, definition_of, running
from tests.support.waiting import eventually
from tests.unit.core.toy import Counted
from tests.unit.core.world import World, record_of

NEVER_S = 3_600.0
ORDER: Mapping[str, Any] = {
    "customer_id": "customer-1",
    "currency": "EUR",
    "items": [{"sku": "SKU-ESPRESSO-CUP", "quantity": 2, "unit_price": 1250}],
    "payment_method": "pm_card_visa",
}


async def problem(client: httpx2.AsyncClient, component: str, words: str) -> str:
    """The sentence of a component in `/health/ready`, once it has these words."""

    async def look() -> str:
        answer = await client.get("/health/ready")
        found: str = answer.json()["problems"].get(component, "")
        assert answer.status_code == 503, answer.text
        assert words in found, answer.text
        return found

    return await eventually(look, timeout_s=40)


async def is_ready(client: httpx2.AsyncClient) -> bool:
    return (await client.get("/health/ready")).status_code == 200


async def test_a_foreign_transaction_that_holds_a_partition_of_the_log_is_told_for_as_long_as_it_lasts(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    with databases(postgres, "order") as made:
        await made.migrate()
        async with running("order", made, tmp_path) as order:
            async with holding(made.urls["log"], "SELECT FROM partitions FOR UPDATE"):
                assert (await order.post("/orders", json=ORDER)).status_code == 201
                told = await problem(order, "relay", "1 event waits to be published (slot ")
                assert "and none has been published for" in told
                told = await problem(order, "relay", "TransportUnavailableError")
                assert "1 event waits to be published (slot " in told
                assert not await is_ready(order)
            await eventually(lambda: is_ready(order), timeout_s=40)


async def test_a_row_of_the_outbox_that_somebody_holds_is_an_alarm_and_holds_up_nothing(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    with databases(postgres, "order") as made:
        await made.migrate()
        async with running("order", made, tmp_path) as order:
            async with holding(made.urls["log"], "SELECT FROM partitions FOR UPDATE"):
                assert (await order.post("/orders", json=ORDER)).status_code == 201
                held = holding(made.urls["order"], "SELECT FROM outbox_pending FOR UPDATE")
                await held.__aenter__()

            async def alarm() -> str:
                found: str = (await order.get("/health/ready")).json().get("alarms", {}).get("unmarked relay", "")
                return found

            assert (await eventually(alarm, timeout_s=40)).startswith("1 published event cannot be marked as sent")
            assert await is_ready(order)
            await held.__aexit__(None, None, None)
            await eventually(lambda: no_alarm(order), timeout_s=40)


async def no_alarm(client: httpx2.AsyncClient) -> bool:
    return not (await client.get("/health/ready")).json().get("alarms")


async def test_a_consumer_whose_offsets_cannot_be_written_says_so_and_ends_its_process_at_last(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "ANEW_S", NEVER_S)
    monkeypatch.setattr(progress, "HOPELESS_S", NEVER_S)
    with databases(postgres, "order", "payment") as made:
        await made.migrate()
        announced: list[dict[str, Any]] = []
        settings = made.settings(tmp_path, log_file=tmp_path / "payment.log", drain_timeout_s=1)
        service = run_service(definition_of("payment"), settings, port=0, announce=announced.append)
        payment = asyncio.create_task(service)
        async with running("order", made, tmp_path) as order:
            await eventually(lambda: announced or payment.done(), timeout_s=60)
            ports: tuple[int, int] = announced[0]["port"], announced[0]["ops_port"]
            await end_of_an_order(order, ports)
            async with (
                holding(made.urls["log"], "SELECT FROM group_offsets WHERE owner IS NOT NULL FOR UPDATE"),
                at_both_doors(*ports) as client,
            ):
                assert (await order.post("/orders", json=ORDER)).status_code == 201
                await problem(client, "consumer payment", "1 record waits (order-events/")
                monkeypatch.setattr(progress, "HOPELESS_S", 8.0)
                assert await asyncio.wait_for(payment, 60) == ProcessExit.STANDSTILL
    said = (tmp_path / "payment.log").read_text(encoding="utf-8")
    assert "payment ends, so that a new process takes its place: consumer payment: stalled: 1 record" in said


async def end_of_an_order(order: httpx2.AsyncClient, payment: tuple[int, int]) -> None:
    """The payment service has worked: it has handled an order, and committed its offset."""
    placed = await order.post("/orders", json=ORDER)

    async def committed() -> bool:
        async with at_both_doors(*payment) as client:
            known = await client.get(f"/payments/{placed.headers['location'].rpartition('/')[2]}")
            lags = (await client.get("/ops/lag")).json()
        return known.status_code == 200 and not any(each["lag"] for each in lags)

    await eventually(committed, timeout_s=40)


async def test_a_kafka_consumer_whose_poll_thread_stands_still_is_told_and_joined_anew(
    kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "ANEW_S", NEVER_S)
    monkeypatch.setattr(progress, "HOPELESS_S", NEVER_S)
    stuck, released = threading.Event(), threading.Event()
    read = membership.from_message

    def stand_still(message: object) -> object:
        if stuck.is_set():
            released.wait()
        return read(message)

    monkeypatch.setattr(membership, "from_message", stand_still)
    world, ended = World(), list[str]()
    transport = await KafkaTransport.connect(kafka.bootstrap)
    names = ("counts", "totals", "flow-status", "counts.DLT")
    await transport.create_topics([TopicSettings(name, 1) for name in names])
    engine = Engine(
        world.service,
        world.store,
        transport,
        gateway=None,
        signals=world.signals,
        clock=world.clock,
        rng=random.Random(3),
        config=EngineConfig(),
        end=ended.append,
    )

    async def publish(*names: str) -> None:
        made = [record_of(Counted(name=name, amount=1), offset=0) for name in names]
        await transport.append([ProducerRecord("counts", r.key, r.value, r.headers) for r in made])

    async def nothing_is_behind() -> bool:
        return world.total("b") == 1 and not any(each.lag for each in await transport.lag("counter", ["counts"]))

    engine.start()
    try:
        await publish("a", "b")
        await eventually(nothing_is_behind, timeout_s=40)
        stuck.set()
        await publish("c", "d", "e")

        told = await eventually(lambda: engine.health().problems.get("consumer counter", ""), timeout_s=40)
        assert told.startswith("stalled: 3 records wait (counts/0), and none has been handled for ")
        monkeypatch.setattr(progress, "ANEW_S", 6.0)
        await eventually(lambda: world.signals_of(BegunAnew), timeout_s=40)
        monkeypatch.setattr(progress, "HOPELESS_S", 12.0)
        await eventually(lambda: ended, timeout_s=40)
        assert [signal.component for signal in world.signals_of(Stalled)] == ["consumer counter"]
    finally:
        released.set()
        await engine.kill()
        await transport.close()
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
        for gone in admin.delete_topics(list(names)).values():
            await asyncio.wrap_future(gone)


def test_a_process_that_its_threads_hold_is_ended_all_the_same() -> None:
    script = (
        "import threading; from concurrent.futures import ThreadPoolExecutor;"
        "from orderflow.runtime.process import end_this_process;"
        "ThreadPoolExecutor(1).submit(threading.Event().wait); end_this_process(0.2, 7)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == ProcessExit.STANDSTILL
