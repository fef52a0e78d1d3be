"""Side effects: the outside world is asked after the commit, by many concurrent calls; answers come in as messages.

A decision opens an intent in its own transaction. The runner then asks the gateway, with the intent's key as
idempotency key. A crash at any point leaves the intent open, so it is asked again. Answers and commands are processed
by group commit: those that arrive together share one transaction.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from orderflow.core.crash_points import Point, reached
from orderflow.core.envelopes import Incoming, Result, from_answer
from orderflow.core.failures import InfrastructureError
from orderflow.core.messages import Answer
from orderflow.core.processor import Processor
from orderflow.core.retry import INFRASTRUCTURE_ERRORS, CallBreaker, RetryLoop
from orderflow.core.service import Intent
from orderflow.core.store import OpenIntent, Store, StoreUnavailableError
from orderflow.core.telemetry import UNAVAILABLE, IntentAsked, Outcome, Signals, TaskFailed, Usage
from orderflow.core.timing import Clock, Pacer, Timer


class QueueFullError(Exception):
    """More messages wait than the queue holds."""


class Waiter(NamedTuple):
    incoming: Incoming
    result: asyncio.Future[Result]


class GroupCommitQueue:
    """Processes the submitted messages of one consumer in batches: all that wait form the next one.

    A message that is alone waits for no others.
    """

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

    @property
    def usage(self) -> Usage:
        """How many messages wait for the next batch, and how many may."""
        return Usage(len(self._queue), self._queue_max)

    async def submit(self, incoming: Incoming) -> Result:
        """Process one message with the next batch; returns after the commit.

        Raises QueueFullError at once. Raises StoreUnavailableError when the database is unavailable; it is then
        unknown whether the message was committed.
        """
        if len(self._queue) >= self._queue_max:
            raise QueueFullError
        waiter = Waiter(incoming, asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        self._filled.set()
        self._idle.clear()
        return await waiter.result

    async def idle(self) -> None:
        """Return when no message waits or is being processed."""
        await self._idle.wait()

    def close(self) -> None:
        """Fail all messages that wait: none is processed any more."""
        self._fail(list(self._queue), StoreUnavailableError("the service is stopping"))
        self._queue.clear()

    async def step(self) -> None:
        """Process the next batch. An error is raised, both here and in each `submit` of the batch."""
        await self._filled.wait()
        await self._pacer.gather()
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_max))]
        batch = [waiter for waiter in batch if not waiter.result.done()]
        try:
            if batch:
                await self._process(batch)
        finally:
            if not self._queue:
                self._filled.clear()
                self._idle.set()

    async def _process(self, batch: list[Waiter]) -> None:
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


DEFERRED_S = 1.0


class GatewayUnavailableError(InfrastructureError):
    """The outside world cannot be reached; the intent is asked again."""


class Gateway(Protocol):
    """Asks the outside world: a bank, a mail server. Each intent is one call; many run concurrently."""

    async def ask(self, intent: Intent) -> Answer:
        """Carry out the intent, with its key as idempotency key, and return the answer.

        A time-out is an answer too: *unknown*. Raises GatewayUnavailableError if the request was not sent.
        """
        ...


class SideEffectRunner:
    """Asks the open intents of one service.

    Intents that this process has committed are asked at once, as far as there is room. `step` claims the others from
    the database: postponed ones when they are due, and those without room or of dead processes when it is woken. An
    intent is leased to the process that asks it. If the lease ends during the call, another process may ask too, with
    the same idempotency key. An intent that waits here for its turn is leased again whenever `step` finds it; if its
    lease ends, or it is closed, it is not asked here. While the gateway is unavailable, one intent is tried again and
    again, and the others wait.
    """

    def __init__(
        self,
        service: str,
        gateway: Gateway,
        store: Store,
        answers: GroupCommitQueue,
        retries: RetryLoop,
        signals: Signals,
        clock: Clock,
        *,
        concurrency: int,
        queue_max: int,
        lease_ms: int,
    ) -> None:
        self.worked = False
        self._service = service
        self._source = f"/orderflow/{service}"
        self._gateway = gateway
        self._store = store
        self._answers = answers
        self._gate = CallBreaker(retries)
        self._signals = signals
        self._clock = clock
        self._room = asyncio.Semaphore(concurrency)
        self._queue_max = queue_max
        self._lease_ms = lease_ms
        self._running: dict[str, asyncio.Task[None]] = {}
        self._again: dict[str, OpenIntent] = {}
        self._finishing = False
        self._leased_until: dict[str, float] = {}
        self._timer = Timer(clock)

    def take(self, opened: Sequence[OpenIntent]) -> None:
        """Ask these now. Those without room wait in the database until their lease ends."""
        for intent in opened:
            if len(self._running) >= self._queue_max:
                return
            self._start(intent)

    def drop(self, closed: Sequence[str]) -> None:
        """Do not ask these any more if they still wait for their turn: they are closed."""
        for key in closed:
            self._leased_until.pop(key, None)
            self._again.pop(key, None)

    def postpone(self, postponed: Sequence[OpenIntent]) -> None:
        """Ask these again after their delay."""
        for intent in postponed:
            self._again.pop(intent.intent.key, None)
            self._timer.set(intent.delay_ms)

    def wake(self) -> None:
        """Claim what is due in the database, now."""
        self._timer.set(0)

    @property
    def usage(self) -> Usage:
        """How many intents are being asked or wait here for their turn, and how many may."""
        return Usage(len(self._running), self._queue_max)

    @property
    def excuse(self) -> str:
        """Why intents that are due are not asked; "" when they are."""
        if len(self._running) < self._queue_max:
            return ""
        return f"{len(self._running)} questions to the outside world are under way, as many as may be"

    async def step(self) -> None:
        """Wait until an intent may be due, and claim what is. Raises StoreUnavailableError."""
        await self._timer.wait()
        room = self._queue_max - len(self._running)
        if room > 0:
            self.take(await self._store.claim_intents(room, self._lease_ms))

    async def finish(self) -> None:
        """Wait for the calls under way. An answer deferred by an outage is dropped: its intent is asked again."""
        self._finishing = True
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def cancel(self) -> None:
        """Cancel the calls under way; their intents stay open, and are asked again."""
        self._finishing = True
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._running.clear()  # a task that is cancelled before it began does not run its end

    def _start(self, intent: OpenIntent) -> None:
        key = intent.intent.key
        self._leased_until[key] = self._clock.monotonic() + self._lease_ms / 1000
        if key in self._running:
            # The running task asks it if it still waits for its turn; if it is about to end, another follows it.
            self._again[key] = intent
            return
        self._running[key] = asyncio.get_running_loop().create_task(self._run(intent))

    def _forget(self, key: str) -> None:
        self._running.pop(key, None)
        self._leased_until.pop(key, None)
        again = self._again.pop(key, None)
        if again is not None and not self._finishing:
            self._start(again)

    async def _run(self, intent: OpenIntent) -> None:
        """Ask, and submit the answer. An error other than infrastructure is a defect: it is reported, and the intent
        is asked again when its lease ends.
        """
        try:
            async with self._room:
                answer = await self._gate.call(partial(self._ask, intent))
            if answer is not None:
                reached(Point.INTENT_ANSWERED)
                await self._submit(answer, intent)
        except Exception as error:  # noqa: BLE001  # whatever the gateway raises is reported
            self._signals.emit(TaskFailed(self._service, f"intent {intent.intent.key}", error))
        finally:
            self._forget(intent.intent.key)

    async def _ask(self, intent: OpenIntent) -> Answer | None:
        """Ask the gateway; None if the intent is no longer leased to us. Raises what the gateway raises."""
        started = self._clock.monotonic()
        if started >= self._leased_until.get(intent.intent.key, 0.0):
            return None
        outcome = UNAVAILABLE
        try:
            reached(Point.INTENT_ASKING)
            answer = await self._gateway.ask(intent.intent)
            outcome = answer.TYPE
            self.worked = True
        finally:
            duration = self._clock.monotonic() - started
            self._signals.emit(
                IntentAsked(
                    self._service,
                    intent.intent.key,
                    intent.intent.kind,
                    intent.key,
                    outcome,
                    intent.attempts + 1,
                    duration,
                    intent.cause,
                    intent.traceparent,
                )
            )
        return answer

    async def _submit(self, answer: Answer, intent: OpenIntent) -> None:
        incoming = from_answer(answer, intent, self._source)
        while True:
            try:
                result = await self._answers.submit(incoming)
            except (*INFRASTRUCTURE_ERRORS, QueueFullError):
                await self._clock.sleep(0.1)
            else:
                reached(Point.INTENT_CLOSED)
                if result.outcome is not Outcome.DEFERRED or self._finishing:
                    return
                await self._clock.sleep(DEFERRED_S)
