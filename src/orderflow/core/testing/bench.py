"""The kit for the author of a service: messages go in one at a time, and the test sees what each one leads to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from orderflow.core.access import PLATFORM, Caller
from orderflow.core.engine import EngineConfig, policy_of
from orderflow.core.envelopes import Incoming, from_answer, from_command, from_record, to_headers, with_time
from orderflow.core.identity import event_id, uuid7
from orderflow.core.messages import Answer, Command, Envelope, Event, encode
from orderflow.core.processor import Processor
from orderflow.core.service import Decision, Fact, Intent, Row, Rows, Service
from orderflow.core.store import OpenIntent
from orderflow.core.telemetry import Outcome, Signals
from orderflow.core.testing.state import MemoryDatabase
from orderflow.core.testing.store import MemoryStore
from orderflow.core.timing import SystemClock
from orderflow.core.transport import ConsumerRecord

SOURCE = "/bench"

R = TypeVar("R", bound=Row)
F = TypeVar("F", bound=Fact)


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one message: what was decided and stored, or why nothing was.

    `outcome` is "handled", "duplicate" (seen before), "ignored" (no decision handles it), "parked", "held" (behind a
    parked event of its key), "dead", "deferred" or, for a command, "refused". `error` is then the class and the text
    of what went wrong. `answer` is what the command's caller gets, also when it is refused.
    """

    outcome: Outcome
    events: Sequence[Event] = ()
    rows: Sequence[Row] = ()
    facts: Sequence[Fact] = ()
    intents: Sequence[Intent] = ()
    answer: object = None
    error: str = ""


class Bench:
    """A service over a database in memory: `Bench(SERVICE).send(event)`. Nothing has to be started, or to be awaited.

    A message takes the way that it takes in production: it is read from its bytes, recognised if it comes again,
    decided, and committed or parked. Nothing runs beside that: no relay, no retries, no gateway. What only SQL
    checks, such as a constraint in a migration, is not checked.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._clock = SystemClock()
        stepwise = [each for each in service.tables if issubclass(each, Row) and each.STEPWISE]
        self._database = MemoryDatabase(self._clock, stepwise=stepwise)
        self._chance = random.Random(1)  # noqa: S311  # the same ids and delays in every run
        policy = policy_of(EngineConfig(), self._chance)
        self._processor = Processor(service, MemoryStore(self._database), policy, Signals(()), self._clock)
        self._records: list[ConsumerRecord] = []

    def send(self, message: Event | Command | Answer, by: Caller = PLATFORM) -> Reaction:
        """An event as another service publishes it, a command of this caller, or the answer to the open intent.

        An equal event sent twice is two events; `redeliver` brings the same one again. Raises ForbiddenError (the
        caller may not give this command), and ValueError for what the service's declaration leaves out: a topic that
        it reads, the table of a row, the gateway. It raises ValueError too if an answer is to no open intent.
        """
        match message:
            case Event():
                return self._deliver(self._published(message))
            case Command():
                message.PERMISSION.require(by)
                incoming = from_command(message, SOURCE, None, uuid7(self._clock.wall_ms(), self._chance))
            case Answer():
                incoming = from_answer(message, self._asked(message), SOURCE)
            case _:
                raise TypeError(f"send takes an event, a command or an answer, not a {type(message).__name__}")
        return self._carry_in(self._service.name, incoming)

    def redeliver(self) -> Reaction:
        """The last event comes once more, as a log may bring it twice. Raises IndexError: there was none."""
        return self._deliver(self._records[-1])

    def row(self, row_type: type[R], row_id: Hashable) -> R | None:
        """The row as it is stored now, or None."""
        return Rows(self._database.state.rows).get(row_type, row_id)

    def facts(self, fact_type: type[F]) -> Sequence[F]:
        """All facts of a type that are stored, oldest first."""
        return [fact for fact in self._database.state.facts.values() if isinstance(fact, fact_type)]

    def _published(self, event: Event) -> ConsumerRecord:
        number = len(self._records)
        envelope = Envelope(
            id=event_id(SOURCE, event.TYPE, event.key, number + 1),
            message=event,
            source=SOURCE,
            key=event.key,
            sequence=number + 1,
        )
        record = record_of(envelope, event.TOPIC, number, self._clock.wall_ms())
        self._consumer_of(record.topic)
        self._records.append(record)
        return record

    def _deliver(self, record: ConsumerRecord) -> Reaction:
        return self._carry_in(self._consumer_of(record.topic), from_record(record, self._service.catalogue))

    def _carry_in(self, consumer: str, incoming: Incoming) -> Reaction:
        with ThreadPoolExecutor(max_workers=1) as apart:  # the test may have an event loop of its own
            (result,) = apart.submit(asyncio.run, self._processor.admit(consumer, [incoming])).result()
        decision = result.decision or Decision()
        for row in (*decision.rows, *decision.facts):
            if type(row) not in self._service.tables:
                raise ValueError(f"{type(row).__name__} is not in `tables` of {self._service.name}: add it there")
        if decision.intents and self._service.gateway is None:
            raise ValueError(f"{self._service.name} returned an intent, but has no `gateway` to ask it")
        error = ""
        if result.failure is not None:
            error = f"{result.failure.error}: {result.failure.message}"
        elif result.refusal is not None:
            error = f"{type(result.refusal).__name__}: {result.refusal}"
        return Reaction(
            outcome=result.outcome,
            events=tuple(decision.events),
            rows=tuple(decision.rows),
            facts=tuple(decision.facts),
            intents=tuple(decision.intents),
            answer=result.answer,
            error=error,
        )

    def _consumer_of(self, topic: str) -> str:
        for subscription in self._service.subscriptions:
            if topic in subscription.topics:
                return subscription.consumer
        read = ", ".join(self._service.reads)
        raise ValueError(f"{self._service.name} does not read {topic}; its subscriptions: {read or 'none'}")

    def _asked(self, answer: Answer) -> OpenIntent:
        found = [each.intent for each in self._database.state.intents.values() if each.intent.key == answer.key]
        if len(found) != 1:
            raise ValueError(f"{type(answer).__name__} answers one open intent of {answer.key}; open: {len(found)}")
        return found[0]


def record_of(envelope: Envelope, topic: str, offset: int, at_ms: int) -> ConsumerRecord:
    """An event of another service, as the log hands it out. `at_ms`: when it was stored, in ms since the epoch."""
    headers = with_time(to_headers(envelope), at_ms)
    return ConsumerRecord(topic, 0, offset, envelope.key.encode(), encode(envelope.message), headers)
