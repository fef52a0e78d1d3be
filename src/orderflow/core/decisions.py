"""The pure heart: applies a service's decisions to a batch, message by message, and collects what to write.

No I/O happens here: production, rehearsals and the simulation run exactly this code. A message is decided, and the
events that it causes are numbered per key; or it fails, is held behind an event that failed, is given up as dead, or
is deferred, which writes nothing.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from orderflow.core import identity
from orderflow.core.dead_letters import FLOW_STATUS, Dead, FlowEvent, Parked, Reopened, dead_letter
from orderflow.core.envelopes import Incoming, Result, to_headers, to_park
from orderflow.core.failures import PERMANENT, InfrastructureError, describe
from orderflow.core.inbox import Failure, InboxEntry, InboxState, ParkedEvent
from orderflow.core.messages import Command, Envelope, Event, Message, encode
from orderflow.core.retry import Backoff, RetryPolicy
from orderflow.core.service import Decision, Handler, RefusedError, Rows, Service
from orderflow.core.store import Act, Changes, LogEntry, OpenIntent, OutboxRecord, Snapshot, Store
from orderflow.core.telemetry import Outcome
from orderflow.core.timing import Clock
from orderflow.core.transport import ConsumerRecord


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decisions depend on; the same for every batch of a process. `release` is the code's version.

    `away` is the back-off between two tries when the message is not to blame.
    """

    retry: RetryPolicy
    away: Backoff
    ask_again: Backoff
    rng: random.Random
    slots: int
    lease_ms: int
    release: str
    parked_keys_max: int
    parked_depth_max: int


class Terms(msgspec.Struct, frozen=True):
    """How to treat the failures of one batch.

    An event that fails is deferred instead of parked if its type is in `paused`. It uses up no attempt if its name is
    in `doubtful`, because the event may not be to blame. With `holding` every event is parked without a try. At most
    `keys_left` more keys are parked, and at most `depth_max` events of one key; events beyond that are deferred.
    """

    paused: AbstractSet[str] = frozenset()
    doubtful: AbstractSet[tuple[str, str]] = frozenset()
    holding: bool = False
    keys_left: int = sys.maxsize
    depth_max: int = sys.maxsize


FREE = Terms()
FINAL = (InboxState.DONE, InboxState.DISCARDED)


