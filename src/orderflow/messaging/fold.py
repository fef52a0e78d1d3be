"""The pure heart of the way in: decisions folded over a batch, giving all that is to be written.

No I/O happens here. A rehearsal, a simulation and the real thing run exactly this.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from orderflow.messaging.dead_letters import dead_letter
from orderflow.messaging.decision import Decision, RefusedError, Service
from orderflow.messaging.failures import describe
from orderflow.messaging.flow import FLOW_STATUS, Dead, FlowEvent, Parked, Reopened
from orderflow.messaging.handling import attempts_of, encoded, handler_of, intent_of, passed_over
from orderflow.messaging.inbox import Failure, InboxEntry, InboxState, ParkedEvent
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.message import Event
from orderflow.messaging.publisher import Publisher
from orderflow.messaging.retry import Backoff, RetryPolicy
from orderflow.messaging.rows import Ref, Row, Rows
from orderflow.messaging.signals import Outcome
from orderflow.messaging.store import Changes, OpenIntent, Recognition
from orderflow.messaging.transport import ConsumerRecord


@dataclass(frozen=True, slots=True)
class Policy:
    """What a fold needs to know besides its batch."""

    retry: RetryPolicy
    ask_again: Backoff
    chance: random.Random
    slots: int
    lease_ms: int
    release: str


class Result(msgspec.Struct, frozen=True):
    """What became of one message. `answer` and `refusal` are for a command's caller, `decision` if it was handled."""

    incoming: Incoming
    outcome: Outcome
    answer: object = None
    caused: Sequence[Event] = ()
    failure: Failure | None = None
    refusal: Exception | None = None
    attempts: int = 0
    decision: Decision | None = None


