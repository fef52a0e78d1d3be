"""What the checks at the door cost of an order: CPU time of the order service, with and without them.

    python -m benchmarks.checks                   forty rounds of 500 orders each way, in turns
    python -m benchmarks.checks --rounds 10 --orders 200

A process of the order service gets requests, each with a token. In every second round its gate lets everybody in
unseen, and no permission is asked for. What is measured is the CPU time of the process, so that a busy machine
changes little; the share is that of the medians. The bound of the checks is 5 %. On Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.counting import SERVER
from benchmarks.samples import order_body
from orderflow.core import postgres_log
from orderflow.core.access import PLATFORM, Permission
from orderflow.core.postgres import schema
from orderflow.http.gate import Gate
from orderflow.load.client import Endpoint, Pool
from orderflow.local.state import settings_environment, settings_secrets
from orderflow.runtime.process import run_process
from orderflow.services.order.service import SERVICE
from orderflow.settings import Settings
from tests.support.callers import token_in
from tests.support.postgres import PostgresServer
from tests.support.saga import databases

CONNECTIONS = 64
WARM_UP = 500
TIMEOUT_S = 60.0
BOUND = 0.05
WITH, WITHOUT = "with", "without"


@dataclass(frozen=True, slots=True)
class Served:
    """One process, and the pool of connections to it."""

    process: subprocess.Popen[bytes]
    pool: Pool
    endpoint: Endpoint
    token: bytes

    def cpu_s(self) -> float:
        """To the nanosecond, of all its threads (Documentation/scheduler/sched-stats.rst): ticks are too coarse."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    async def turn(self, way: str) -> None:
        """With the checks from now on, or without."""
        self.process.send_signal(signal.SIGUSR1 if way == WITH else signal.SIGUSR2)
        await self.place(CONNECTIONS)

    async def place(self, orders: int) -> float:
        """CPU milliseconds an order."""
        before = self.cpu_s()
        left = iter(range(orders))

        async def some() -> None:
            for number in left:
                request = self.endpoint.send(b"POST", "/orders", order_body(number), self.token)
                reply = await self.pool.ask(request, TIMEOUT_S)
                assert reply.status == 201, reply

        await asyncio.gather(*(some() for _ in range(CONNECTIONS)))
        return (self.cpu_s() - before) / orders * 1000


async def measure(rounds: int, orders: int) -> dict[str, list[float]]:
    """By way: CPU milliseconds an order, of each round."""
    found: dict[str, list[float]] = {WITH: [], WITHOUT: []}
    with ExitStack() as stack:
        server = PostgresServer(SERVER)
        stack.callback(server.remove)
        server.start()
        made = stack.enter_context(databases(server, "order"))
        await schema.migrate(made.urls["order"], schema.schema_of(SERVICE))
        await postgres_log.migrate(made.urls["log"])
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = start(made.settings(home, log_file=home / "log", unfinished_orders_max=10**8), stack)
        await served.place(WARM_UP)
        for number in range(rounds):
            for way in (WITH, WITHOUT) if number % 2 else (WITHOUT, WITH):
                await served.turn(way)
                found[way].append(await served.place(orders))
    return found


def start(settings: Settings, stack: ExitStack) -> Served:
    environment = settings_environment(settings, os.environ)
    command = [sys.executable, "-m", "benchmarks.checks", "--serve"]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(settings_secrets(settings))
    process.stdin.flush()
    endpoint = Endpoint(f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}")
    pool = Pool(endpoint)
    stack.callback(pool.close)
    return Served(process, pool, endpoint, f"authorization: Bearer {token_in(settings.home)}\r\n".encode())


def serve() -> int:
    """This process as the order service, whose checks go and come with a signal."""
    kept = (Gate.admit, Permission.require)
    gone = (lambda *_: PLATFORM, lambda *_: None)

    def turn(number: int, _: object) -> None:
        admit, require = kept if number == signal.SIGUSR1 else gone
        Gate.admit, Permission.require = admit, require  # type: ignore[method-assign]  # what is measured

    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, turn)
    secrets = json.loads(sys.stdin.readline())
    return run_process(SERVICE, Settings.load(environ=os.environ, piped=secrets))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--orders", type=int, default=500, help="orders a round and way")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        return serve()
    found = asyncio.run(measure(given.rounds, given.orders))
    middle = {way: median(times) for way, times in found.items()}
    share = middle[WITH] / middle[WITHOUT] - 1
    told = {f"{way}_ms": round(value, 4) for way, value in middle.items()}
    sys.stdout.write(json.dumps({**told, "share": round(share, 4)}) + "\n")
    return 0 if share <= BOUND else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
