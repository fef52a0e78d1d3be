"""Saying again what was lost on the way, and taking again what was lost on arrival: acts of operators, one key each.

A repair makes nothing new. A service says again what its rows stand for, as the same event, with the id and the
number that it had; who has it drops it. And a service takes again an event that its inbox knows, if deciding over it
once more has an effect: where the effect is there already, its own rules refuse it, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from uuid import UUID

import msgspec
from msgspec.structs import replace

from orderflow.core import identity
from orderflow.core.access import APPROVE
from orderflow.core.dead_letters import FLOW_STATUS, Dead, FlowEvent, Parked, Reopened
from orderflow.core.decisions import OutboxWriter, is_ignored, to_publish
from orderflow.core.envelopes import Incoming, Result, from_command, from_record
from orderflow.core.failures import describe
from orderflow.core.inbox import Failure, InboxState, Waits
from orderflow.core.messages import MALFORMED, Command, Envelope, wire_name
from orderflow.core.operations.editing import LOCK_WAIT_S, SEQUENCE_MAX
from orderflow.core.operations.model import (
    ConfirmationNeededError,
    DeadLetter,
    EventUnreadError,
    LetterFilter,
    RecoveryError,
    SecondPersonNeededError,
)
from orderflow.core.operations.port import OperatedStore
from orderflow.core.processor import Processed, Processor, Share, Work, open_within
from orderflow.core.service import Intent, Ref, RefusedError, Rows, Statement
from orderflow.core.store import (
    Act,
    Changes,
    DataRefusedError,
    End,
    LogEntry,
    OpenIntent,
    ParkedQuery,
    Plan,
    Snapshot,
)
from orderflow.core.telemetry import Outcome
from orderflow.core.transport import ConsumerRecord


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An event as its service says it: wire name, topic, id, source, number in its stream, and value (JSON)."""

    type: str
    topic: str
    event_id: str
    source: str
    sequence: int
    value: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a service's rows of a key stand for: events in the order of their numbers, and keys of intents that must
    be open until they are answered.
    """

    said: tuple[Said, ...] = ()
    asks: tuple[str, ...] = ()


class Regard(StrEnum):
    """How a consumer stands to an event that was said.

    KNOWN: it has had its effect. MISSING: it never came. LOST: the inbox knows it, its effect is not there and can be
    had again. REFUSED: it never came, and would be refused. WAITS: it waits, or would wait behind what is parked.
    GIVEN_UP: an operator has discarded it.
    """

    KNOWN = "known"
    MISSING = "missing"
    LOST = "lost"
    REFUSED = "refused"
    WAITS = "waits"
    GIVEN_UP = "given_up"


class Regarded(msgspec.Struct, frozen=True, kw_only=True):
    """The consumer's regard of the event, and why it would be refused."""

    consumer: str
    type: str
    regard: Regard
    why: str = ""