class Fold:
    """One batch: `take` each message in order; `changes` is then what to write.

    `failures` are messages (by name) that have failed outside of their decision: they fail here again.
    """

    def __init__(
        self,
        service: Service,
        consumer: str,
        recognition: Recognition,
        working: dict[Ref, Row],
        policy: Policy,
        failures: Mapping[tuple[str, str], Exception],
    ) -> None:
        self.changes = Changes(consumer=consumer, existing=frozenset(working), lease_ms=policy.lease_ms)
        self._service = service
        self._source = f"/orderflow/{service.name}"
        self._consumer = consumer
        self._working = working
        self._policy = policy
        self._failures = failures
        self._publisher = Publisher(recognition.emitted, policy.slots, self.changes)
        self._seen = set(recognition.known)
        self._closed = set(recognition.closed)
        self._failed: set[str] = set()

    def take(self, incoming: Incoming) -> Result:
        if incoming.record is None:
            return self._decide(incoming)
        if incoming.parked is not None:
            if incoming.key in self._failed:
                return Result(incoming, Outcome.HELD)
        elif passed_over(self._service, incoming):
            return Result(incoming, Outcome.PASSED)
        elif incoming.name in self._seen:
            return Result(incoming, Outcome.DUPLICATE)
        elif incoming.key in self._closed:
            return self._hold(incoming, incoming.record)
        self._seen.add(incoming.name)
        if incoming.problem is not None:
            failure = describe(incoming.problem)
            return self._bury(incoming, incoming.record, failure, attempts_of(incoming) + 1)
        if passed_over(self._service, incoming):
            self._mark(incoming, InboxState.DONE)
            self._release(incoming)
            return Result(incoming, Outcome.PASSED)
        return self._decide(incoming)

    def discard(self, incoming: Incoming) -> None:
        """Give a parked message up for good: it is never handled, and the next of its key comes to the front."""
        self._mark(incoming, InboxState.DISCARDED)
        self._release(incoming)

    def reopen(self, last: Incoming) -> None:
        """Say that the key of `last` has nothing parked any more."""
        self._flow(Reopened, last, {})

    def _decide(self, incoming: Incoming) -> Result:
        envelope = incoming.envelope
        assert envelope is not None
        if incoming.name in self._failures:
            return self._refuse(incoming, self._failures[incoming.name])
        try:
            decision = handler_of(self._service, envelope.message).decide(Rows(self._working), envelope)
            values = encoded(decision, incoming)
        except Exception as error:  # noqa: BLE001  # whatever a decision raises is the message's failure, not ours
            return self._refuse(incoming, error)
        self._apply(decision, values, incoming)
        answer, caused = decision.answer, decision.events
        return Result(incoming, Outcome.HANDLED, answer=answer, caused=caused, decision=decision)

    def _refuse(self, incoming: Incoming, error: Exception) -> Result:
        """A command's caller is told; anything else is parked or given up."""
        if incoming.record is not None:
            return self._fail(incoming, incoming.record, error)
        if isinstance(error, RefusedError):
            return Result(incoming, Outcome.REFUSED, answer=error.answer, refusal=error)
        return Result(incoming, Outcome.REFUSED, refusal=error, failure=describe(error))

    def _apply(self, decision: Decision, values: Sequence[bytes], incoming: Incoming) -> None:
        for row in decision.rows:
            self._working[row.ref] = row
        self.changes.rows.extend(decision.rows)
        self.changes.facts.extend(decision.facts)
        for event, value in zip(decision.events, values, strict=True):
            self._publisher.publish(event, value, self._source, incoming)
        self._settle_intents(decision, incoming)
        if incoming.record is not None:
            self._mark(incoming, InboxState.DONE)
        self._release(incoming)

    def _fail(self, incoming: Incoming, record: ConsumerRecord, error: Exception) -> Result:
        """Park the message for another try, or give it up."""
        attempts = attempts_of(incoming) + 1
        failure = describe(error)
        delay = self._policy.retry.again_in_ms(attempts, self._policy.chance)
        if delay is None:
            return self._bury(incoming, record, failure, attempts)
        self._park(incoming, record, InboxState.PARKED, attempts, failure, delay)
        if attempts == 1:
            self._flow(Parked, incoming, {"error": failure.error})
        return Result(incoming, Outcome.PARKED, failure=failure, attempts=attempts)

    def _bury(self, incoming: Incoming, record: ConsumerRecord, failure: Failure, attempts: int) -> Result:
        self._park(incoming, record, InboxState.DEAD, attempts, failure, 0)
        if record.topic:
            policy = self._policy
            letter = dead_letter(incoming, record, failure, attempts, self._consumer, policy.slots, policy.release)
            self.changes.outbox.append(letter)
        self._flow(Dead, incoming, {"error": failure.error, "attempts": attempts})
        return Result(incoming, Outcome.DEAD, failure=failure, attempts=attempts)

    def _hold(self, incoming: Incoming, record: ConsumerRecord) -> Result:
        self._park(incoming, record, InboxState.PARKED, 0, None, 0)
        return Result(incoming, Outcome.HELD)

    def _park(
        self,
        incoming: Incoming,
        record: ConsumerRecord,
        state: InboxState,
        attempts: int,
        failure: Failure | None,
        delay_ms: int,
    ) -> None:
        event = ParkedEvent(
            key=incoming.key,
            identity=incoming.identity,
            event_id=incoming.event_id,
            event_type=incoming.event_type,
            record=record,
            state=state,
            attempts=attempts,
            failure=failure,
            delay_ms=delay_ms,
            intent=intent_of(incoming),
        )
        if incoming.parked is None:
            self._close_intent(incoming)
            self.changes.parked.append(event)
        else:
            self.changes.reparked.append(replace(event, position=incoming.parked.position))
        if attempts:
            self._failed.add(incoming.key)
        self._closed.add(incoming.key)
        self._mark(incoming, state)

    def _release(self, incoming: Incoming) -> None:
        if incoming.parked is not None:
            self.changes.released.append(incoming.parked.position)

    def _mark(self, incoming: Incoming, state: InboxState) -> None:
        entry = InboxEntry(incoming.key, incoming.identity, incoming.event_id, state)
        self.changes.inbox.append(entry)

    def _close_intent(self, incoming: Incoming) -> None:
        intent = intent_of(incoming)
        if intent is not None:
            self.changes.closed_intents.append(intent)

    def _settle_intents(self, decision: Decision, incoming: Incoming) -> None:
        """Open new intents; the one that was answered is closed, unless the decision asks it again."""
        envelope = incoming.envelope
        assert envelope is not None
        if envelope.intent not in [intent.key for intent in decision.intents]:
            self._close_intent(incoming)
        for intent in decision.intents:
            again = intent.key == envelope.intent
            attempts = incoming.asked + 1 if again else 0
            delay = self._policy.ask_again.delay_ms(attempts, self._policy.chance) if again else 0
            target = self.changes.postponed if again else self.changes.opened
            target.append(
                OpenIntent(
                    intent=intent,
                    key=incoming.key,
                    cause=envelope.id,
                    traceparent=envelope.traceparent,
                    attempts=attempts,
                    delay_ms=delay,
                )
            )

    def _flow(self, event_type: type[FlowEvent], incoming: Incoming, facts: dict[str, Any]) -> None:
        """Say what is stuck. A reader of these notices does not give notice of itself: it would be its own reader."""
        if incoming.record is not None and incoming.record.topic == FLOW_STATUS:
            return
        event = event_type(
            subject_key=incoming.key,
            consumer=self._consumer,
            event_id=str(incoming.event_id),
            event_type=incoming.event_type,
            **facts,
        )
        self._publisher.publish(event, msgspec.json.encode(event), f"{self._source}/flow", incoming)