class BatchHandler:
    """Decides one batch: `take` each message in order; then `changes` has all that is to be written.

    `failures` maps names of messages to errors from outside their decisions: these messages fail undecided.
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
        self._outbox = OutboxWriter(snapshot.emitted, policy.slots, self.changes)
        self._parking = Parking(service.name, self._source, snapshot, policy, terms, self._outbox, self.changes)
        self._known = snapshot.known
        self._seen = set(snapshot.known)
        self._done: set[tuple[str, str]] = set()

    def take(self, incoming: Incoming) -> Result:
        """Decide the next message. Raises InfrastructureError; then nothing of the batch may be written."""
        record, parking = incoming.record, self._parking
        if record is None:
            return self._decide(incoming)
        name = incoming.name
        if incoming.parked is not None:
            result = self._without_deciding(incoming)
            if result is not None:
                return result
        elif is_ignored(self._service, incoming):
            return Result(incoming, Outcome.IGNORED)
        elif name in self._seen:
            return Result(incoming, Outcome.DUPLICATE)
        elif incoming.key in parking.deferred:
            return parking.defer(incoming)
        elif self._holding or incoming.key in parking.closed:
            return self._hold(incoming, record)
        self._seen.add(name)
        if incoming.problem is not None:
            return parking.bury(incoming, record, describe(incoming.problem))
        return self._decide(incoming)

    def discard(self, incoming: Incoming, act: Act) -> Result:
        """Discard a parked message: it is never handled, and the next of its key becomes the head."""
        self.changes.discarding = act
        finish(self.changes, incoming, InboxState.DISCARDED)
        return Result(incoming, Outcome.IGNORED)

    def reopen(self, last: Incoming) -> None:
        """Publish that nothing is parked of the key of `last` any more."""
        self._parking.reopen(last)

    def _without_deciding(self, parked: Incoming) -> Result | None:
        """The result of a parked message that need not be decided; None if it has to be."""
        if parked.key in self._parking.stuck:
            return Result(parked, Outcome.HELD)
        if self._is_done(parked):
            return self._drop(parked)
        if is_ignored(self._service, parked):
            self._finish(parked)
            return Result(parked, Outcome.IGNORED)
        return None

    def _decide(self, incoming: Incoming) -> Result:
        envelope = incoming.envelope
        assert envelope is not None
        if self._failures and incoming.name in self._failures:
            return self._refuse(incoming, self._failures[incoming.name])
        try:
            decision = handler_of(self._service, envelope.message).decide(self._rows, envelope)
            values = encoded(decision, incoming, self._service.publishes)
            refs = [row.ref for row in decision.rows]
        except InfrastructureError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a decision raises is a failure of its message
            return self._refuse(incoming, error)
        self._working.update(zip(refs, decision.rows, strict=True))
        self._apply(decision, values, incoming)
        answer, caused = decision.answer, decision.events
        return Result(incoming, Outcome.HANDLED, answer=answer, caused=caused, decision=decision)

    def _refuse(self, incoming: Incoming, error: Exception) -> Result:
        """A command is refused; any other message is parked or given up."""
        if incoming.record is not None:
            return self._parking.fail(incoming, incoming.record, error)
        if isinstance(error, RefusedError):
            return Result(incoming, Outcome.REFUSED, answer=error.answer, refusal=error)
        return Result(incoming, Outcome.REFUSED, refusal=error, failure=describe(error))

    def _apply(self, decision: Decision, values: Sequence[bytes], incoming: Incoming) -> None:
        self.changes.rows.extend(decision.rows)
        self.changes.facts.extend(decision.facts)
        for event, value in zip(decision.events, values, strict=True):
            self._outbox.publish(event, value, self._source, incoming)
        if decision.intents or decision.closes or intent_of(incoming) is not None:
            self._update_intents(decision, incoming)
        if incoming.record is not None:
            self._finish(incoming)
        elif incoming.act is not None and (result := _result_of(decision)):
            self.changes.log.append(log_entry(incoming, incoming.act, result))

    def _hold(self, incoming: Incoming, record: ConsumerRecord) -> Result:
        self._seen.add(incoming.name)
        return self._parking.hold(incoming, record)

    def _finish(self, incoming: Incoming) -> None:
        finish(self.changes, incoming, InboxState.DONE)
        if incoming.parked is not None:
            self._done.update(incoming.names)

    def _is_done(self, incoming: Incoming) -> bool:
        """Whether a parked event was handled already: another copy of it may have been, under one of its names."""
        return any(self._known.get(name) in FINAL or name in self._done for name in incoming.names)

    def _drop(self, incoming: Incoming) -> Result:
        if incoming.name not in self._done:
            mark(self.changes, incoming, InboxState.DONE)
        release(self.changes, incoming)
        return Result(incoming, Outcome.DUPLICATE)

    def _close(self, intents: Sequence[str]) -> None:
        """Close these, including any that were opened or postponed earlier in this batch."""
        changes = self.changes
        changes.opened = [each for each in changes.opened if each.intent.key not in intents]
        changes.postponed = [each for each in changes.postponed if each.intent.key not in intents]
        changes.closed_intents.extend(intents)

    def _update_intents(self, decision: Decision, incoming: Incoming) -> None:
        """Open new intents, and close the one that was answered unless the decision returns it again."""
        envelope = incoming.envelope
        assert envelope is not None
        if envelope.intent not in [intent.key for intent in decision.intents]:
            close_intent(self.changes, incoming)
        if decision.closes:
            self._close(decision.closes)
        for intent in decision.intents:
            again = intent.key == envelope.intent
            attempts = incoming.asked + 1 if again else 0
            delay = self._policy.ask_again.delay_ms(attempts, self._policy.rng) if again else 0
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


class OutboxWriter:
    """Numbers and identifies the events of one batch, and adds their outbox rows to `changes`."""

    def __init__(self, emitted: Mapping[tuple[str, str], int], slots: int, changes: Changes) -> None:
        self._emitted = dict(emitted)
        self._slots = slots
        self._changes = changes

    def publish(self, event: Event, value: bytes, source: str, cause: Incoming) -> None:
        """Number the event (encoded as `value`) within (source, key), and add its row.

        Its key is the key of its cause, whose lock the caller holds.
        """
        stream = (source, cause.key)
        sequence = self._emitted.get(stream, 0) + 1
        envelope = Envelope(
            id=identity.event_id(source, event.TYPE, cause.key, sequence),
            message=event,
            source=source,
            key=cause.key,
            sequence=sequence,
            causation=cause.event_id,
            traceparent=cause.envelope.traceparent if cause.envelope else None,
        )
        self._changes.outbox.append(to_publish(envelope, event.TOPIC, value, self._slots))
        self._emitted[stream] = self._changes.emitted[stream] = sequence


VALUE_MAX = 1_900_000


def encoded(decision: Decision, incoming: Incoming, topics: Sequence[str]) -> list[bytes]:
    """The events as JSON, before anything of the decision is applied.

    Raises KeyMismatchError, OversizedEventError, ValueError (an event of a topic that is not among `topics`).
    """
    values: list[bytes] = []
    for event in decision.events:
        if event.key != incoming.key:
            raise KeyMismatchError(f"{event.TYPE} of key {event.key!r} was caused by key {incoming.key!r}")
        if event.TOPIC not in topics:
            raise ValueError(
                f"{event.TYPE} goes to {event.TOPIC}, which the service's `publishes` lacks: add it there"
            )
        value = encode(event)
        if len(value) > VALUE_MAX:
            raise OversizedEventError(f"an event of key {incoming.key!r} has more than {VALUE_MAX} bytes")
        values.append(value)
    return values


def to_publish(envelope: Envelope, topic: str, value: bytes, slots: int) -> OutboxRecord:
    """The outbox row of a numbered event."""
    key = envelope.key.encode()
    return OutboxRecord(
        topic=topic,
        key=key,
        value=value,
        headers=to_headers(envelope),
        event_id=envelope.id,
        slot=identity.slot_of(key, slots),
    )


class Parking:
    """Parks the failing events of one batch, and holds what comes behind them.

    `closed` are keys with parked events. `stuck` are keys of which a parked event has failed again or was deferred:
    the parked ones behind it are not tried. `deferred` are keys of which a new event was deferred: later ones are
    deferred too.
    """

    def __init__(
        self,
        service: str,
        source: str,
        snapshot: Snapshot,
        policy: Policy,
        terms: Terms,
        outbox: OutboxWriter,
        changes: Changes,
    ) -> None:
        self.closed = set(snapshot.depth)
        self.stuck: set[str] = set()
        self.deferred: set[str] = set()
        self._service = service
        self._source = f"{source}/flow"
        self._policy = policy
        self._terms = terms
        self._outbox = outbox
        self._changes = changes
        self._keys_left = terms.keys_left
        self._depth = dict(snapshot.depth)

    def fail(self, incoming: Incoming, record: ConsumerRecord, error: Exception) -> Result:
        """Park the message for a retry; or give it up, or defer it."""
        failure, before = describe(error), attempts_of(incoming)
        if failure.kind == PERMANENT:
            return self.bury(incoming, record, failure)
        if incoming.event_type in self._terms.paused:
            return self.defer(incoming, failure)
        attempts, delay = self._next_try(incoming, before)
        if delay is None:
            return self.bury(incoming, record, failure)
        if not self._has_room(incoming):
            return self.defer(incoming, failure, no_room=True)
        self._park(incoming, record, InboxState.PARKED, attempts, failure, delay)
        if not before:
            self._flow(Parked, incoming, {"error": failure.error})
        return Result(incoming, Outcome.PARKED, failure=failure, attempts=attempts)

    def bury(self, incoming: Incoming, record: ConsumerRecord, failure: Failure) -> Result:
        """Store the message as dead, and publish a dead letter."""
        if not self._has_room(incoming):
            return self.defer(incoming, failure, no_room=True)
        attempts = attempts_of(incoming) + 1
        self._park(incoming, record, InboxState.DEAD, attempts, failure, 0)
        if record.topic:
            policy, consumer = self._policy, self._changes.consumer
            service, slots, release = self._service, policy.slots, policy.release
            letter = dead_letter(incoming, record, failure, attempts, consumer, service, slots, release)
            self._changes.outbox.append(letter)
        self._flow(Dead, incoming, {"error": failure.error, "attempts": attempts})
        return Result(incoming, Outcome.DEAD, failure=failure, attempts=attempts)

    def hold(self, incoming: Incoming, record: ConsumerRecord) -> Result:
        """Park the message untried, behind the parked events of its key."""
        if not self._has_room(incoming):
            return self.defer(incoming, no_room=True)
        self._park(incoming, record, InboxState.PARKED, 0, None, 0)
        return Result(incoming, Outcome.HELD)

    def defer(self, incoming: Incoming, failure: Failure | None = None, *, no_room: bool = False) -> Result:
        """Write nothing; the message is to be submitted again. `no_room`: the parking quota is used up."""
        (self.deferred if incoming.parked is None else self.stuck).add(incoming.key)
        return Result(incoming, Outcome.DEFERRED, failure=failure, no_room=no_room)

    def reopen(self, last: Incoming) -> None:
        """Publish that nothing is parked of the key of `last` any more."""
        self._flow(Reopened, last, {})

    def _next_try(self, incoming: Incoming, before: int) -> tuple[int, int | None]:
        """The attempts used up so far, and the delay before the next in ms; None: there is no next."""
        policy = self._policy
        if incoming.name in self._terms.doubtful:
            return max(1, before), policy.away.longest_ms(policy.rng)
        return before + 1, policy.retry.again_in_ms(before + 1, policy.rng)

    def _has_room(self, incoming: Incoming) -> bool:
        if incoming.parked is not None:
            return True
        if incoming.key in self.closed:
            return self._depth.get(incoming.key, 0) < self._terms.depth_max
        return self._keys_left > 0

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
            record=to_park(incoming, record),
            state=state,
            attempts=attempts,
            failure=failure,
            delay_ms=delay_ms,
            intent=intent_of(incoming),
        )
        if incoming.parked is None:
            close_intent(self._changes, incoming)
            self._changes.parked.append(event)
            self._count(incoming.key)
        else:
            self._changes.reparked.append(replace(event, position=incoming.parked.position))
        if attempts:
            self.stuck.add(incoming.key)
        self.closed.add(incoming.key)
        mark(self._changes, incoming, state)

    def _count(self, key: str) -> None:
        self._depth[key] = self._depth.get(key, 0) + 1
        if key not in self.closed:
            self._keys_left -= 1

    def _flow(self, event_type: type[FlowEvent], incoming: Incoming, facts: dict[str, Any]) -> None:
        """Publish on `flow-status`. Events of that topic itself are left out: the reader would read of itself."""
        if incoming.record is not None and incoming.record.topic == FLOW_STATUS:
            return
        event = event_type(
            subject_key=incoming.key,
            consumer=self._changes.consumer,
            event_id=str(incoming.event_id),
            event_type=incoming.event_type,
            **facts,
        )
        self._outbox.publish(event, encode(event), self._source, incoming)


LOOK_S = 30.0
LOOK_WHEN_FULL_S = 1.0


class ParkingQuota:
    """Bounds how many keys may be parked at one consumer, so that people can still look through them.

    It counts what this process parks, and counts anew in the database from time to time, because other processes park
    and release there too. So the bound is exact to within one batch per process. While this process has parked
    nothing, the database is not asked; the first key that it parks makes a count due.
    """

    def __init__(self, consumer: str, store: Store, keys_max: int, clock: Clock) -> None:
        self._consumer = consumer
        self._store = store
        self._keys_max = keys_max
        self._clock = clock
        self._parked = 0
        self._look_at = -math.inf

    @property
    def left(self) -> int:
        """How many more keys may be parked."""
        return max(0, self._keys_max - self._parked)

    async def refresh(self) -> None:
        """Count in the database if that is due. Raises StoreUnavailableError."""
        if self._parked and self._clock.monotonic() >= self._look_at:
            self._parked = await self._store.parked_keys(self._consumer, self._keys_max)
            self._look_at = self._clock.monotonic() + self._pause_s if self._parked else -math.inf

    def record(self, changes: Changes, *, holding: bool) -> None:
        """Count what was committed. Held events are of keys that are parked already, except with `holding`."""
        self._parked += len({event.key for event in changes.parked if event.attempts or holding})
        self._look_at = min(self._look_at, self._clock.monotonic() + self._pause_s)

    @property
    def _pause_s(self) -> float:
        """The time until the next count."""
        return LOOK_S if self.left else LOOK_WHEN_FULL_S


def is_ignored(service: Service, incoming: Incoming) -> bool:
    """Whether it is an event that the service knows and has no handler for."""
    envelope = incoming.envelope
    if envelope is None or type(envelope.message) in service.handlers:
        return False
    return isinstance(envelope.message, Event)


def handler_of(service: Service, message: Message) -> Handler:
    """The handler of a message. Raises NoHandlerError."""
    handler = service.handlers.get(type(message))
    if handler is None:
        raise NoHandlerError(f"{service.name} has no handler for {message.TYPE}")
    return handler


def log_entry(incoming: Incoming, act: Act, result: str) -> LogEntry:
    """The operators' log entry of a command that is somebody's act."""
    assert incoming.envelope is not None
    command = incoming.envelope.message
    assert isinstance(command, Command)
    return LogEntry(act, command.ACTION or command.TYPE, command.target, result)


def _result_of(decision: Decision) -> str:
    """The result for the operators' log; "" if the decision changes nothing and names no result."""
    changes = decision.rows or decision.facts or decision.events or decision.intents or decision.closes
    return decision.result or (str(decision.answer) if changes else "")