class Repairs:
    """What operators can have one service do about one key. All raise StoreUnavailableError, KeyBusyError.

    What changes something raises ConfirmationNeededError without a reason, and is in the operators' log by the same
    transaction. `on_said` is called with what was written by a restatement. `new_id` makes ids for what the outside
    world is asked once more: its answer is another one than the first, which the inbox may know.
    """

    def __init__(
        self,
        processor: Processor,
        store: OperatedStore,
        on_said: Callable[[Changes], None],
        new_id: Callable[[], UUID],
        *,
        two_person: bool = False,
    ) -> None:
        self._two_person = two_person
        self._processor = processor
        self._store = store
        self._service = processor.service
        self._source = f"/orderflow/{processor.service.name}"
        self._on_said = on_said
        self._new_id = new_id

    async def standing(self, key: str) -> Standing:
        """What the service's rows of the key stand for at this moment."""
        async with self._store.transaction() as tx:
            statement, emitted = self._state(await tx.open(self._plan(key)), key)
        said = [_said(*each) for each in self._numbered(key, statement, emitted)]
        return Standing(said=tuple(said), asks=tuple(intent.key for intent in statement.intents))

    async def regard(self, key: str, said: Sequence[Said]) -> Sequence[Regarded]:
        """How each consumer that reads them stands to these events. Nothing is changed.

        Each is tried by the real way in, in a transaction that is taken back.
        """
        found: list[Regarded] = []
        for each in said:
            incoming = self._incoming(key, each)
            for consumer in self._readers(incoming, each.topic):
                regarded, _ = await self._taken(consumer, incoming, None)
                found.append(regarded)
        return found

    async def take_again(self, key: str, said: Said, act: Act) -> Sequence[Regarded]:
        """Have the effect of an event that the inbox knows once more, if it was LOST; else nothing is changed.

        Returns how each consumer stood to it. Raises ForbiddenError, EventUnreadError: no consumer reads it.
        """
        APPROVE.require(act.caller)
        self._confirm(act)
        incoming = self._incoming(key, said)
        consumers = self._readers(incoming, said.topic)
        if not consumers:
            raise EventUnreadError(f"No consumer of {self._service.name} reads {said.type} of {said.topic}.")
        found: list[Regarded] = []
        for consumer in consumers:
            regarded, done = await self._taken(consumer, incoming, act)
            if done is not None:
                self._processor.report(consumer, done.results, done.changes, 0.0)
            found.append(regarded)
        return found

    async def say_again(self, key: str, types: Collection[str], act: Act, *, ask: bool, flow: bool) -> Standing:
        """Publish once more, as the same events, those of these types (wire names) for which the rows stand.

        `ask`: ask the outside world for what the rows call for, under the key that it always had. `flow`: say how
        each consumer stands to the key. Returns what was said and asked. Raises ForbiddenError.
        """
        APPROVE.require(act.caller)
        self._confirm(act)
        async with self._store.transaction() as tx:
            locks = {identity.lock_id(key), *(identity.lock_id(str(ref.id)) for ref in self._touched(key))}
            snapshot = await open_within(tx, replace(self._plan(key), locks=sorted(locks)), LOCK_WAIT_S)
            statement, emitted = self._state(snapshot, key)
            changes = Changes(consumer=self._service.name)
            meant = [
                each for each in self._numbered(key, statement, emitted) if wire_name(type(each[0].message)) in types
            ]
            for envelope, topic in meant:
                value = msgspec.json.encode(envelope.message)
                changes.outbox.append(to_publish(envelope, topic, value, self._processor.slots))
            numbers = [envelope.sequence or 0 for envelope, _ in meant]
            if max(numbers, default=0) > emitted.get((self._source, key), 0):
                changes.emitted[self._source, key] = max(numbers)
            asks = statement.intents if ask else ()
            changes.postponed = [self._intent(key, intent) for intent in asks]
            if flow:
                await self._tell_flow(changes, key, emitted)
            done = Standing(said=tuple(_said(*each) for each in meant), asks=tuple(intent.key for intent in asks))
            changes.log.append(LogEntry(act, "repair", key, _told(done, flow=flow)))
            await tx.commit(changes)
        self._on_said(changes)
        return done

    async def carry_out(self, command: Command, act: Act) -> object:
        """A command with its row in the operators' log; its answer.

        Raises ForbiddenError, RefusedError: nothing was stored.
        """
        command.PERMISSION.require(act.caller)
        self._confirm(act)
        name = self._service.name
        event_id = identity.uuid5(f"repair\n{self._source}\n{command.TYPE}\n{command.key}")
        incoming = from_command(command, self._source, None, event_id, act)

        def finish(results: Sequence[Result], _: Changes) -> End:
            _require_carried(results[0])
            return End.COMMIT

        done = await self._processor.process(Work(consumer=name, batch=[incoming], finish=finish, wait_s=LOCK_WAIT_S))
        assert done is not None
        self._processor.report(name, done.results, done.changes, 0.0)
        return done.results[0].answer

    def _confirm(self, act: Act) -> None:
        """Raises ConfirmationNeededError, SecondPersonNeededError."""
        _confirm(act)
        if self._two_person:
            require_second(act)

    async def _taken(self, consumer: str, incoming: Incoming, act: Act | None) -> tuple[Regarded, Processed | None]:
        """The consumer's regard, and by an act, where the event was LOST, what it has written.

        The event is carried in, although the inbox may know it; what that writes stands only where it is LOST.
        """
        trial = _Trial(consumer, incoming, self._anew, act)
        try:
            done = await self._processor.process(
                Work(
                    consumer=consumer,
                    batch=[incoming],
                    parked=ParkedQuery([incoming.key], SEQUENCE_MAX, due=False),
                    select=trial.look,
                    finish=trial.finish,
                    wait_s=LOCK_WAIT_S,
                )
            )
        except DataRefusedError as error:
            return trial.unchanged(describe(error)), None
        assert trial.found is not None
        return trial.found, done if trial.stands else None

    def _anew(self, incoming: Incoming) -> Incoming:
        """What can happen once only is decided over as a new cause, with the identity that it had."""
        envelope = incoming.envelope
        if envelope is None or not envelope.message.ONCE:
            return incoming
        return replace(incoming, envelope=replace(envelope, id=self._new_id()))

    def _incoming(self, key: str, said: Said) -> Incoming:
        """As it would come from the log. Raises EventUnreadError: nobody here can read it."""
        headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", said.event_id.encode()),
            ("ce_type", said.type.encode()),
            ("ce_source", said.source.encode()),
            ("ce_subject", key.encode()),
            ("ce_sequence", b"%d" % said.sequence),
        )
        record = ConsumerRecord(
            topic=said.topic, partition=0, offset=0, key=key.encode(), value=said.value.encode(), headers=headers
        )
        return from_record(record, self._service.catalogue)

    def _readers(self, incoming: Incoming, topic: str) -> Sequence[str]:
        """The consumers that act on it. Raises EventUnreadError: it cannot be read."""
        if incoming.problem is not None:
            if incoming.problem.reason != MALFORMED:
                return ()
            raise EventUnreadError(f"This is no event that {self._service.name} can read: {incoming.problem.detail}.")
        if is_ignored(self._service, incoming):
            return ()
        return [each.consumer for each in self._service.subscriptions if topic in each.topics]

    def _touched(self, key: str) -> Sequence[Ref]:
        restatement = self._service.restatement
        return tuple(restatement.touches(key)) if restatement else ()

    def _plan(self, key: str) -> Plan:
        return Plan(self._service.name, [(key, None)], (), self._touched(key))

    def _state(self, snapshot: Snapshot, key: str) -> tuple[Statement, Mapping[tuple[str, str], int]]:
        """What the rows stand for, and how many events were numbered so far."""
        restatement = self._service.restatement
        if restatement is None:
            return Statement(), snapshot.emitted
        return restatement.state(Rows(snapshot.rows), key), snapshot.emitted

    def _numbered(
        self, key: str, statement: Statement, emitted: Mapping[tuple[str, str], int]
    ) -> Iterator[tuple[Envelope, str]]:
        """The events with the numbers that they had, as they were published, and their topics."""
        last = emitted.get((self._source, key), 0)
        for place, (event, number) in enumerate(statement.events, start=1):
            sequence = number or max(place, last)
            yield (
                Envelope(
                    id=identity.event_id(self._source, event.TYPE, key, sequence),
                    message=event,
                    source=self._source,
                    key=key,
                    sequence=sequence,
                ),
                event.TOPIC,
            )

    def _intent(self, key: str, intent: Intent) -> OpenIntent:
        return OpenIntent(intent=intent, key=key, cause=self._new_id(), traceparent=None)

    async def _tell_flow(self, changes: Changes, key: str, emitted: Mapping[tuple[str, str], int]) -> None:
        """Each consumer says once more how it stands to the key. A reader of these notices gives none of itself."""
        outbox = OutboxWriter(emitted, self._processor.slots, changes)
        for each in self._service.subscriptions:
            if FLOW_STATUS in each.topics:
                continue
            head = await self._store.recovery.letters(LetterFilter(state=None, consumer=each.consumer, key=key), 1)
            event = _flow_of(key, each.consumer, head)
            cause = Incoming(key=key, identity="", event_id=identity.uuid5(f"repair\n{key}"), event_type="")
            outbox.publish(event, msgspec.json.encode(event), f"{self._source}/flow", cause)


