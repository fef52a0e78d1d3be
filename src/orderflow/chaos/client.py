"""The load: an open loop of orders at a rate, as careful shops and impatient ones send them, and reads."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

from orderflow.chaos.history import DOUBLED, FAILED, OK, STUCK, UNKNOWN, History, Placing
from orderflow.chaos.shop import CUSTOMER, Wanted, wanted
from orderflow.load.connection import Endpoint, LostError, NothingAnswersError, Pool, Reply

PLACE, READ = "place", "read"
TIMEOUT_S = 10.0
HELD_S = 10.0
ATTEMPTS_MAX = 8
GIVES_UP = 0.2
PAUSE_FIRST_S, PAUSE_MAX_S = 0.2, 4.0
UNDER_WAY_MAX = 3_000
FOLLOWED, READ_SHARE = 0.08, 0.15
READS_WITHIN_S = 20.0
FINAL = frozenset({"COMPLETED", "FAILED"})


class Client:
    """Sends until `stop`. `accepted` and `ended` hear of latencies, in seconds since the order was due."""

    def __init__(
        self,
        port: int,
        history: History,
        seed: int,
        *,
        accepted: Callable[[float], None],
        ended: Callable[[float], None],
    ) -> None:
        self._history = history
        self._seed = seed
        self._accepted = accepted
        self._ended = ended
        self._chance = random.Random(f"client {seed}")  # noqa: S311  (when to retry and to read)
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.not_sent = 0
        self._endpoint = Endpoint(f"http://127.0.0.1:{port}")
        self._http = Pool(self._endpoint)

    def pause(self) -> None:
        """No new orders for now; those under way go on."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    async def run(self, rate: float, seconds: float) -> None:
        """Orders at that rate for so long. Those that wait for an answer hold up none of the next."""
        loop = asyncio.get_running_loop()
        began, number, sent = loop.time(), 0, 0
        while loop.time() - began < seconds:
            if not self._flowing.is_set():
                paused = loop.time()
                await self._flowing.wait()
                began += loop.time() - paused
                seconds -= loop.time() - paused
            due = began + sent / rate
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            sent += 1
            if len(self._tasks) >= UNDER_WAY_MAX:
                self.not_sent += 1
                continue
            number += 1
            self._begin(self._order(wanted(self._seed, number), due))

    async def finish(self, timeout_s: float) -> None:
        """Let what is under way end, then end it."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        self._http.close()

    async def ask_again(self) -> None:
        """Every second order with a key that has no answer yet is asked for once more: the key must hold."""
        unknown = [each for each in self._history.placings.values() if each.outcome == UNKNOWN and each.has_key]
        for placing in unknown[::2]:
            await self._place(placing, wanted(self._seed, placing.number))

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._history.find(STUCK, "the client", f"{type(error).__name__}: {error}")

    async def _order(self, order: Wanted, due: float) -> None:
        placing = self._history.placings[order.number] = Placing.of(order)
        loop = asyncio.get_running_loop()
        pause_s = PAUSE_FIRST_S
        for _ in range(ATTEMPTS_MAX):
            outcome = await self._place(placing, order)
            if outcome == OK:
                break
            if order.key is None or outcome == FAILED or self._chance.random() < GIVES_UP:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(PAUSE_MAX_S, pause_s * 2)
        else:
            return
        self._accepted(loop.time() - due)
        if order.repeated:
            await self._place(placing, order)
        if order.other_body:
            await self._place_another(order)
        chance = self._chance.random()
        if chance < FOLLOWED:
            await self._follow(placing, due)
        elif chance < FOLLOWED + READ_SHARE:
            for _ in range(2):
                await asyncio.sleep(self._chance.random() * READS_WITHIN_S)
                await self._read(placing)

    async def _place(self, placing: Placing, order: Wanted) -> str:
        """One request; how it ended."""
        history = self._history
        history.invoke(PLACE, order.number, key=order.key)
        try:
            reply = await self._post(order.body, order.key)
            view = json.loads(reply.body) if reply.is_success else None
        except asyncio.CancelledError:
            self._end(placing, UNKNOWN, why="the run ended")
            raise
        except NothingAnswersError as error:
            return self._end(placing, FAILED, why=_why(error))
        except (LostError, ValueError) as error:
            return self._end(placing, UNKNOWN, why=_why(error))
        if view is not None:
            history.placed(placing, view)
            return self._end(placing, OK, status=reply.status, id=placing.order_id)
        refused = reply.status < 500 and reply.status not in (409, 429)
        return self._end(placing, FAILED if refused else UNKNOWN, status=reply.status)

    async def _place_another(self, order: Wanted) -> None:
        """Under the key of an order that was accepted another one must be refused."""
        history = self._history
        body = {**order.body, "customer_id": f"{CUSTOMER}{order.number}-other"}
        history.invoke("place another", order.number, key=order.key)
        try:
            reply = await self._post(body, order.key)
        except (NothingAnswersError, LostError) as error:
            history.end(UNKNOWN, "place another", order.number, why=_why(error))
            return
        if reply.is_success:
            history.find(DOUBLED, f"order {order.number}", "another order was accepted under its key")
        outcome = OK if reply.is_success else FAILED if reply.status == 422 else UNKNOWN
        history.end(outcome, "place another", order.number, status=reply.status)

    async def _post(self, body: object, key: str | None) -> Reply:
        named = b"idempotency-key: %b\r\n" % json.dumps(key).encode() if key is not None else b""
        request = self._endpoint.send(b"POST", "/orders", json.dumps(body).encode(), named)
        return await self._http.ask(request, TIMEOUT_S)

    async def _follow(self, placing: Placing, due: float) -> None:
        """Wait for its end, however long that takes."""
        while placing.status not in FINAL:
            if not await self._read(placing, wait_s=HELD_S):
                await asyncio.sleep(PAUSE_MAX_S)
        self._ended(asyncio.get_running_loop().time() - due)

    async def _read(self, placing: Placing, wait_s: float = 0.0) -> bool:
        """Whether there was an answer."""
        number, history = placing.number, self._history
        history.invoke(READ, number)
        path = f"/orders/{placing.order_id}" + (f"?wait={wait_s:g}" if wait_s else "")
        try:
            reply = await self._http.ask(self._endpoint.get(path), TIMEOUT_S + wait_s)
            view = json.loads(reply.body) if reply.is_success else None
        except asyncio.CancelledError:
            history.end(UNKNOWN, READ, number, why="the run ended")
            raise
        except (NothingAnswersError, LostError, ValueError) as error:
            history.end(UNKNOWN, READ, number, why=_why(error))
            return False
        if reply.status == 404:
            history.missing(placing)
        if view is not None:
            history.seen(placing, view)
        history.end(OK if view is not None else FAILED, READ, number, status=reply.status)
        return view is not None

    def _end(self, placing: Placing, outcome: str, **more: object) -> str:
        placing.sum_up(outcome)
        self._history.end(outcome, PLACE, placing.number, **more)
        return outcome


def _why(error: Exception) -> str:
    """What was in the way of the connection, where that was it; else what the error says."""
    return type(error.__cause__).__name__ if isinstance(error, NothingAnswersError) else str(error)
