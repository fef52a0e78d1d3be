"""Group commit: single messages that come at the same time go in together, in one transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from orderflow.messaging.incoming import Incoming
from orderflow.messaging.pacing import Pacer
from orderflow.messaging.processor import Processor
from orderflow.messaging.result import Result
from orderflow.messaging.store import StoreUnavailableError


class QueueFullError(Exception):
    """More messages wait than the queue holds."""


class Waiter(NamedTuple):
    incoming: Incoming
    result: asyncio.Future[Result]


class GroupCommitQueue:
    """Gathers submitted messages for one consumer's inbox. At concurrency 1 nothing waits."""

    def __init__(self, consumer: str, processor: Processor, pacer: Pacer, batch_max: int, queue_max: int) -> None:
        self._consumer = consumer
        self._processor = processor
        self._pacer = pacer
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._queue: deque[Waiter] = deque()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._queue)

    async def submit(self, incoming: Incoming) -> Result:
        """Carry one message in; returns after the commit.

        Raises QueueFullError at once, StoreUnavailableError when the database is away (then it is
        not known whether the message was carried in).
        """
        if len(self._queue) >= self._queue_max:
            raise QueueFullError
        waiter = Waiter(incoming, asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        self._filled.set()
        self._idle.clear()
        return await waiter.result

    async def idle(self) -> None:
        """Return when nothing waits and nothing is being carried in."""
        await self._idle.wait()

    def close(self) -> None:
        """Nobody will carry anything in any more: tell those who wait."""
        self._fail(list(self._queue), StoreUnavailableError("the service is stopping"))
        self._queue.clear()

    async def step(self) -> None:
        """Carry the next batch in. An error goes to those who wait for it, and is raised."""
        await self._filled.wait()
        await self._pacer.gather()
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_max))]
        batch = [waiter for waiter in batch if not waiter.result.done()]
        try:
            if batch:
                await self._carry_in(batch)
        finally:
            if not self._queue:
                self._filled.clear()
                self._idle.set()

    async def _carry_in(self, batch: list[Waiter]) -> None:
        self._pacer.started(len(batch))
        try:
            results = await self._processor.admit(self._consumer, [waiter.incoming for waiter in batch])
        except asyncio.CancelledError:
            self._fail(batch, StoreUnavailableError("the service is stopping"))
            raise
        except Exception as error:
            self._fail(batch, error)
            raise
        self._pacer.ended()
        for waiter, result in zip(batch, results, strict=True):
            if not waiter.result.done():
                waiter.result.set_result(result)

    @staticmethod
    def _fail(batch: list[Waiter], error: Exception) -> None:
        for waiter in batch:
            if not waiter.result.done():
                waiter.result.set_exception(error)