def require_second(act: Act | None) -> None:
    """Return if it was proposed by somebody else. Raises SecondPersonNeededError."""
    if act is None or act.approves is None:
        raise SecondPersonNeededError


class _Trial:
    """One event that is carried in to see how its consumer stands to it. `stands`: what it wrote is there."""

    def __init__(
        self, consumer: str, incoming: Incoming, anew: Callable[[Incoming], Incoming], act: Act | None
    ) -> None:
        self.found: Regarded | None = None
        self.stands = False
        self._consumer = consumer
        self._incoming = incoming
        self._anew = anew
        self._act = act
        self._state: InboxState | None = None

    def look(self, snapshot: Snapshot) -> Share | None:
        incoming = self._incoming
        state = self._state = snapshot.known.get(incoming.name)
        if state is InboxState.DISCARDED:
            self._regard(Regard.GIVEN_UP)
            return None
        if incoming.key in snapshot.closed:
            waits = state is None or any(event.identity == incoming.identity for event in snapshot.parked)
            self._regard(Regard.WAITS if waits else Regard.KNOWN)
            return None
        return Share([incoming if state is None else self._anew(incoming)], redo=(incoming.name,))

    def finish(self, results: Sequence[Result], changes: Changes) -> End:
        [result], state = results, self._state
        if result.outcome is not Outcome.HANDLED:
            self.unchanged(result.failure)
        elif state is None:
            self._regard(Regard.MISSING)
        else:
            has_effect = changes.rows or changes.facts or changes.outbox or changes.opened
            self._regard(Regard.LOST if has_effect or state is not InboxState.DONE else Regard.KNOWN)
        self.stands = self._act is not None and self.found is not None and self.found.regard is Regard.LOST
        if self._act is None or not self.stands:
            return End.ROLLBACK
        told = f"{self._consumer} has taken {self._incoming.event_type} again: its effect was not there."
        changes.log.append(LogEntry(self._act, "repair", self._incoming.key, told))
        return End.COMMIT

    def unchanged(self, why: Failure | None) -> Regarded:
        """It would fail: what was handled has had its effect then, what never came or has got lost is refused."""
        self.stands = False
        if self._state is InboxState.DONE:
            return self._regard(Regard.KNOWN)
        return self._regard(Regard.REFUSED, f"{why.error}: {why.message}" if why else "")

    def _regard(self, regard: Regard, why: str = "") -> Regarded:
        self.found = Regarded(consumer=self._consumer, type=self._incoming.event_type, regard=regard, why=why)
        return self.found


