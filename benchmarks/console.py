"""What the page costs with many orders and dead letters: python -m benchmarks.console [--orders N --letters N]

Fills the databases of a system of its own, then looks at every page again and again: bytes, CPU time of the page, of
the services and of PostgreSQL a view, and the shortest time of an answer, which is what a quiet machine needs. Before
that the page at rest, after it while a tab watches Flow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping

import asyncpg
import httpx2
import psutil

from benchmarks.cpu import cpu_seconds
from benchmarks.report import table
from benchmarks.system import HERE, System, running, say
from tests.support.clean_books import CLEAN, EVENT_ID, ORDER_ROWS, SKUS, STEP_MS

VIEWS = 10
REST_S = 30.0
GROUPS = 40
EVENTS = {
    "succeeded": "PaymentSucceeded",
    "failed": "PaymentFailed",
    "refunded": "PaymentRefunded",
    "reserved": "StockReserved",
    "rejected": "StockRejected",
}
LETTERS = f"""
INSERT INTO processed_events (key, consumer, identity, event_id, state, at)
SELECT order_id::text, 'payment', 'orderflow.OrderPlaced', {EVENT_ID.format(event="OrderPlaced")}, 3, at FROM clean;
INSERT INTO parked_events (key, consumer, identity, event_id, event_type, topic, partition, "offset", record_key,
    record_value, record_headers, record_timestamp, state, attempts, failure_kind, error, message, fingerprint,
    first_failed_at, last_failed_at, next_attempt_at)
SELECT order_id::text, 'payment', 'orderflow.OrderPlaced', {EVENT_ID.format(event="OrderPlaced")},
    'orderflow.OrderPlaced.v1', 'order-events', i % 6, i, order_id::text::bytea, convert_to(items::text, 'UTF8'),
    '\\x90'::bytea, 0, 3, 6, 'unknown', 'KeyError', 'no price of SKU-' || i % {GROUPS},
    lpad(to_hex(i % {GROUPS}), 12, '0'), at, at, at
FROM clean;
"""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=1_000_000, help="how many orders (default: 1000000)")
    parser.add_argument("--letters", type=int, default=10_000, help="how many dead letters (default: 10000)")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    given = parser.parse_args()
    settings = {"ORDERFLOW_CONSOLE": "true", "ORDERFLOW_CONSOLE_PORT": "0"}
    with running(HERE, "postgres", settings=settings) as system:
        figures = asyncio.run(measure(system, given.orders, given.letters))
    print(json.dumps(figures) if given.json else as_markdown(figures))


async def measure(system: System, orders: int, letters: int) -> dict[str, dict[str, float]]:
    """By page, and for `at rest` and `a tab on Flow`."""
    say(f"{orders:,} orders and {letters:,} dead letters are written")
    await _fill(system, orders, letters)
    page = Page(system)
    figures = {"at rest": await page.idle()}
    async with httpx2.AsyncClient(base_url=page.url, trust_env=False, timeout=60) as web:
        places = await _places(system)
        figures["Flow, looked at for the first time"] = await page.looked_at(web, "/", views=1)
        for name, place in places.items():
            say(name)
            figures[name] = await page.looked_at(web, place)
        say("a tab watches Flow")
        async with web.stream("GET", "/live/flow") as stream:
            reading = asyncio.ensure_future(_read(stream))
            figures["a tab on Flow"] = await page.idle()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    return figures


class Page:
    """The page of a system, and what it and the rest have spent."""

    def __init__(self, system: System) -> None:
        noted = json.loads((system.home / "state.json").read_text())["processes"]
        found = next(each for each in noted if each["name"] == "console")
        self.url: str = found["address"]
        self._process = psutil.Process(found["pid"])
        self._system = system

    def spent(self) -> Counter[str]:
        """CPU time in ms so far: of the page, the four services, and PostgreSQL."""
        times = self._process.cpu_times()
        parts = cpu_seconds(self._system.pid)
        services = sum(spent for part, spent in parts.items() if part not in ("postgres", "up"))
        return Counter(
            page=(times.user + times.system) * 1000, services=services * 1000, postgres=parts["postgres"] * 1000
        )

    async def looked_at(self, web: httpx2.AsyncClient, place: str, views: int = VIEWS) -> dict[str, float]:
        """What a view costs."""
        before, shortest, size = self.spent(), float("inf"), 0
        for _ in range(views):
            began = time.perf_counter()
            reply = await web.get(place)
            shortest = min(shortest, time.perf_counter() - began)
            assert reply.status_code == 200, (place, reply.status_code)
            size = len(reply.content)
        after = self.spent()
        return {
            "bytes": size,
            "shortest_ms": round(shortest * 1000, 1),
            **{f"{part}_ms": round((after[part] - before[part]) / views, 1) for part in before},
        }

    async def idle(self) -> dict[str, float]:
        """Shares of a core while nothing is asked for from here, and resident memory."""
        before, began = self.spent(), time.perf_counter()
        await asyncio.sleep(REST_S)
        after, took_ms = self.spent(), (time.perf_counter() - began) * 1000
        shares = {f"{part}_percent": round((after[part] - before[part]) / took_ms * 100, 2) for part in before}
        return {**shares, "page_mb": self._process.memory_info().rss // 2**20}


def as_markdown(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Views, then what goes on by itself."""
    views = [each for each in figures.items() if "bytes" in each[1]]
    idle = [each for each in figures.items() if "bytes" not in each[1]]
    heads = ("KB", "shortest answer, ms", "CPU ms of the page", "of the services", "of PostgreSQL")
    rows = [
        [
            name,
            f"{each['bytes'] / 1000:.0f}",
            *(f"{each[key]:.0f}" for key in ("shortest_ms", "page_ms", "services_ms", "postgres_ms")),
        ]
        for name, each in views
    ]
    resting = [
        [
            name,
            *(f"{each[f'{part}_percent']:.2f} %" for part in ("page", "services", "postgres")),
            f"{each['page_mb']:.0f} MB",
        ]
        for name, each in idle
    ]
    return "\n\n".join(
        [
            table(["a view", *heads], rows),
            table(["of a core", "page", "services", "PostgreSQL", "memory of the page"], resting),
        ]
    )


