"""A process's part in game days: it applies the faults that are set, or says that it ignores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from orderflow.messaging.clock import Clock
from orderflow.messaging.decision import Service
from orderflow.messaging.faults.following import FaultFollower
from orderflow.messaging.faults.gate import GameDayProcessor
from orderflow.messaging.faults.injection import with_faults
from orderflow.messaging.processor import Processor
from orderflow.messaging.signals import Signals
from orderflow.messaging.store import Store


class GameDay:
    """`on` is the setting `game_day`. Off, the service and its processor are those without faults.

    `begin` before the engine starts; where it is on `step` for ever, and `leave` at the end.
    """

    def __init__(self, service: Service, store: Store, signals: Signals, clock: Clock, *, on: bool) -> None:
        self.on = on
        self._follower = FaultFollower(service.name, store.faults, signals, clock)
        active = self._follower.active
        self.service = with_faults(service, lambda: active.faults) if on else service
        self.processor: Callable[..., Processor] = partial(GameDayProcessor, active) if on else Processor

    async def begin(self) -> None:
        """Raises StoreUnavailableError."""
        await (self._follower.begin() if self.on else self._follower.ignore())

    async def step(self) -> None:
        """Raises StoreUnavailableError."""
        await self._follower.step()

    async def leave(self) -> None:
        if self.on:
            await self._follower.leave()

    def faults(self) -> Sequence[str]:
        """What is set here, a sentence each."""
        return [str(fault) for fault in self._follower.active.faults]

    def problems(self) -> Mapping[str, str]:
        """By component: what stands still because of a fault."""
        return {f"consumer {consumer}": why for consumer, why in self._follower.active.hanging.items()}
