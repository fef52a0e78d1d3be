"""Placing orders: several workers, as fast as they are answered or at a given rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import msgspec

from orderflow.cli.load.plan import PlannedOrder
from orderflow.cli.load.tally import Tally
from orderflow.load.connection import Caller, Endpoint, LostError, NothingAnswersError, Reply

TIMEOUT_S = 30.0
PATIENCE_S = 15.0
PAUSE_S = 0.25
PAUSE_MAX_S = 5.0
BUSY = frozenset({409, 429, 503})


class Accepted(msgspec.Struct):
    """What is read of the answer to a placed order."""

    id: str


class Placing:
    """Every order has an Idempotency-Key, so that one whose answer was lost is asked again, not placed again.

    At a rate an order's latency counts from the moment at which it was to be sent, so that a service
    which stalls cannot hide it by keeping the client from sending.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        orders: Iterator[PlannedOrder],
        tally: Tally,
        *,
        run_id: str,
        rate: float | None,
        accepted: Callable[[str, float], None],
    ) -> None:
        self._endpoint = endpoint
        self._orders = enumerate(orders)
        self._tally = tally
        self._run_id = run_id
        self._rate = rate
        self._accepted = accepted
        self._decode = msgspec.json.Decoder(Accepted).decode
        self._heard = time.monotonic()
        self.stopped = False

    async def run(self, workers: int) -> None:
        """Return when all orders are placed, or `stopped` is set, or nothing answers any more."""
        self._heard = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        caller = Caller(self._endpoint)
        try:
            for number, order in self._orders:
                started = await self._turn(number)
                if self.stopped:
                    return
                await self._place(caller, number, order, started)
        finally:
            caller.close()

    async def _turn(self, number: int) -> float:
        """Wait for the moment at which this order is due."""
        now = time.monotonic()
        if self._rate is None:
            return now
        due = self._tally.began + number / self._rate
        while due > now and not self.stopped:
            await asyncio.sleep(min(due - now, PAUSE_S))
            now = time.monotonic()
        return due

    async def _place(self, caller: Caller, number: int, order: PlannedOrder, started: float) -> None:
        key = b'idempotency-key: "demo-%b-%d"\r\n' % (self._run_id.encode(), number)
        request = self._endpoint.send(b"POST", "/orders", order.body, key)
        while not self.stopped:
            try:
                reply = await caller.ask(request, TIMEOUT_S)
            except (LostError, NothingAnswersError) as error:
                await self._bear(error)
                continue
            self._heard = time.monotonic()
            if reply.status in BUSY:
                self._tally.retries[f"{reply.status}"] += 1
                await asyncio.sleep(min(reply.retry_after_s or PAUSE_S, PAUSE_MAX_S))
                continue
            self._note(reply, order.kind, started)
            return

    def _note(self, reply: Reply, kind: str, started: float) -> None:
        if reply.status != 201:
            self._tally.errors[f"{reply.status}: {reply.body[:300].decode(errors='replace')}"] += 1
            return
        try:
            order_id = self._decode(reply.body).id
        except msgspec.DecodeError:
            self._tally.errors["201 without an order"] += 1
            return
        self._tally.accept(order_id, kind, started, time.monotonic())
        self._accepted(order_id, started)

    async def _bear(self, error: Exception) -> None:
        """A service that is restarted is waited for; one that stays away ends the run."""
        self._tally.retries["no answer" if isinstance(error, LostError) else "no connection"] += 1
        if time.monotonic() - self._heard > PATIENCE_S:
            self._tally.lost_contact = True
            self.stopped = True
            return
        await asyncio.sleep(PAUSE_S)
