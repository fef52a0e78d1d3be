"""How a loop bears infrastructure that is away: it waits, tells, and goes on. Nothing is given up."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from orderflow.messaging.clock import Clock
from orderflow.messaging.failures import InfrastructureError
from orderflow.messaging.retry import Backoff
from orderflow.messaging.signals import Resumed, Signals, TaskFailed, TopicReplaced, Waiting
from orderflow.messaging.store import StoreUnavailableError
from orderflow.messaging.transport import TopicReplacedError, TransportUnavailableError

INFRASTRUCTURE = (
    StoreUnavailableError,
    TransportUnavailableError,
    InfrastructureError,
)


class Patience:
    """Runs the steps of one component for ever, with back-off while they fail.

    `problem` is what went wrong last, "" when all is well; `error` is the error itself. `waiting` is true between two
    tries.
    """

    def __init__(
        self,
        service: str,
        component: str,
        backoff: Backoff,
        signals: Signals,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self.component = component
        self.problem = ""
        self.error: Exception | None = None
        self.waiting = False
        self._service = service
        self._backoff = backoff
        self._signals = signals
        self._clock = clock
        self._chance = chance
        self._failed = 0
        self._since = 0.0

    @property
    def is_troubled(self) -> bool:
        """The last try failed."""
        return self._failed > 0

    async def forever(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run `step` again and again until cancelled."""
        while True:
            await self.until_done(step)

    async def until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run `step` until it succeeds once."""
        while not await self._attempt(step):
            pass

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> bool:
        try:
            await step()
        except INFRASTRUCTURE as error:
            if isinstance(error, TopicReplacedError):
                self._signals.emit(TopicReplaced(self._service, self.component, error.topic, error.how))
            await self._wait(error)
            return False
        except Exception as error:  # noqa: BLE001  # a defect must not stop the loop; it is told and tried again
            self._signals.emit(TaskFailed(self._service, self.component, error))
            await self._wait(error)
            return False
        self._recovered()
        return True

    async def _wait(self, error: Exception) -> None:
        if not self._failed:
            self._since = self._clock.monotonic()
        self._failed += 1
        self.problem = f"{type(error).__name__}: {error}"
        self.error = error
        delay_s = self._backoff.delay_ms(self._failed, self._chance) / 1000
        self._signals.emit(Waiting(self._service, self.component, self.problem, delay_s))
        self.waiting = True
        try:
            await self._clock.sleep(delay_s)
        finally:
            self.waiting = False

    def _recovered(self) -> None:
        if self._failed:
            after_s = self._clock.monotonic() - self._since
            self._signals.emit(Resumed(self._service, self.component, after_s))
        self._failed = 0
        self.problem = ""
        self.error = None
