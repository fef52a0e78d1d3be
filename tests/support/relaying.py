"""A relay in a process of its own: it can be stopped and continued. Says its slots as JSON lines, as they change."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres_log import PostgresLogTransport
from orderflow.core.relay import Relay
from orderflow.core.retry import Backoff, RetryLoop
from orderflow.core.store import Store
from orderflow.core.telemetry import Signal, Signals, SlotsChanged
from orderflow.core.timing import Pacer, SystemClock
from orderflow.core.transport import ProducerRecord, Transport

ROOT = Path(__file__).parents[2]


class Appends(Protocol):
    """All that a relay asks of a transport."""

    async def append(self, records: Sequence[ProducerRecord]) -> None: ...


class RunningRelay:
    """A relay with all that drives it in a service. Wait for what it did; then stop it."""

    def __init__(self, store: Store, transport: Appends, signals: Signals) -> None:
        clock = SystemClock()
        self.relay = Relay("test", store.outbox(), cast(Transport, transport), Pacer(clock, 0, 1000), signals, clock)
        patience = [RetryLoop("test", name, Backoff(50, 200), signals, clock, random.Random(1)) for name in "ab"]
        steps = (self.relay.step, self.relay.listen)
        self._tasks = [asyncio.create_task(each.forever(step)) for each, step in zip(patience, steps, strict=True)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.relay.close()


class RelayProcess:
    """The near end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.slots: list[int] = []
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, store_url: str, log_url: str, silence_s: float) -> RelayProcess:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.relaying", store_url, log_url, str(silence_s)),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        return cls(process)

    def stall(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()
        await self._listener

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.slots = json.loads(line)


def _say(told: Signal) -> None:
    if isinstance(told, SlotsChanged):
        sys.stdout.write(json.dumps(list(told.slots)) + "\n")
        sys.stdout.flush()


async def _serve(store_url: str, log_url: str, silence_s: str) -> None:
    store = await PostgresStore.connect(store_url, tables=[], silence_s=float(silence_s))
    transport = await PostgresLogTransport.connect(log_url)
    RunningRelay(store, transport, Signals([_say]))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
