"""What operators say of outages, and how it reaches the watches of every process.

Each process judges for itself. While anything fails in it, it looks into the database for what operators have said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orderflow.core.access import OPERATE
from orderflow.core.circuit_breaker import CircuitBreakers, OutageStanding
from orderflow.core.failures import Verdict
from orderflow.core.messages import Answer, Event, wire_name
from orderflow.core.operations.model import OVERRULE_HOLDS_MS, ConfirmationNeededError, NoSuchConsumerError, Overrule
from orderflow.core.operations.port import RecoveryStore
from orderflow.core.service import Service
from orderflow.core.store import Act
from orderflow.core.timing import Clock

LOOK_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Outage:
    """How failures of an event type stand at a consumer. `standing` None: nothing of it fails in this process.

    `overrule`: what an operator has said, if it still holds.
    """

    consumer: str
    event_type: str
    standing: OutageStanding | None
    overrule: Overrule | None


class Overruling:
    """One a process. `breakers` gives what is known of outages at one of the `consumers`."""

    def __init__(
        self,
        service: Service,
        consumers: Sequence[str],
        breakers: Callable[[str], CircuitBreakers],
        store: RecoveryStore,
        clock: Clock,
    ) -> None:
        self.consumers = tuple(consumers)
        self._service = service
        self._breakers = breakers
        self._store = store
        self._clock = clock

    async def step(self) -> None:
        """Wait a moment, and look if there is anything to overrule. Raises StoreUnavailableError."""
        await self._clock.sleep(LOOK_EVERY_S)
        if any(self._breakers(consumer).is_troubled for consumer in self.consumers):
            await self._look()
        else:
            self._follow(())

    async def outages(self) -> Sequence[Outage]:
        """What this process judges or doubts, and what operators have said. Raises StoreUnavailableError."""
        said = {(each.consumer, each.event_type): each for each in await self._look()}
        found = {
            (consumer, standing.event_type): standing
            for consumer in self.consumers
            for standing in self._breakers(consumer).standings()
        }
        return [Outage(*name, found.get(name), said.get(name)) for name in sorted({*said, *found})]

    async def overrule(self, consumer: str, event_type: str, verdict: Verdict, act: Act) -> Overrule:
        """From now on, and for OVERRULE_HOLDS_MS, failures of the type are taken for that. `event_type` is a wire
        name, the name without its version, or its last part.

        Raises ForbiddenError, NoSuchConsumerError, ConfirmationNeededError, StoreUnavailableError.
        """
        OPERATE.require(act.caller)
        if not act.reason.strip():
            raise ConfirmationNeededError("This overrules a judgement: give a reason.")
        overrule = Overrule(consumer=consumer, event_type=self._type(consumer, event_type), verdict=verdict)
        held = round(OVERRULE_HOLDS_MS / 60_000)
        result = f"Failures of {overrule.event_type} count as {verdict} for {held} minutes."
        made = await self._store.overrule(overrule, act, result)
        await self._look()
        return made

    async def _look(self) -> Sequence[Overrule]:
        said = await self._store.overrules()
        self._follow(said)
        return said

    def _follow(self, said: Sequence[Overrule]) -> None:
        for consumer in self.consumers:
            verdicts = {each.event_type: each.verdict for each in said if each.consumer == consumer}
            self._breakers(consumer).overrule(verdicts)

    def _type(self, consumer: str, named: str) -> str:
        if consumer not in self.consumers:
            known = ", ".join(self.consumers)
            raise NoSuchConsumerError(f"The service {self._service.name} has no consumer {consumer!r}, only {known}.")
        types = [each for each in self._service.handlers if issubclass(each, Event | Answer)]
        for each in types:
            if named in (wire_name(each), each.TYPE, each.TYPE.rpartition(".")[2]):
                return wire_name(each)
        known = ", ".join(sorted(each.TYPE.rpartition(".")[2] for each in types))
        raise NoSuchConsumerError(f"The service {self._service.name} handles no event {named!r}, only {known}.")
