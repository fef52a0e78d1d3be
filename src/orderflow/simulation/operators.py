"""Operators at work: they rehearse, replay, edit, discard, settle and republish through the services, while orders
flow and faults happen; and in the end they look after whatever was given up.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from uuid import UUID

from orderflow.core.access import PLATFORM
from orderflow.core.engine import Engine
from orderflow.core.inbox import InboxState
from orderflow.core.messages import Command
from orderflow.core.operations.model import LetterFilter, ReplayPlan
from orderflow.core.store import Act, OutboxFilter
from orderflow.core.testing.state import KeptEvent
from orderflow.services.payment.messages import SettlementOutcome, SettlePayment
from orderflow.simulation.loop import seeded
from orderflow.simulation.world import REHEARSING, World

ANSWER_WITHIN_S = 5.0
ROUNDS_MAX = 12
SETTLE_LOOKS = 40
LOOK_EVERY_S = 0.05
ROUND_S = 2.0
ACT = Act(caller=PLATFORM, reason="it was looked at", confirmed=True)


class Operators:
    """They act on what they see, and do nothing that would be wrong: no event of ours is discarded, and a charge is
    settled as the bank has it.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = seeded(world.plan.seed, "operators")

    async def act(self) -> None:
        """One act at one service."""
        service = self._rng.choice(list(self._world.databases))
        acts = [self._rehearse, self._replay, self._edit, self._discard, self._settle, self._settle, self._republish]
        await self._rng.choice(acts)(service)

    async def look_after_all(self) -> None:
        """Replay everything; then give up what is not ours, and replay the rest until nothing is dead."""
        await self._settle_refunds()
        for number in range(ROUNDS_MAX):
            dead = [name for name in self._world.databases if self._dead(name)]
            if not dead and self._world.at_rest():
                return
            for name in dead:
                if number:
                    await self._discard(name)
                await self._replay(name)
            await asyncio.sleep(ROUND_S)
        for name in self._world.databases:
            for waiting in self._dead(name):
                event = waiting.event
                self._world.defects.append(
                    f"replayed, and still dead at {waiting.consumer}: {event.event_type} of {event.key}"
                )

    async def _rehearse(self, service: str) -> None:
        async def rehearse(engine: Engine) -> object:
            REHEARSING.set(True)
            return await engine.recovery.rehearse(LetterFilter(state=None))

        await self._ask(service, rehearse)

    async def _replay(self, service: str) -> None:
        plan = ReplayPlan(canary=self._rng.random() < 0.3, failing_share_max=1.0, lag_growth_max=None)
        await self._ask(service, lambda engine: engine.recovery.replay(LetterFilter(), plan, ACT))

    async def _edit(self, service: str) -> None:
        """The same in other bytes: what the event says is right as it is."""
        ours = [each.event for each in self._dead(service) if self._is_ours(each) and each.event.intent is None]
        if ours:
            event = self._rng.choice(ours)
            value = b" " + (event.record.value or b"")
            await self._ask(service, lambda engine: engine.recovery.edit(event.event_id, value, ACT))

    async def _discard(self, service: str) -> None:
        for waiting in self._dead(service):
            if not self._is_ours(waiting):
                await self._ask(service, partial(_discard, waiting.event.event_id))

    async def _settle(self, _service: str) -> None:
        """Only what the bank has decided is told: it is right, whatever the bank's answer becomes of."""
        charges = undecided = list(self._world.bank.charges.values())
        for _ in range(SETTLE_LOOKS):
            charges = list(self._world.bank.charges.values())
            undecided = [charge for charge in charges if self._world.model.is_asked_for(charge.order_id)]
            if undecided:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        for charge in undecided or charges:
            outcome = SettlementOutcome.CHARGED if charge.decline_code is None else SettlementOutcome.NOT_CHARGED
            command = SettlePayment(order_id=UUID(charge.order_id), outcome=outcome)
            await self._ask("payment", partial(_submit, command))
        await self._settle_refunds()

    async def _settle_refunds(self) -> None:
        """What the bank will not give back is asked for once more, or given back in another way."""
        payments = self._world.model.payments.items()
        for order_id in [order_id for order_id, payment in payments if payment.status == "REFUND_REFUSED"]:
            outcome = self._rng.choice((SettlementOutcome.ASK_AGAIN, SettlementOutcome.REFUNDED))
            if outcome is SettlementOutcome.REFUNDED:
                self._world.model.by_word.add(order_id)
            await self._ask("payment", partial(_submit, SettlePayment(order_id=UUID(order_id), outcome=outcome)))

    async def _republish(self, service: str) -> None:
        await self._ask(service, lambda engine: engine.recovery.republish(OutboxFilter(), ACT))

    def _dead(self, service: str) -> list[KeptEvent]:
        parked = self._world.databases[service].state.parked.values()
        return [waiting for waiting in parked if waiting.event.state is InboxState.DEAD]

    def _is_ours(self, waiting: KeptEvent) -> bool:
        """A service has published it, or it is an answer of the bank, or an edit of either."""
        state = self._world.databases_of(waiting.consumer).state
        event = state.originals.get(waiting.event.position, waiting.event)
        return not event.record.topic or self._world.protocol.is_genuine(str(event.event_id))

    async def _ask(self, service: str, work: Callable[[Engine], Coroutine[Any, Any, object]]) -> None:
        """What is refused or fails is left at that: an operator looks again."""
        process = self._world.some_process(service)
        if process is None:
            return
        self._world.note("operator", f"asks {process.name}")
        task = contextvars.copy_context().run(process.carry_out, work)
        await asyncio.wait([task], timeout=ANSWER_WITHIN_S)
        if task.done() and not task.cancelled() and task.exception() is not None:
            self._world.note("operator", f"hears {task.exception()!r}")


async def _discard(event_id: UUID, engine: Engine) -> object:
    await engine.recovery.discard(event_id, ACT)
    return None


async def _submit(command: Command, engine: Engine) -> object:
    return await engine.submit(command, PLATFORM)