def _require_carried(result: Result) -> None:
    if isinstance(result.refusal, RefusedError):
        raise result.refusal
    if result.refusal is not None:
        raise RecoveryError(f"This hit a bug, and nothing was stored: {describe(result.refusal).message}")


def _said(envelope: Envelope, topic: str) -> Said:
    return Said(
        type=wire_name(type(envelope.message)),
        topic=topic,
        event_id=identity.uuid_text(envelope.id),
        source=envelope.source,
        sequence=envelope.sequence or 0,
        value=msgspec.json.encode(envelope.message).decode(),
    )


def _flow_of(key: str, consumer: str, waiting: Sequence[DeadLetter]) -> FlowEvent:
    if not waiting:
        return Reopened(subject_key=key, consumer=consumer, event_id="", event_type="")
    head = waiting[0]
    event_id = identity.uuid_text(head.event_id)
    if head.state is Waits.DEAD:
        return Dead(
            subject_key=key,
            consumer=consumer,
            event_id=event_id,
            event_type=head.event_type,
            error=head.error,
            attempts=head.attempts,
        )
    return Parked(subject_key=key, consumer=consumer, event_id=event_id, event_type=head.event_type, error=head.error)


def _told(done: Standing, *, flow: bool) -> str:
    """In words, for the operators' log."""
    said = [f"said again: {', '.join(each.type for each in done.said)}"] if done.said else []
    asked = [f"asked again: {', '.join(done.asks)}"] if done.asks else []
    return "; ".join([*said, *asked, *(["said how its consumers stand"] if flow else [])]) or "nothing to say"


def _confirm(act: Act) -> None:
    if not (act.confirmed and act.reason.strip()):
        raise ConfirmationNeededError("A repair acts on what customers paid or get: confirm it, and give a reason.")
