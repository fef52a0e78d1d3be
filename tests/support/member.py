"""A consumer group member in a process of its own: it can be killed, or stopped and continued.

Says and hears JSON lines: `{"do": "poll", "max": 10}`, `{"do": "commit"}` (what it polled last),
`{"do": "close"}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from orderflow.core.kafka import KafkaTransport
from orderflow.core.postgres_log import PostgresLogTransport
from orderflow.core.transport import Transport, TransportUnavailableError

Position = tuple[str, int, int]
ROOT = Path(__file__).parents[2]
ANSWER_TIMEOUT_S = 120.0


class ProcessMember:
    """The near end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls, kind: str, address: str, session_timeout_s: float, group: str, topics: Sequence[str]
    ) -> ProcessMember:
        """Returns when it has joined."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.member"),
            *(kind, address, str(session_timeout_s), group, *topics),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        member = cls(process)
        await member._answer()
        return member

    async def poll(self, max_records: int) -> list[Position]:
        """Waits until there are some. Returns (topic, partition, offset) of each."""
        answer = await self._ask({"do": "poll", "max": max_records})
        return [(topic, partition, offset) for topic, partition, offset in answer["records"]]

    async def commit(self) -> None:
        """Commit what was polled last."""
        await self._ask({"do": "commit"})

    def stall(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()

    async def _ask(self, wish: dict[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wish).encode() + b"\n")
        await self._process.stdin.drain()
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            line = await self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line)
        return answer


async def connect(kind: str, address: str, session_timeout_s: float, *, hasty: bool = False) -> Transport:
    """The transport called `kind`. One that is `hasty` soon gives up who does not answer."""
    if kind == "kafka":
        return await KafkaTransport.connect(
            address,
            session_timeout_s=session_timeout_s,
            delivery_timeout_s=4.0 if hasty else 60.0,
            request_timeout_s=2.0 if hasty else 60.0,
        )
    rings = kind != "postgres-log-apart"
    return await PostgresLogTransport.connect(address, session_timeout_s=session_timeout_s, rings=rings)


async def _serve(kind: str, address: str, session_timeout_s: str, group: str, *topics: str) -> None:
    transport = await connect(kind, address, float(session_timeout_s))
    consumer = await transport.subscribe(group, topics)
    _say({})
    records: Sequence[Any] = ()
    while line := await asyncio.to_thread(sys.stdin.readline):
        wish = json.loads(line)
        if wish["do"] == "poll":
            records = ()
            while not records:
                # A member that was stopped for a while may find the log away for a moment: its owner polls again.
                with suppress(TransportUnavailableError):
                    records = await consumer.poll(wish["max"])
            _say({"records": [(r.topic, r.partition, r.offset) for r in records]})
        else:
            await consumer.commit(records)
            _say({})
    os._exit(0)


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
