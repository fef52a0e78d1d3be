"""When to try again: the back-off, how often a failing message is tried, and the retry loop around what is away."""

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
"""The database, the log, the outside world, or what a decision stands on is away: wait, and try the same again."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `first_ms` to `ceiling_ms`, each drawn evenly from its upper half.

    The mean of attempt n is ¾ · min(ceiling, first · 2ⁿ⁻¹): jitter spreads retries, the floor keeps them apart.
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
    """Failures of one component in a row: counted, reported, and each followed by a longer delay.

    `problem` is what went wrong last, for people; "" while all is well. Each failure is signalled by Waiting, the end
    of the streak by Resumed.
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
        """The last try failed."""
        return self._count > 0

    @property
    def wait_s(self) -> float:
        """How long until the next try is due."""
        return max(0.0, self._retry_at - self._clock.monotonic()) if self._count else 0.0

    def failed(self, problem: str) -> float:
        """One more failure. Returns the delay until the next try, in s."""
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
        """All is well again. Without effect if it was before."""
        if self._count:
            after_s = self._clock.monotonic() - self._since
            self._signals.emit(Resumed(self._service, self.component, after_s))
        self._count = 0
        self.problem = ""


class RetryLoop(FailureStreak):
    """Runs the steps of one component for ever and retries those that fail, with back-off. Nothing is given up.

    `error` is the last one, None while all is well. `waiting` is true between two tries.
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
        """Report the error, and wait until the next try is due."""
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
    """A circuit breaker around calls of one thing that can be away, made side by side by many callers.

    Closed, all calls go. One that meets infrastructure opens it; then half-open, one call alone is tried, with the
    back-off of `retries`, until infrastructure is back, and all the others wait for that.
    """

    def __init__(self, retries: RetryLoop) -> None:
        self._retries = retries
        self._is_open = False
        self._half_open = asyncio.Lock()

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """What `function` returns, or raises, once it is not infrastructure."""
        while True:
            met: Exception | None = None
            if not self._is_open:
                try:
                    return await function()
                except INFRASTRUCTURE_ERRORS as error:
                    self._is_open, met = True, error
            async with self._half_open:
                if self._is_open:
                    return await self._probe(function, met)

    async def _probe(self, function: Callable[[], Awaitable[T]], met: Exception | None) -> T:
        """`met` is what the call has met just now: it waits before it is tried again."""
        while True:
            if met is not None:
                await self._retries.wait(met)
            try:
                result = await function()
            except INFRASTRUCTURE_ERRORS as error:
                met = error
            except Exception:
                self._close()
                raise
            else:
                self._close()
                return result

    def _close(self) -> None:
        self._is_open = False
        self._retries.succeeded()
