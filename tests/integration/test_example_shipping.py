"""The example: a fifth service of 60 lines, as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from examples.shipping.__main__ import OrderShipped
from orderflow.events.inventory import MissingLine, ReservedLine, StockRejected, StockReserved
from orderflow.messaging.transports import postgres_log
from tests.support.postgres import PostgresServer
from tests.support.saga import Databases, Wire, new_order_id, wire

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of its own: databases and roles have the names that a real one has."""
    own = PostgresServer()
    own.start()
    for name in ("orderflow_shipping", "orderflow_log"):
        own.execute(f"CREATE ROLE {name} LOGIN")
        own.execute(f"CREATE DATABASE {name} OWNER {name}")
    yield own
    own.remove()


@pytest.fixture
async def log(server: PostgresServer) -> AsyncIterator[Wire]:
    url = server.url("orderflow_log", user="orderflow_log")
    await postgres_log.migrate(url)
    async with wire(Databases({"log": url})) as opened:
        yield opened


@pytest.fixture
async def shipping(server: PostgresServer, log: Wire, tmp_path: Path) -> AsyncIterator[int]:
    """The process; its port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.shipping", "0"),
        cwd=PROJECT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("ORDERFLOW_", "PG"))},
            "ORDERFLOW_SHIPPING_DATABASE_URL": server.url("orderflow_shipping", user="orderflow_shipping"),
            "ORDERFLOW_LOG_DATABASE_URL": server.url("orderflow_log", user="orderflow_log"),
            "ORDERFLOW_HOME": str(tmp_path),
            "ORDERFLOW_PARTITIONS": "2",
        },
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            ready = msgspec.json.decode(await process.stdout.readline())
        assert ready["service"] == "shipping"
        yield ready["port"]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_what_is_reserved_is_shipped_once_and_what_is_rejected_is_not(
    shipping: int, log: Wire, server: PostgresServer
) -> None:
    lines = (ReservedLine(sku="SKU-A", quantity=2),)
    missing = (MissingLine(sku="SKU-B", requested=1, available=0),)
    reserved, rejected, last = (new_order_id() for _ in range(3))
    for sequence in (1, 1, 2):
        await log.say(
            StockReserved(order_id=reserved, customer_id="c", lines=lines), "/orderflow/inventory", sequence
        )
    await log.say(StockRejected(order_id=rejected, customer_id="c", missing=missing), "/orderflow/inventory")
    await log.say(StockReserved(order_id=last, customer_id="c", lines=lines), "/orderflow/inventory")
    await log.hear(OrderShipped, last)
    shipped = await log.hear(OrderShipped, reserved)
    assert shipped.parcel.startswith("P-")
    kept = server.execute("SELECT count(*) FROM shipments", "orderflow_shipping")
    assert kept == "2"
    assert len(await log.heard(OrderShipped)) == 2


@pytest.mark.parametrize(
    ("given", "code", "sentence"),
    [
        ({}, 2, "no database for shipping: set ORDERFLOW_SHIPPING_DATABASE_URL"),
        ({"ORDERFLOW_SHIPPING_DATABASE_URL": "postgresql://s@127.0.0.1:9/x"}, 1, "shipping cannot be used"),
    ],
)
def test_what_is_wrong_with_its_settings_is_one_sentence(
    given: dict[str, str], code: int, sentence: str, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "examples.shipping", "0"],
        cwd=PROJECT,
        env={**environment, "ORDERFLOW_HOME": str(tmp_path), **given},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert sentence in done.stderr


def test_the_example_is_at_most_60_lines_of_python() -> None:
    files = (PROJECT / "examples" / "shipping").rglob("*.py")
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= 60
