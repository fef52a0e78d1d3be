"""The pure heart of the way in: decisions folded over a batch, giving all that is to be written.

No I/O happens here. A rehearsal, a simulation and the real thing run exactly this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orderflow.messaging.decision import Decision, RefusedError, Service
from orderflow.messaging.failures import InfrastructureError, describe
from orderflow.messaging.handling import encoded, handler_of, intent_of, passed_over
from orderflow.messaging.inbox import InboxState
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.notes import close_intent, finish, mark, release
from orderflow.messaging.parking import Parking
from orderflow.messaging.policy import FREE, Policy, Terms
from orderflow.messaging.publisher import Publisher
from orderflow.messaging.result import Result
from orderflow.messaging.rows import Rows
from orderflow.messaging.signals import Outcome
from orderflow.messaging.store import Act, Changes, OpenIntent, Snapshot
from orderflow.messaging.transport import ConsumerRecord

FINAL = (InboxState.DONE, InboxState.DISCARDED)


class Fold:
    """One batch: `take` each message in order; `changes` is then what to write.

    `failures` are messages (by name) that have failed outside of their decision: they fail here again.
    """

    def __init__(
        self,
        service: Service,
        consumer: str,
        snapshot: Snapshot,
        policy: Policy,
        failures: Mapping[tuple[str, str], Exception],
        terms: Terms = FREE,
    ) -> None:
        self.changes = Changes(consumer=consumer, existing=frozenset(snapshot.rows), lease_ms=policy.lease_ms)
        self._service = service
        self._source = f"/orderflow/{service.name}"
        self._working = dict(snapshot.rows)
        self._rows = Rows(self._working)
        self._policy = policy
        self._failures = failures
        self._holding = terms.holding
        self._publisher = Publisher(snapshot.emitted, policy.slots, self.changes)
        self._parking = Parking(service.name, self._source, snapshot, policy, terms, self._publisher, self.changes)
        self._known = snapshot.known
        self._seen = set(snapshot.known)
        self._done: set[tuple[str, str]] = set()

    def take(self, incoming: Incoming) -> Result:
        """What becomes of the next message. Raises InfrastructureError; then nothing of the batch may be written."""
        record, parking = incoming.record, self._parking
        if record is None:
            return self._decide(incoming)
        if incoming.parked is not None:
            settled = self._settled(incoming)
            if settled is not None:
                return settled
        elif passed_over(self._service, incoming):
            return Result(incoming, Outcome.PASSED)
        elif incoming.name in self._seen:
            return Result(incoming, Outcome.DUPLICATE)
        elif incoming.key in parking.deferred:
            return parking.defer(incoming)
        elif self._holding or incoming.key in parking.closed:
            return self._hold(incoming, record)
        self._seen.add(incoming.name)
        if incoming.problem is not None:
            return parking.bury(incoming, record, describe(incoming.problem))
        return self._decide(incoming)

    def discard(self, incoming: Incoming, act: Act) -> Result:
        """Give a parked message up for good: it is never handled, and the next of its key comes to the front."""
        self.changes.discarding = act
        finish(self.changes, incoming, InboxState.DISCARDED)
        return Result(incoming, Outcome.PASSED)

    def reopen(self, last: Incoming) -> None:
        """Say that the key of `last` has nothing parked any more."""
        self._parking.reopen(last)

    def _settled(self, parked: Incoming) -> Result | None:
        """What became of a parked message that is not decided over again."""
        if parked.key in self._parking.stuck:
            return Result(parked, Outcome.HELD)
        if self._is_done(parked):
            return self._drop(parked)
        if passed_over(self._service, parked):
            self._finish(parked)
            return Result(parked, Outcome.PASSED)
        return None

    def _decide(self, incoming: Incoming) -> Result:
        envelope = incoming.envelope
        assert envelope is not None
        if self._failures and incoming.name in self._failures:
            return self._refuse(incoming, self._failures[incoming.name])
        try:
            decision = handler_of(self._service, envelope.message).decide(self._rows, envelope)
            values = encoded(decision, incoming)
            refs = [row.ref for row in decision.rows]
        except InfrastructureError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a decision raises is the message's failure, not ours
            return self._refuse(incoming, error)
        self._working.update(zip(refs, decision.rows, strict=True))
        self._apply(decision, values, incoming)
        answer, caused = decision.answer, decision.events
        return Result(incoming, Outcome.HANDLED, answer=answer, caused=caused, decision=decision)

    def _refuse(self, incoming: Incoming, error: Exception) -> Result:
        """A command's caller is told; anything else is parked or given up."""
        if incoming.record is not None:
            return self._parking.fail(incoming, incoming.record, error)
        if isinstance(error, RefusedError):
            return Result(incoming, Outcome.REFUSED, answer=error.answer, refusal=error)
        return Result(incoming, Outcome.REFUSED, refusal=error, failure=describe(error))

    def _apply(self, decision: Decision, values: Sequence[bytes], incoming: Incoming) -> None:
        self.changes.rows.extend(decision.rows)
        self.changes.facts.extend(decision.facts)
        for event, value in zip(decision.events, values, strict=True):
            self._publisher.publish(event, value, self._source, incoming)
        self._settle_intents(decision, incoming)
        if incoming.record is not None:
            self._finish(incoming)

    def _hold(self, incoming: Incoming, record: ConsumerRecord) -> Result:
        self._seen.add(incoming.name)
        return self._parking.hold(incoming, record)

    def _finish(self, incoming: Incoming) -> None:
        finish(self.changes, incoming, InboxState.DONE)
        if incoming.parked is not None:
            self._done.update(incoming.names)

    def _is_done(self, incoming: Incoming) -> bool:
        """A parked event may have been handled under its own identity, before it or as a copy behind it."""
        return any(self._known.get(name) in FINAL or name in self._done for name in incoming.names)

    def _drop(self, incoming: Incoming) -> Result:
        if self._known.get(incoming.name) not in FINAL and incoming.name not in self._done:
            mark(self.changes, incoming, InboxState.DONE)
            self._done.add(incoming.name)
        release(self.changes, incoming)
        return Result(incoming, Outcome.DUPLICATE)

    def _close(self, intents: Sequence[str]) -> None:
        """Close these, also if they were opened or postponed just before in this batch."""
        changes = self.changes
        changes.opened = [each for each in changes.opened if each.intent.key not in intents]
        changes.postponed = [each for each in changes.postponed if each.intent.key not in intents]
        changes.closed_intents.extend(intents)

    def _settle_intents(self, decision: Decision, incoming: Incoming) -> None:
        """Open new intents; the one that was answered is closed, unless the decision asks it again."""
        envelope = incoming.envelope
        assert envelope is not None
        if not decision.intents and not decision.closes and intent_of(incoming) is None:
            return
        if envelope.intent not in [intent.key for intent in decision.intents]:
            close_intent(self.changes, incoming)
        if decision.closes:
            self._close(decision.closes)
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
