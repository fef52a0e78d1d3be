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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.latency import order_times
from benchmarks.report import table
from benchmarks.round_trips import Counts, Proxy, counting
from benchmarks.system import HERE, Release, System, running, say
from tests.support.postgres import PostgresServer

SERVER = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB", "max_locks_per_transaction": "256"}
STATISTICS_WITHIN_S = 12.0
"""A backend at rest reports its statistics ten seconds after its last transaction (PGSTAT_IDLE_INTERVAL)."""
ALONE = 2.0
"""Up to this rate (orders/s) an order is alone; what the system does at rest is taken off."""
PREFIX = "orderflow_"
SHOWN_FROM = 0.05
WARM_UP_RATE, WARM_UP_S = 20, 5.0
SETTLED_AFTER_S = 1.0
TRANSACTIONS = (
    "SELECT datname, xact_commit + xact_rollback AS count FROM pg_stat_database WHERE datname ~ '^orderflow_'"
)


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one stretch of time: `per` orders, or seconds of rest. Everything is by database.

    `committed` are the server's own count of transactions, with those that a notification alone makes in each session
    that listens; empty where the server was not asked.
    """

    name: str
    per: float
    counts: Counts
    committed: Counter[str]

    def trips(self) -> dict[str, float]:
        """Round trips an order (a second at rest)."""
        return self._each(self.counts.by_database())

    def transactions(self) -> dict[str, float]:
        """Transactions an order (a second at rest), as the server counts them, else as they are seen on the wire."""
        return self._each(self.committed or self.counts.transactions)

    def statements(self, database: str) -> dict[str, float]:
        """Round trips by what they carry, most first."""
        found = {name: count for (where, name), count in self.counts.trips.items() if where == PREFIX + database}
        return {name: count / self.per for name, count in sorted(found.items(), key=lambda each: -each[1])}

    def _each(self, counts: Mapping[str, int]) -> dict[str, float]:
        return {name.removeprefix(PREFIX): count / self.per for name, count in sorted(counts.items())}


def count(
    release: Release,
    transport: str,
    rates: Sequence[float],
    *,
    seconds: float,
    rest_s: float,
    ask_server_from: float = 0.0,
    prepare: Callable[[Path], None] | None = None,
) -> list[Counted]:
    """At rest, then at each rate (orders/s), on a system of its own.

    The server, which is slow to answer, is asked for its own count from that rate on; 0: at rest too.
    """
    server = PostgresServer(SERVER)
    try:
        server.start()
        with counting(server.port, release.folder / "src") as proxy:
            url = server.url().removesuffix("/postgres")
            through = url.replace(f":{server.port}", f":{proxy.port}")
            with running(release, transport, server=url, database_url=through, prepare=prepare) as system:
                return asyncio.run(_Counter(system, server, proxy, ask_server_from).count(rates, seconds, rest_s))
    finally:
        server.remove()


class _Counter:
    def __init__(self, system: System, server: PostgresServer, proxy: Proxy, ask_from: float) -> None:
        self._system, self._server, self._proxy, self._ask_from = system, server, proxy, ask_from

    async def count(self, rates: Sequence[float], seconds: float, rest_s: float) -> list[Counted]:
        await order_times(self._system.ports["order"], WARM_UP_RATE, WARM_UP_S)
        await asyncio.sleep(SETTLED_AFTER_S)
        rest = await self._rest(rest_s)
        return [rest, *[await self._at(rate, max(10, round(rate * seconds)), rest) for rate in rates]]

    async def _rest(self, rest_s: float) -> Counted:
        say(f"{self._system.release.name}: at rest")
        asks = self._ask_from <= 0
        committed, before = await self._committed(asks=asks), self._proxy.so_far()
        await asyncio.sleep(rest_s)
        counts = self._proxy.so_far().since(before)
        waited = STATISTICS_WITHIN_S if asks else 0.0
        total = await self._committed(asks=asks) - committed
        return Counted(
            "at rest, a second",
            rest_s,
            counts,
            Counter({name: round(each * rest_s / (rest_s + waited)) for name, each in total.items()}),
        )

    async def _at(self, rate: float, orders: int, rest: Counted) -> Counted:
        say(f"{self._system.release.name}: at {rate:g} orders/s")
        alone, asks = rate <= ALONE, rate >= self._ask_from
        committed, before = await self._committed(asks=asks), self._proxy.so_far()
        started = time.monotonic()
        await order_times(self._system.ports["order"], rate, orders / rate)
        took, counts = time.monotonic() - started, self._proxy.so_far().since(before)
        if alone:
            counts = counts.less(rest.counts, took / rest.per)
        resting = (STATISTICS_WITHIN_S if asks else 0.0) + (took if alone else 0.0)
        total = await self._committed(asks=asks) - committed
        total.subtract({name: round(each * resting / rest.per) for name, each in rest.committed.items()})
        return Counted("alone" if alone else f"at {rate:g}/s", orders, counts, total)

    async def _committed(self, *, asks: bool) -> Counter[str]:
        """The server's count of transactions by database, once it has been told of all."""
        if not asks:
            return Counter()
        await asyncio.sleep(STATISTICS_WITHIN_S)
        rows = (line.split("|") for line in self._server.execute(TRANSACTIONS).splitlines())
        return Counter({name: int(number) for name, number in rows})


def as_markdown(counted: Sequence[Counted]) -> str:
    """The sums by database, then every statement. An order's columns are an order, the first one is a second."""
    lines: list[list[str]] = []
    for title, rows in (
        ("round trips", [each.trips() for each in counted]),
        ("transactions", [each.transactions() for each in counted]),
    ):
        lines.append([f"**{title}**", *(f"**{sum(each.values()):.1f}**" for each in rows)])
        lines += [[name, *(f"{each.get(name, 0):.1f}" for each in rows)] for name in rows[-1]]
    wake_ups = [f"{each.counts.wake_ups.total() / each.per:.1f}" for each in counted]
    lines.append(["notifications delivered", *wake_ups])
    for database in counted[-1].trips():
        lines.append([f"**{database}**", *("" for _ in counted)])
        rows = [each.statements(database) for each in counted]
        most = {name: max(each.get(name, 0) for each in rows) for row in rows for name in row}
        shown = sorted((name for name in most if most[name] >= SHOWN_FROM), key=lambda name: -most[name])
        lines += [[f"`{name}`", *(f"{each.get(name, 0):.2f}" for each in rows)] for name in shown]
    return table(["", *(each.name for each in counted)], lines)


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
    rates = given.rate or (1, 50)
    counted = count(release, given.transport, rates, seconds=given.seconds, rest_s=given.rest)
    print(as_markdown(counted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
