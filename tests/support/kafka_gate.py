"""A gate between Kafka clients and a broker: a test can swallow requests of a kind."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

OFFSET_COMMIT = 8
CHUNK = 65_536


class Gate:
    """Passes everything on but the requests whose api keys are in `swallows`; `swallowed` counts those."""

    def __init__(self, behind: int) -> None:
        self.swallows: set[int] = set()
        self.swallowed = 0
        self._behind = behind
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        task = asyncio.current_task()
        assert task is not None
        writers = self._open[task] = [writer]
        with suppress(OSError):
            broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._behind)
            writers.append(broker_writer)
            await asyncio.gather(self._requests(reader, broker_writer), _answers(broker_reader, writer))
        for each in writers:
            each.transport.abort()
        del self._open[task]

    async def close(self) -> None:
        """Cut every connection."""
        for writers in self._open.values():
            for writer in writers:
                writer.transport.abort()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _requests(self, reader: asyncio.StreamReader, broker: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                size = await reader.readexactly(4)
                request = await reader.readexactly(struct.unpack(">i", size)[0])
                if struct.unpack_from(">h", request)[0] in self.swallows:
                    self.swallowed += 1
                    continue
                broker.write(size + request)
                await broker.drain()
        broker.transport.abort()


async def _answers(broker: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while answers := await broker.read(CHUNK):
            writer.write(answers)
            await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def gate(port: int, behind: int) -> AsyncIterator[Gate]:
    """Clients connect to `port`, the broker listens at `behind`."""
    made = Gate(behind)
    server = await asyncio.start_server(made.serve, "127.0.0.1", port)
    try:
        yield made
    finally:
        server.close()
        await made.close()
