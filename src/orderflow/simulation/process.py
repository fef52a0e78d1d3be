"""One simulated process: a service's engine with a store, a connection to the log and a clock of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from orderflow.bank.bank import SimulatedBank
from orderflow.messaging.engine import Engine
from orderflow.messaging.message import Command
from orderflow.messaging.side_effects import Gateway
from orderflow.messaging.signals import Signal, Signals
from orderflow.messaging.stores.memory.database import MemoryDatabase
from orderflow.messaging.stores.memory.store import MemoryStore
from orderflow.payment.service import BankGateway
from orderflow.simulation.bank import TroubledBook
from orderflow.simulation.chance import seeded
from orderflow.simulation.clock import VirtualClock
from orderflow.simulation.code import Code
from orderflow.simulation.log import TroubledConsumer, TroubledLog, TroubledTransport
from orderflow.simulation.loop import OWNER, VirtualLoop
from orderflow.simulation.plan import Plan

BANK_SLOW_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Habitat:
    """What a process finds. `step` is the gate of every port, `cut` says where an append breaks off, `told`
    hears every signal with the name of who gave it.
    """

    plan: Plan
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
        self.chance = seeded(habitat.plan.seed, f"{name} {life}")
        self._habitat = habitat
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, self)
        self._context.run(self._boot)

    def spawn(self, command: Command) -> asyncio.Task[object]:
        """Submit a command in this process."""
        return self.carry_out(lambda engine: engine.submit(command))

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
        clock = self._clock = VirtualClock(habitat.loop, self.chance.randint(-plan.skew_ms, plan.skew_ms))
        self._store = MemoryStore(
            habitat.databases[self.service],
            slots=plan.config.outbox_slots,
            longest_wait_ms=plan.config.longest_wait_ms,
        )
        self._transport = TroubledTransport(
            habitat.log, hop=habitat.step, cut=habitat.cut, settle_late=plan.settle_late
        )
        self._engine: Engine = habitat.code.engine(
            habitat.code.services[self.service],
            self._store,
            self._transport,
            gateway=self._gateway(clock),
            signals=Signals([lambda signal: habitat.told(self.name, signal)]),
            clock=clock,
            chance=self.chance,
            config=plan.config,
        )
        self._engine.start()

    def _gateway(self, clock: VirtualClock) -> Gateway | None:
        if self.service != "payment":
            return None
        bank = SimulatedBank(self._habitat.bank, clock, slow_s=BANK_SLOW_S)
        return BankGateway(bank, self._habitat.plan.bank_timeout_s)