def attempts_of(incoming: Incoming) -> int:
    """How many attempts the message has used up."""
    return incoming.parked.attempts if incoming.parked else 0


def intent_of(incoming: Incoming) -> str | None:
    """The key of the intent that the message answers, known even if it cannot be decoded; None if it is no answer."""
    if incoming.parked is not None:
        return incoming.parked.intent
    return incoming.envelope.intent if incoming.envelope else None


def mark(changes: Changes, incoming: Incoming, state: InboxState) -> None:
    """Put the message into the inbox with this state."""
    changes.inbox.append(InboxEntry(incoming.key, incoming.identity, incoming.event_id, state))


def finish(changes: Changes, incoming: Incoming, state: InboxState) -> None:
    """Put the message into the inbox with this final state, under each of its names; it is parked no longer."""
    mark(changes, incoming, state)
    if incoming.also is not None:
        event_id = incoming.envelope.id if incoming.envelope else incoming.event_id
        changes.inbox.append(InboxEntry(*incoming.also, event_id, state))
    release(changes, incoming)


def release(changes: Changes, incoming: Incoming) -> None:
    """Remove the message from the parked events, if it is one."""
    if incoming.parked is not None:
        changes.released.append(incoming.parked.position)


def close_intent(changes: Changes, incoming: Incoming) -> None:
    """Close the intent that the message answers, if any."""
    intent = intent_of(incoming)
    if intent is not None:
        changes.closed_intents.append(intent)


class NoHandlerError(Exception):
    """A command or an answer without a handler: a defect of the service."""


class KeyMismatchError(Exception):
    """A decision published an event whose key is not its message's: the order of events could not be kept."""


class OversizedEventError(Exception):
    """An event that is too large for the log; it would hold up everything that is published after it."""
