"""`python -m benchmarks`: every figure beside its floor, in one run, with the promises checked at the end."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.consume import run_consume
from benchmarks.consume_servers import connect, servers
from benchmarks.floor import run_accept_floor, run_floor, run_reserve_floor
from benchmarks.floor_databases import admin_url, drop_floor_databases, make_floor_databases
from benchmarks.idle import run_idle
from benchmarks.latency import run_latency
from benchmarks.parked import Parked, run_parked
from benchmarks.report import Figures, as_markdown
from benchmarks.saga import CONNECTIONS, run_saga
from benchmarks.system import System, running
from orderflow.runtime.process import collect_rarely

T = TypeVar("T")
POISON_EVERY = 500
EXAMPLES = """examples:
  python -m benchmarks                         everything, on both logs (about 15 minutes)
  python -m benchmarks --transport postgres    the embedded log only
  python -m benchmarks --quick                 small sizes: that it runs, not how fast
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: orders and events, and seconds for what runs at a rate.

    `slice` are the orders of a slice with or without parked keys.
    """

    warm_up: int
    orders: int
    slice: int
    rounds: int
    events: int
    rate_s: float
    idle_s: float


FULL = Sizes(warm_up=10_000, orders=20_000, slice=8_000, rounds=3, events=50_000, rate_s=20, idle_s=10)
QUICK = Sizes(warm_up=100, orders=300, slice=300, rounds=1, events=5000, rate_s=2, idle_s=2)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--transport", choices=("postgres", "kafka", "both"), default="both")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    given = parser.parse_args()
    transports = ("postgres", "kafka") if given.transport == "both" else (given.transport,)
    figures = [measure(transport, QUICK if given.quick else FULL) for transport in transports]
    print(json.dumps([each.as_dict() for each in figures], indent=1) if given.json else as_markdown(figures))
    return 0 if all(each.promises_kept for each in figures) else 1


def measure(transport: str, sizes: Sizes) -> Figures:
    """Start a system on that log, take every figure, and check the promises."""
    _say(f"starting a system on {transport}")
    with running(transport) as system:
        figures = asyncio.run(_measure(system, sizes))
        _say("checking the promises")
        audit = subprocess.run(
            [sys.executable, "-m", "orderflow", "audit", "--home", str(system.settings.home), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        figures.promises_kept = audit.returncode == 0
        if audit.returncode:
            _say(audit.stdout + audit.stderr)
    _say("1 % of keys parked, beside the same without")
    with running(transport, "--game-day") as system:
        figures.parked = asyncio.run(_measure_parked(system, sizes))
    collect_rarely()
    _say("durable consume")
    with servers(transport) as (admin, bootstrap):
        figures.consume_floor, figures.consume = run_as_a_service(_measure_consume(admin, bootstrap, sizes.events))
    _say(f"the same, with one event in {POISON_EVERY} refused")
    with servers(transport) as (admin, bootstrap):
        _, figures.consume_poison = run_as_a_service(_measure_consume(admin, bootstrap, sizes.events, POISON_EVERY))
    return figures


def run_as_a_service(work: Coroutine[Any, Any, T]) -> T:
    """On the event loop that a service's process has."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)


async def _measure_consume(
    admin: str, bootstrap: str | None, events: int, poison_every: int = 0
) -> tuple[float, float]:
    """Events/s of the floor and of the service."""
    urls = await make_floor_databases(admin)
    floor = events / await run_reserve_floor(urls, events)
    urls = await make_floor_databases(admin)
    log = await connect(urls, bootstrap)
    try:
        return floor, await run_consume(urls, log, events, poison_every)
    finally:
        await log.close()


async def _measure_parked(system: System, sizes: Sizes) -> Parked:
    await run_saga(system, sizes.warm_up)
    return await run_parked(system, sizes.slice, sizes.rate_s, sizes.rounds)


async def _measure(system: System, sizes: Sizes) -> Figures:
    figures = Figures(transport=system.transport, ready_s=system.ready_after_s)
    await run_saga(system, sizes.warm_up)
    _say("at rest")
    figures.idle = await run_idle(system, sizes.idle_s)
    for number in range(sizes.rounds):
        _say(f"round {number + 1} of {sizes.rounds}: floor, then the saga")
        urls = await make_floor_databases(admin_url(system))
        figures.floors.append(sizes.orders / await run_floor(urls, sizes.orders))
        figures.accept_floors.append(sizes.orders / await run_accept_floor(urls, sizes.orders, CONNECTIONS))
        await drop_floor_databases(admin_url(system))
        figures.sagas.append(await run_saga(system, sizes.orders))
    for rate in (50, 200):
        _say(f"latency at {rate} orders/s")
        figures.latencies.append(await run_latency(system, rate, sizes.rate_s))
    return figures


def _say(text: Any) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
