"""How fast the audit compares orders: python -m benchmarks.audit [--orders N]

Fills databases with orders in good order and compares all of them, three times; the best counts. Beside it the floor: how
long PostgreSQL takes to read the same rows and hash each of them once. The ratio of the two is a figure that a busy machine
does not change much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import asyncpg

from orderflow.audit.findings import Report
from orderflow.audit.live import Scope, audit
from orderflow.messaging.transports import postgres_log
from tests.support.clean_books import fill
from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, Databases, databases

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
        f"PostgreSQL reads and hashes the same rows in {figures['floor_s']:.2f} s (ratio {figures['ratio']:.1f}); "
        f"with {figures['records']:,.0f} records on the topics {figures['with_topics_s']:.1f} s in all"
    )


async def measure(made: Databases, orders: int) -> dict[str, float]:
    """In seconds; the outbox and the topics have every order."""
    await fill(made, orders, orders)
    books = [await look(made, topics=False) for _ in range(ROUNDS)]
    began = time.monotonic()
    whole = await look(made, topics=True)
    with_topics_s = time.monotonic() - began
    floor_s = min([await floor(made) for _ in range(ROUNDS)])
    assert not any(report.count for report in (*books, whole))
    audit_s = min(report.took_s for report in books)
    return {
        "orders": orders,
        "audit_s": audit_s,
        "orders_per_s": orders / audit_s,
        "floor_s": floor_s,
        "ratio": audit_s / floor_s,
        "records": whole.records,
        "with_topics_s": with_topics_s,
    }


async def look(made: Databases, *, topics: bool) -> Report:
    """One audit at rest."""
    transport = await postgres_log.PostgresLogTransport.connect(made.urls["log"])
    try:
        return await audit(made.urls, transport, wait_s=60.0, scope=Scope(topics=topics))
    finally:
        await transport.close()


async def floor(made: Databases) -> float:
    """Every row read and hashed once, the databases side by side."""
    began = time.monotonic()
    await asyncio.gather(*(_hash(made.urls[name], tables) for name, tables in TABLES.items()))
    return time.monotonic() - began


async def _hash(url: str, tables: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(url)
    try:
        for table in tables:
            await connection.fetchval(f"SELECT sum(hashtextextended(each::text, 1)) FROM {table} AS each")
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
