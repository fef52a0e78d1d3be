"""Following many orders to their end without asking for each of them.

A sample of the orders, at most so many a second, is waited for one by one: their latency is exact. All others are
found final because the lists of unfinished orders do not hold them any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec

from orderflow.cli.load.tally import COMPLETED, FAILED, Tally
from orderflow.load.connection import Caller, Endpoint, LostError, NothingAnswersError

SAMPLES_MAX = 256
SAMPLES_PER_S = 200.0
HELD_S = 20.0
TIMEOUT_S = 30.0
SWEEP_EVERY_S = 0.25
REST_SHARE = 4.0
PAUSE_S = 0.5
PAGE = 100


class Listed(msgspec.Struct):
    """What is read of an order."""

    id: str
    status: str
    reason: str | None = None
    refund: str = "none"


class Page(msgspec.Struct):
    """What is read of a list."""

    orders: list[Listed]
    next: str | None = None


class Following:
    """`accepted` is called for each order that was placed; `run` until it is cancelled."""

    def __init__(self, endpoint: Endpoint, tally: Tally) -> None:
        self._endpoint = endpoint
        self._tally = tally
        self._one = msgspec.json.Decoder(Listed).decode
        self._page = msgspec.json.Decoder(Page).decode
        self._idle: list[Caller] = []
        self._sampled: dict[str, asyncio.Task[None]] = {}
        self._tokens = float(SAMPLES_MAX)
        self._refilled = time.monotonic()

    def accepted(self, order_id: str, started: float) -> None:
        """Take it into the sample, if there is room."""
        now = time.monotonic()
        self._tokens = min(SAMPLES_MAX, self._tokens + (now - self._refilled) * SAMPLES_PER_S)
        self._refilled = now
        if self._tokens >= 1 and len(self._sampled) < SAMPLES_MAX:
            self._tokens -= 1
            self._sampled[order_id] = asyncio.create_task(self._wait_for(order_id, started))

    async def run(self) -> None:
        """Find what has become final, again and again, at a bounded share of the time."""
        caller = Caller(self._endpoint)
        try:
            while True:
                began = time.monotonic()
                if len(self._tally.unfinished) > len(self._sampled):
                    await self._sweep(caller)
                spent_s = time.monotonic() - began
                await asyncio.sleep(max(SWEEP_EVERY_S, REST_SHARE * spent_s))
        finally:
            caller.close()
            self._cancel()

    async def learn_outcomes(self) -> None:
        """How every final order ended: FAILED as the list says, COMPLETED the others."""
        tally = self._tally
        if not tally.orders:
            return
        caller = Caller(self._endpoint)
        try:
            async for order in self._list(caller, FAILED, min(tally.orders)):
                if order.id in tally.orders:
                    tally.finish(order.id)
                    tally.learn(order.id, order.status, order.reason, order.refund)
        finally:
            caller.close()
        for order_id, followed in tally.orders.items():
            if followed.status is None and order_id not in tally.unfinished:
                followed.status = COMPLETED

    async def _wait_for(self, order_id: str, started: float) -> None:
        caller = self._idle.pop() if self._idle else Caller(self._endpoint)
        request = self._endpoint.get(f"/orders/{order_id}?wait={HELD_S:g}")
        try:
            while order_id in self._tally.unfinished:
                try:
                    reply = await caller.ask(request, TIMEOUT_S)
                except (LostError, NothingAnswersError):
                    await asyncio.sleep(PAUSE_S)
                    continue
                if reply.status != 200:
                    await asyncio.sleep(PAUSE_S)
                    continue
                order = self._one(reply.body)
                if order.status in (COMPLETED, FAILED):
                    self._tally.final_s.append(time.monotonic() - started)
                    self._tally.finish(order_id)
                    self._tally.learn(order_id, order.status, order.reason, order.refund)
        finally:
            del self._sampled[order_id]
            self._idle.append(caller)

    async def _sweep(self, caller: Caller) -> None:
        """Orders only move forward, so the lists are read in that order: nothing can slip between them."""
        known = {order_id for order_id in self._tally.unfinished if order_id not in self._sampled}
        if not known:
            return
        oldest = min(known)
        try:
            for status in ("PENDING", "PAID"):
                async for order in self._list(caller, status, oldest):
                    known.discard(order.id)
        except (LostError, NothingAnswersError):
            return
        for order_id in known:
            self._tally.finish(order_id)

    async def _list(self, caller: Caller, status: str, oldest: str) -> AsyncIterator[Listed]:
        """Orders of a status, newest first, down to the id `oldest`. Raises LostError, NothingAnswersError."""
        cursor = ""
        while True:
            path = f"/orders?status={status}&limit={PAGE}{cursor}"
            reply = await caller.ask(self._endpoint.get(path), TIMEOUT_S)
            if reply.status != 200:
                raise LostError(f"the list was answered with {reply.status}")
            page = self._page(reply.body)
            for order in page.orders:
                if order.id < oldest:
                    return
                yield order
            if page.next is None:
                return
            cursor = f"&cursor={page.next}"

    def _cancel(self) -> None:
        for task in list(self._sampled.values()):
            task.cancel()
        for caller in self._idle:
            caller.close()
