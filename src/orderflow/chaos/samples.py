"""What happens over time: rates, latencies, and how much is under way, in slices of equal length."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orderflow.audit.databases import Databases, audited, opened
from orderflow.audit.rest import look
from orderflow.chaos.observer import Observer
from orderflow.chaos.system import System
from orderflow.messaging.store import SchemaBehindError, StoreUnavailableError
from orderflow.messaging.transport import TopicMissingError, Transport, TransportUnavailableError

AWAY = (StoreUnavailableError, SchemaBehindError, TransportUnavailableError, TopicMissingError, OSError, TimeoutError)
LOOK_TIMEOUT_S = 20.0


@dataclass(slots=True)
class Slice:
    """`under_way` is None where nobody could be asked. `ended` is what a look found, spread over the slices since
    the one before.
    """

    at_s: float
    placed: int = 0
    ended: float = 0.0
    accepted_ms: list[float] = field(default_factory=list)
    ended_ms: list[float] = field(default_factory=list)
    under_way: int | None = None


class Samples:
    """`seconds` is the length of a slice."""

    def __init__(self, now: Callable[[], float], seconds: float) -> None:
        self.seconds = seconds
        self.slices: list[Slice] = []
        self._now = now
        self._looked = 0

    def accepted(self, latency_s: float) -> None:
        current = self._current()
        current.placed += 1
        current.accepted_ms.append(latency_s * 1000)

    def ended(self, latency_s: float) -> None:
        self._current().ended_ms.append(latency_s * 1000)

    async def watch(self, system: System, observer: Observer) -> None:
        """Look at topics and databases, once a slice, until cancelled. What is away is looked at again."""
        urls = {name: system.settings().service_database_url(name) for name in audited()}
        while True:
            await asyncio.sleep(self.seconds)
            with contextlib.suppress(*AWAY):
                async with system.transport() as transport, opened(urls) as databases:
                    while True:
                        async with asyncio.timeout(LOOK_TIMEOUT_S):
                            await self._look(databases, transport, observer)
                        await asyncio.sleep(self.seconds)

    async def _look(self, databases: Databases, transport: Transport, observer: Observer) -> None:
        found, before = await look(databases, transport), observer.finals
        await observer.read(transport)
        current = self._current()
        unseen = self.slices[self._looked :] or [current]
        for each in unseen:
            each.ended += (observer.finals - before) / len(unseen)
        self._looked = len(self.slices)
        current.under_way = sum(
            each.unsent + each.open_intents + each.retrying + sum(each.lag.values()) for each in found.services
        )

    def _current(self) -> Slice:
        now = max(0.0, self._now())
        while not self.slices or self.slices[-1].at_s + self.seconds <= now:
            self.slices.append(Slice(len(self.slices) * self.seconds))
        return self.slices[-1]


def percentile(values: Sequence[float], share: float) -> float | None:
    """Of none there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
