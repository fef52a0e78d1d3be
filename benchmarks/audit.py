"""How fast the audit compares orders: python -m benchmarks.audit [--orders N]

Fills databases with orders in good order and compares all of them, three times; the best counts. What a busy machine
does not change much stands beside it: the CPU time of all processes, and its ratio to that of the floor, where
PostgreSQL reads the same rows and hashes each of them once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable
from typing import TypeVar

import asyncpg

from benchmarks.cpu import cpu_seconds
from orderflow.audit.findings import Report
from orderflow.audit.live import Scope, audit
from orderflow.core import postgres_log
from tests.support.clean_books import fill
from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, Databases, databases

T = TypeVar("T")

ROUNDS = 3
CORE = ("processed_events", "outbox", "streams")
TABLES = {
    "order": ("orders", "order_history", "order_refunds", *CORE),
    "payment": ("payments", *CORE),
    "inventory": ("reservations", "movements", *CORE),
    "notification": ("notifications", *CORE),
    "bank": ("bank_charges", "bank_refunds"),
}
SETTINGS = {"shared_buffers": "256MB"}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=100_000, help="how many orders (default: 100000)")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    given = parser.parse_args()
    server = PostgresServer(SETTINGS)
    try:
        server.start()
        with databases(server, *SERVICES) as made:
            figures = asyncio.run(measure(made, given.orders))
    finally:
        server.remove()
    if given.json:
        print(json.dumps(figures))
        return
    print(
        f"{given.orders:,} orders compared in {figures['audit_s']:.2f} s: {figures['orders_per_s']:,.0f} orders/s; "
        f"{figures['cpu_s']:.2f} CPU seconds, {figures['ratio']:.1f} times the floor ({figures['floor_cpu_s']:.2f}). "
        f"{figures['records']:,.0f} records on the topics: {figures['topics_s']:.1f} s, "
        f"{figures['topics_cpu_s']:.1f} CPU seconds"
    )


async def measure(made: Databases, orders: int) -> dict[str, float]:
    """In seconds; the outbox and the topics have every order."""
    await fill(made, orders, orders)
    books = [await spent(look(made, topics=False)) for _ in range(ROUNDS)]
    whole = await spent(look(made, topics=True))
    floors = [await spent(floor(made)) for _ in range(ROUNDS)]
    assert not any(report.count for report, _, _ in (*books, whole))
    audit_s, cpu_s = min(report.took_s for report, _, _ in books), min(cpu for _, _, cpu in books)
    floor_cpu_s = min(cpu for _, _, cpu in floors)
    return {
        "orders": orders,
        "audit_s": audit_s,
        "orders_per_s": orders / audit_s,
        "cpu_s": cpu_s,
        "floor_cpu_s": floor_cpu_s,
        "ratio": cpu_s / floor_cpu_s,
        "records": whole[0].records,
        "topics_s": whole[1] - min(took for _, took, _ in books),
        "topics_cpu_s": whole[2] - cpu_s,
    }


async def spent(work: Awaitable[T]) -> tuple[T, float, float]:
    """What it gives, the seconds that it took, and the CPU seconds of this process and all below."""
    began, before = time.monotonic(), sum(cpu_seconds(os.getpid()).values())
    given = await work
    return given, time.monotonic() - began, sum(cpu_seconds(os.getpid()).values()) - before


async def look(made: Databases, *, topics: bool) -> Report:
    """One audit at rest."""
    transport = await postgres_log.PostgresLogTransport.connect(made.urls["log"])
    try:
        return await audit(made.urls, transport, wait_s=60.0, scope=Scope(topics=topics))
    finally:
        await transport.close()


async def floor(made: Databases) -> None:
    """Every row read and hashed once, the databases side by side."""
    await asyncio.gather(*(_hash(made.urls[name], tables) for name, tables in TABLES.items()))


async def _hash(url: str, tables: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(url)
    try:
        for table in tables:
            await connection.fetchval(f"SELECT sum(hashtextextended(each::text, 1)) FROM {table} AS each")
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
