"""What an order asks of PostgreSQL, and what a system at rest does: round trips, statements and transactions.

    python -m benchmarks.counting                                this tree, on the log in PostgreSQL
    python -m benchmarks.counting --checkout DIR --rate 50       another checkout that has its .venv

Counted on the wire and by the server, never by the code that is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.latency import order_times
from benchmarks.report import table
from benchmarks.round_trips import Counts, Proxy, counting
from benchmarks.system import HERE, Release, System, running, say
from tests.support.postgres import PostgresServer

SERVER = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB", "max_locks_per_transaction": "256"}
STATISTICS_WITHIN_S = 12.0
"""A backend at rest tells its statistics at the latest ten seconds after its last transaction (PGSTAT_IDLE_INTERVAL)."""
ALONE = 2.0
"""Up to this rate (orders/s) an order is alone; what the system does at rest is taken off."""
PREFIX = "orderflow_"
SHOWN_FROM = 0.05
TRANSACTIONS = "SELECT datname, xact_commit + xact_rollback AS count FROM pg_stat_database WHERE datname ~ '^orderflow_'"


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one stretch of time: `per` orders, or seconds of rest. Everything is by database.

    `transactions` are the server's own count, with those that a notification alone makes in each session that listens.
    """

    name: str
    per: float
    counts: Counts
    transactions: Counter[str]

    def trips(self, database: str | None = None) -> float:
        by_database = self.counts.by_database()
        return (by_database[database] if database else by_database.total()) / self.per

    def committed(self, database: str | None = None) -> float:
        return (self.transactions[database] if database else self.transactions.total()) / self.per

    def statements(self, database: str) -> dict[str, float]:
        found = {name: count / self.per for (where, name), count in self.counts.trips.items() if where == database}
        return dict(sorted(found.items(), key=lambda each: -each[1]))


def count(release: Release, transport: str, rates: Sequence[float], seconds: float, rest_s: float) -> list[Counted]:
    """At rest, then at each rate (orders/s), on a system of its own."""
    server = PostgresServer(SERVER)
    try:
        server.start()
        with counting(server.port, release.folder / "src") as proxy:
            url = server.url().removesuffix("/postgres")
            through = url.replace(f":{server.port}", f":{proxy.port}")
            with running(release, transport, server=url, database_url=through) as system:
                return asyncio.run(_count(system, server, proxy, rates, seconds, rest_s))
    finally:
        server.remove()


async def _count(
    system: System, server: PostgresServer, proxy: Proxy, rates: Sequence[float], seconds: float, rest_s: float
) -> list[Counted]:
    await order_times(system, 20, 5)
    await asyncio.sleep(STATISTICS_WITHIN_S)
    say(f"{system.release.name}: at rest")
    before, transactions = proxy.so_far(), _transactions(server)
    await asyncio.sleep(rest_s)
    rest = Counted("at rest, a second", rest_s, proxy.so_far().since(before), _transactions(server) - transactions)
    found = [rest]
    for rate in rates:
        say(f"{system.release.name}: at {rate:g} orders/s")
        orders = max(10, int(rate * seconds))
        before, transactions = proxy.so_far(), _transactions(server)
        started = time.monotonic()
        await order_times(system, rate, orders / rate)
        took, counts = time.monotonic() - started, proxy.so_far().since(before)
        await asyncio.sleep(STATISTICS_WITHIN_S)
        committed = _transactions(server) - transactions
        waited = STATISTICS_WITHIN_S + (took if rate <= ALONE else 0)
        for name, each in rest.transactions.items():
            committed[name] -= round(each * waited / rest_s)
        if rate <= ALONE:
            counts = counts.less(rest.counts, took / rest_s)
        found.append(Counted("alone" if rate <= ALONE else f"at {rate:g}/s", orders, counts, committed))
    return found


def _transactions(server: PostgresServer) -> Counter[str]:
    rows = (line.split("|") for line in server.execute(TRANSACTIONS).splitlines())
    return Counter({name: int(count) for name, count in rows})


def as_markdown(counted: Sequence[Counted]) -> str:
    """The sums by database, then every statement. An order's columns are an order, the first one is a second."""
    head = ["", *(each.name for each in counted)]
    databases = sorted({name for each in counted for name in each.counts.by_database()})
    lines = [["**round trips**", *(f"**{each.trips():.1f}**" for each in counted)]]
    lines += [[f"{_short(name)}", *(f"{each.trips(name):.1f}" for each in counted)] for name in databases]
    lines += [["**transactions (server)**", *(f"**{each.committed():.1f}**" for each in counted)]]
    lines += [[f"{_short(name)}", *(f"{each.committed(name):.1f}" for each in counted)] for name in databases]
    wake_ups = [f"{each.counts.wake_ups.total() / each.per:.1f}" for each in counted]
    lines += [["notifications delivered", *wake_ups]]
    for name in databases:
        lines += [[f"**{_short(name)}**", *("" for _ in counted)]]
        statements = [each.statements(name) for each in counted]
        every = {statement: max(each.get(statement, 0) for each in statements) for one in statements for statement in one}
        for statement in sorted((each for each in every if every[each] >= SHOWN_FROM), key=lambda each: -every[each]):
            lines += [[f"`{statement}`", *(f"{each.get(statement, 0):.2f}" for each in statements)]]
    return table(head, lines)


def _short(database: str) -> str:
    return database.removeprefix(PREFIX)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.counting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkout", type=Path, help="a folder with the source and its .venv (default: this one)")
    parser.add_argument("--transport", choices=("postgres", "kafka"), default="postgres")
    parser.add_argument("--rate", type=float, action="append", help="orders/s (default: 1 and 50)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long at each rate (at least 10 orders)")
    parser.add_argument("--rest", type=float, default=20.0, help="seconds of rest that are counted")
    given = parser.parse_args()
    release = Release(given.checkout.name, given.checkout.absolute()) if given.checkout else HERE
    counted = count(release, given.transport, given.rate or (1, 50), given.seconds, given.rest)
    print(as_markdown(counted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
