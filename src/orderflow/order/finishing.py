"""Waiting for orders to come to their end, without asking the database for each who waits."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import UUID

from orderflow.events.order import OrderCompleted, OrderFailed
from orderflow.messaging.signals import BatchCommitted, Signal
from orderflow.messaging.store import StoreUnavailableError
from orderflow.order.store import Orders
from orderflow.runtime.problem_types import OVERLOADED
from orderflow.runtime.problems import ProblemError

POLL_S = 0.25
RETRY_AFTER_S = 1


class Finishing:
    """Wakes who waits for an order: by this process's own commits, and by one poll a process for orders that
    another process finishes. The poll runs only while somebody waits.
    """

    def __init__(self, orders: Orders, stopping: asyncio.Event, at_most: int) -> None:
        self._orders = orders
        self._stopping = stopping
        self._at_most = at_most
        self._waiting: dict[UUID, set[asyncio.Future[None]]] = {}
        self._count = 0
        self._poll: asyncio.Task[None] | None = None

    def notice(self, signal: Signal) -> None:
        """A subscriber of signals."""
        if not self._waiting or not isinstance(signal, BatchCommitted):
            return
        for handled in signal.handled:
            for event in handled.caused:
                if isinstance(event, OrderCompleted | OrderFailed):
                    self._wake(event.order_id)

    def expect(self, order_id: UUID) -> Expectation:
        """To be entered before the order is read, so that its end cannot fall between reading and waiting."""
        return Expectation(self, order_id)

    def enter(self, order_id: UUID) -> asyncio.Future[None] | None:
        """None when too many wait already, or the process is stopping."""
        if self._count >= self._at_most or self._stopping.is_set():
            return None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(order_id, set()).add(future)
        self._count += 1
        if self._poll is None:
            self._poll = loop.create_task(self._watch())
        return future

    def require_stopping(self) -> None:
        """Why nobody can wait. Raises ProblemError 503 with Retry-After: too many do."""
        if not self._stopping.is_set():
            detail = f"{self._at_most} requests wait for an order already; ask without `wait`, or later"
            raise ProblemError(503, detail, kind=OVERLOADED, retry_after_s=RETRY_AFTER_S)

    def leave(self, order_id: UUID, future: asyncio.Future[None]) -> None:
        self._count -= 1
        futures = self._waiting.get(order_id)
        if futures is not None:
            futures.discard(future)
            if not futures:
                del self._waiting[order_id]

    def _wake(self, order_id: UUID) -> None:
        for future in self._waiting.get(order_id, ()):
            if not future.done():
                future.set_result(None)

    async def _watch(self) -> None:
        try:
            while self._waiting and not self._stopping.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._stopping.wait()
                if not self._stopping.is_set():
                    await self._look()
        finally:
            self._poll = None
        if self._stopping.is_set():
            for order_id in list(self._waiting):
                self._wake(order_id)

    async def _look(self) -> None:
        if self._waiting:
            with suppress(StoreUnavailableError):
                for order_id in await self._orders.finished_among(list(self._waiting)):
                    self._wake(order_id)


class Expectation:
    """`with finishing.expect(order_id) as expectation:` read the order, then `await expectation.met(seconds)`."""

    def __init__(self, finishing: Finishing, order_id: UUID) -> None:
        self._finishing = finishing
        self._order_id = order_id
        self._future: asyncio.Future[None] | None = None

    def __enter__(self) -> Expectation:
        self._future = self._finishing.enter(self._order_id)
        return self

    def __exit__(self, *_: object) -> None:
        if self._future is not None:
            self._finishing.leave(self._order_id, self._future)

    async def met(self, timeout_s: float, gone: asyncio.Future[None] | None = None) -> bool:
        """True when the order has ended (or the process stops); False after `timeout_s`, or when `gone` is done.

        Raises ProblemError 503 with Retry-After: too many wait already.
        """
        if self._future is None:
            self._finishing.require_stopping()
            return False
        waited = {self._future} if gone is None else {self._future, gone}
        await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return self._future.done()