async def _fill(system: System, orders: int, letters: int) -> None:
    begun = int(time.time() * 1000) - 60_000 - orders * STEP_MS
    events = {name: EVENT_ID.format(event=event) for name, event in EVENTS.items()}
    numbered = CLEAN.format(begun=begun, step=STEP_MS, orders=orders, skus=SKUS)
    await _execute(
        system.database_url("order"),
        numbered,
        "ALTER TABLE orders DISABLE TRIGGER USER",
        ORDER_ROWS.format(**events),
        "ALTER TABLE orders ENABLE TRIGGER USER",
        "ANALYZE",
    )
    await _execute(system.database_url("payment"), f"{numbered} WHERE i <= {letters}", LETTERS, "ANALYZE")


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET synchronous_commit = off")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _places(system: System) -> Mapping[str, str]:
    order = await _value(system, "order", "SELECT order_id FROM orders ORDER BY order_id DESC OFFSET 40 LIMIT 1")
    position = await _value(system, "payment", "SELECT max(position) FROM parked_events")
    return dict(_pages(str(order), int(str(position))))


async def _value(system: System, name: str, query: str) -> object:
    connection = await asyncpg.connect(system.database_url(name))
    try:
        found: object = await connection.fetchval(query)
        return found
    finally:
        await connection.close()


def _pages(order: str, position: int) -> Iterator[tuple[str, str]]:
    yield "Flow", "/"
    yield "Orders", "/orders"
    yield "Orders that failed", "/orders?status=FAILED"
    yield "Orders of a customer", "/orders?q=customer-77"
    yield "Orders of a customer who has none", "/orders?q=nobody"
    yield "Orders with a SKU", "/orders?sku=SKU-3"
    yield "Orders placed over an hour ago", "/orders?age=1h"
    yield "The end of an id", f"/orders?q={'0' * 8}"
    yield "One order", f"/orders/{order}"
    yield "Dead letters", "/dead-letters"
    yield "What failed alike", f"/dead-letters/payment?fingerprint={'0' * 12}"
    yield "One letter", f"/dead-letters/payment/{position}"
    yield "Health", "/health"


async def _read(stream: httpx2.Response) -> None:
    async for _ in stream.aiter_bytes():
        pass


if __name__ == "__main__":
    main()
