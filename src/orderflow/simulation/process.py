"""One simulated process: an engine with a store, a connection to the log, a bank and a clock of its own."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from orderflow.bank import (
    BankBook,
    BankFailedError,
    BankRefund,
    BankUnavailableError,
    Charge,
    MemoryBook,
    SimulatedBank,
)
from orderflow.core.access import PLATFORM
from orderflow.core.engine import Engine
from orderflow.core.messages import Command
from orderflow.core.service import Service
from orderflow.core.side_effects import Gateway
from orderflow.core.store import Store
from orderflow.core.telemetry import Signal, Signals
from orderflow.core.testing.state import MemoryDatabase
from orderflow.core.testing.store import MemoryStore
from orderflow.core.timing import Clock
from orderflow.core.transport import Transport
from orderflow.services.inventory.service import SERVICE as INVENTORY
from orderflow.services.notification.service import SERVICE as NOTIFICATION
from orderflow.services.order.service import SERVICE as ORDER
from orderflow.services.payment.service import SERVICE as PAYMENT
from orderflow.services.payment.service import BankGateway
from orderflow.simulation.log import TroubledConsumer, TroubledLog, TroubledTransport
from orderflow.simulation.loop import OWNER, VirtualClock, VirtualLoop, seeded
from orderflow.simulation.model import Model
from orderflow.simulation.plan import WorldPlan


class TroubledBook(MemoryBook):
    """`hop` is awaited before and after each booking; it may raise the bank's errors. `away`: nobody answers.
    `mute` is the share of answers that are lost after the booking; half as many calls fail before it. `told` hears of
    each booking.
    """

    def __init__(self, hop: Callable[[str], Awaitable[None]], rng: random.Random, told: Model) -> None:
        super().__init__()
        self._told = told
        self.away = False
        self.mute = 0.0
        self._rng = rng
        self._hop = hop

    async def charge(self, charge: Charge) -> Charge:
        await self._reach("charge")
        known = charge.key in self.charges
        booked = await super().charge(charge)
        if not known:
            self._told.charge(
                booked.key, booked.order_id, booked.amount, booked.currency, booked.decline_code is not None
            )
        await self._answer("charged")
        return booked

    async def refund(self, refund: BankRefund) -> BankRefund | None:
        await self._reach("refund")
        known = refund.key in self.refunds
        booked = await super().refund(refund)
        if booked is not None and not known:
            self._told.refund(booked.key, booked.order_id, booked.amount, booked.currency)
        await self._answer("refunded")
        return booked

    async def count_call(self, key: str) -> int:
        await self._reach("count_call")
        return await super().count_call(key)

    async def _reach(self, step: str) -> None:
        await self._hop(step)
        if self.away:
            raise BankUnavailableError("the bank does not answer")
        if self._rng.random() < self.mute / 2:
            raise BankFailedError("the bank has a fault of its own, and has booked nothing")

    async def _answer(self, step: str) -> None:
        await self._hop(step)
        if self._rng.random() < self.mute:
            raise bank_error(step)


def bank_error(step: str) -> Exception:
    """What a broken call looks like: before the booking nothing was asked, after it nothing is known."""
    if step in ("charged", "refunded"):
        return BankFailedError("the bank's answer was lost")
    return BankUnavailableError("the bank was not reached")


SUBSTITUTES: Mapping[type, type] = MappingProxyType(
    {
        Transport: TroubledTransport,
        Store: MemoryStore,
        Clock: VirtualClock,
        random.Random: random.Random,
        BankBook: TroubledBook,
    }
)
"""Port → what stands in for it. Everything else that runs is what runs in production."""


@dataclass(frozen=True, slots=True)
class Code:
    """What is simulated: the production code, unless a test plants a bug."""

    services: Mapping[str, Service] = field(
        default_factory=lambda: {service.name: service for service in (ORDER, PAYMENT, INVENTORY, NOTIFICATION)}
    )
    engine: type[Engine] = Engine


BANK_SLOW_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Habitat:
    """What a process finds. `step` is the gate of every port, `cut` says where an append breaks off, `told`
    hears every signal with the name of who gave it.
    """

    plan: WorldPlan
    code: Code
    loop: VirtualLoop
    databases: Mapping[str, MemoryDatabase]
    log: TroubledLog
    bank: TroubledBook
    step: Callable[[str], Awaitable[None]]
    cut: Callable[[int], int | None]
    told: Callable[[str, Signal], None]


class Process:
    """A process from its start to its death; a restart makes a new one."""

    def __init__(self, habitat: Habitat, service: str, name: str, life: int) -> None:
        self.service = service
        self.name = name
        self.alive = True
        self.at = ""
        """The step that it passed last."""
        self.rng = seeded(habitat.plan.seed, f"{name} {life}")
        self._habitat = habitat
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, self)
        self._context.run(self._boot)

    def spawn(self, command: Command) -> asyncio.Task[object]:
        """Submit a command in this process."""
        return self.carry_out(lambda engine: engine.submit(command, PLATFORM))

    def carry_out(self, work: Callable[[Engine], Coroutine[Any, Any, object]]) -> asyncio.Task[object]:
        """Do something in this process, as a request to it would."""
        return self._habitat.loop.create_task(work(self._engine), context=self._context.copy())

    def problems(self) -> list[str]:
        """What its health says that hinders it."""
        return [f"{component}: {problem}" for component, problem in self._engine.health().problems.items()]

    def jump(self, by_ms: int) -> None:
        """Its wall clock is set."""
        self._clock.jump(by_ms)

    async def drain(self) -> None:
        """End in good order, as SIGTERM does; who is killed meanwhile never finishes."""
        work = self._engine.drain(self._habitat.plan.drain_s)
        task = self._habitat.loop.create_task(work, context=self._context.copy())
        await asyncio.wait([task], timeout=2 * self._habitat.plan.drain_s)

    def die(self) -> None:
        """Nothing of this process runs any more; its connections are lost, its memberships time out."""
        self.alive = False
        self._habitat.loop.cancel_all(self)
        self._store.crash()
        for member in self._transport.members:
            member.stop_heartbeats()

    def stall(self) -> None:
        """Its heartbeats stop, as in a long pause; it does not know."""
        for member in self._transport.members:
            member.stop_heartbeats()

    def consumers(self) -> Mapping[str, TroubledConsumer]:
        """Its present members, by group."""
        return {member.group: member for member in self._transport.members}

    def _boot(self) -> None:
        habitat, plan = self._habitat, self._habitat.plan
        clock = self._clock = VirtualClock(habitat.loop, self.rng.randint(-plan.skew_ms, plan.skew_ms))
        self._store = MemoryStore(
            habitat.databases[self.service],
            slots=plan.config.outbox_slots,
            longest_wait_ms=plan.config.longest_wait_ms,
        )
        self._transport = TroubledTransport(
            habitat.log, hop=habitat.step, cut=habitat.cut, commit_late=plan.commit_late
        )
        self._engine: Engine = habitat.code.engine(
            habitat.code.services[self.service],
            self._store,
            self._transport,
            gateway=self._gateway(clock),
            signals=Signals([lambda signal: habitat.told(self.name, signal)]),
            clock=clock,
            rng=self.rng,
            config=plan.config,
        )
        self._engine.start()

    def _gateway(self, clock: VirtualClock) -> Gateway | None:
        if self.service != "payment":
            return None
        bank = SimulatedBank(self._habitat.bank, clock, slow_s=BANK_SLOW_S)
        return BankGateway(bank, self._habitat.plan.bank_timeout_s)
