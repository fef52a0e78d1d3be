"""Retries: the back-off, how often a failing message is tried, and the loop that waits for infrastructure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from orderflow.core.failures import InfrastructureError
from orderflow.core.store import StoreUnavailableError
from orderflow.core.telemetry import Resumed, Signals, TaskFailed, TopicReplaced, Waiting
from orderflow.core.timing import Clock
from orderflow.core.transport import TopicReplacedError, TransportUnavailableError

INFRASTRUCTURE_ERRORS = (
    StoreUnavailableError,
    TransportUnavailableError,
    InfrastructureError,
)
"""The database, the log, the outside world or something a decision depends on is away: wait, and try again."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `first_ms` to `ceiling_ms`, each drawn uniformly from its upper half.

    The mean delay after attempt n is ¾ · min(ceiling, first · 2ⁿ⁻¹). Jitter spreads retries; no delay is below half.
    """

    first_ms: float
    ceiling_ms: float

    def delay_ms(self, attempt: int, rng: random.Random) -> int:
        """The delay after the failed `attempt` (from 1), in ms."""
        full = min(self.ceiling_ms, self.first_ms * 2.0 ** min(attempt - 1, 40))
        return round(full / 2 + rng.random() * full / 2)

    def longest_ms(self, rng: random.Random) -> int:
        """The delay after many failed attempts, in ms."""
        return self.delay_ms(41, rng)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failing message is tried before it is given up."""

    backoff: Backoff
    attempts_max: int

    def again_in_ms(self, attempts: int, rng: random.Random) -> int | None:
        """The delay before the next try after `attempts` failed ones; None: give up."""
        if attempts >= self.attempts_max:
            return None
        return self.backoff.delay_ms(attempts, rng)


class FailureStreak:
    """Consecutive failures of one component: counted, reported, and each followed by a longer delay.

    `problem` describes the last failure for people; it is "" while all is well. Each failure emits the signal
    Waiting, and the end of the streak Resumed.
    """

    def __init__(
        self, service: str, component: str, backoff: Backoff, signals: Signals, clock: Clock, rng: random.Random
    ) -> None:
        self.component = component
        self.problem = ""
        self._service = service
        self._backoff = backoff
        self._signals = signals
        self._clock = clock
        self._rng = rng
        self._count = 0
        self._since = 0.0
        self._retry_at = 0.0

    @property
    def is_troubled(self) -> bool:
        """Whether the last try failed."""
        return self._count > 0

    @property
    def wait_s(self) -> float:
        """How long until the next try is due, in s."""
        return max(0.0, self._retry_at - self._clock.monotonic()) if self._count else 0.0

    def failed(self, problem: str) -> float:
        """Count a failure; returns the delay until the next try, in s."""
        now = self._clock.monotonic()
        if not self._count:
            self._since = now
        self._count += 1
        self.problem = problem
        delay_s = self._backoff.delay_ms(self._count, self._rng) / 1000
        self._retry_at = now + delay_s
        self._signals.emit(Waiting(self._service, self.component, problem, delay_s))
        return delay_s

    def succeeded(self) -> None:
        """End the streak, if there is one."""
        if self._count:
            after_s = self._clock.monotonic() - self._since
            self._signals.emit(Resumed(self._service, self.component, after_s))
        self._count = 0
        self.problem = ""


class RetryLoop(FailureStreak):
    """Runs the steps of one component for ever, and retries those that fail, with back-off, without giving up.

    `error` is that of the last try, or None. `waiting` is true between two tries.
    """

    error: Exception | None = None
    waiting = False

    async def forever(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run `step` again and again until cancelled."""
        while True:
            await self._succeeds(step)

    async def until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run `step` until it succeeds once."""
        while not await self._succeeds(step):
            pass

    async def _succeeds(self, step: Callable[[], Awaitable[None]]) -> bool:
        try:
            await step()
        except Exception as error:  # noqa: BLE001  # a defect must not stop the loop
            await self._missed(error)
            return False
        self.succeeded()
        return True

    async def _missed(self, error: Exception) -> None:
        if not isinstance(error, INFRASTRUCTURE_ERRORS):
            self._signals.emit(TaskFailed(self._service, self.component, error))
        await self.wait(error)

    async def wait(self, error: Exception) -> None:
        """Count and report the error, and wait until the next try is due."""
        if isinstance(error, TopicReplacedError):
            self._signals.emit(TopicReplaced(self._service, self.component, error.topic, error.how))
        self.error = error
        delay_s = self.failed(f"{type(error).__name__}: {error}")
        self.waiting = True
        try:
            await self._clock.sleep(delay_s)
        finally:
            self.waiting = False

    def succeeded(self) -> None:
        super().succeeded()
        self.error = None


class CallBreaker:
    """A circuit breaker around concurrent calls of something that can be unavailable.

    While it is closed, all calls are made. An infrastructure error opens it. Then one call alone is retried, with the
    back-off of `retries`, while all others wait; the first that gets through closes it.
    """

    def __init__(self, retries: RetryLoop) -> None:
        self._retries = retries
        self._is_open = False
        self._half_open = asyncio.Lock()

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Call `function` until it raises no infrastructure error; returns its result, or raises its other errors."""
        while True:
            failure: Exception | None = None
            if not self._is_open:
                try:
                    return await function()
                except INFRASTRUCTURE_ERRORS as error:
                    self._is_open, failure = True, error
            async with self._half_open:
                if self._is_open:
                    return await self._probe(function, failure)

    async def _probe(self, function: Callable[[], Awaitable[T]], failure: Exception | None) -> T:
        """Retry the call until it gets through; first wait if it has just met with `failure`."""
        while True:
            if failure is not None:
                await self._retries.wait(failure)
            try:
                result = await function()
            except INFRASTRUCTURE_ERRORS as error:
                failure = error
            except Exception:
                self._close()
                raise
            else:
                self._close()
                return result

    def _close(self) -> None:
        self._is_open = False
        self._retries.succeeded()
