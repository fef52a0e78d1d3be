"""What one service has stored, and what the production code makes of it with the next message.

The decisions and the batch handler are those that run in production; only the database is a value here, so that a
service can be asked what it would do from any state, as often as one likes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from orderflow.core.access import PLATFORM
from orderflow.core.decisions import BatchHandler, Policy, handler_of, is_ignored
from orderflow.core.envelopes import Incoming, Result, from_parked
from orderflow.core.inbox import InboxState, ParkedEvent
from orderflow.core.operations.editing import replacement
from orderflow.core.operations.model import DeadLetter, EditRefusedError, StoredLetter
from orderflow.core.processor import reopened
from orderflow.core.retry import Backoff, RetryPolicy
from orderflow.core.service import Fact, Ref, Row, Service
from orderflow.core.store import Act, Changes, DataRefusedError, OpenIntent, OutboxRecord, Snapshot
from orderflow.simulation.loop import seeded
from orderflow.simulation.world import STEPWISE, check_row

ATTEMPTS_MAX = 2
AT_ONCE = Backoff(0, 0)
POLICY = Policy(
    retry=RetryPolicy(AT_ONCE, ATTEMPTS_MAX),
    away=AT_ONCE,
    ask_again=AT_ONCE,
    rng=seeded(0, "delays"),
    slots=1,
    lease_ms=0,
    release="",
    parked_keys_max=1_000,
    parked_depth_max=1_000,
)
"""As in production, but that nothing waits for a clock, and that what fails twice is given up."""

_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


class MadeToFailError(Exception):
    """The search makes a handler fail here: something that the service stands on was not as it should be."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The tables of one service. `parked` has (consumer, event), those of one key in order.

    `taken` are the (consumer, message) that ever came in: what can be delivered again.
    """

    rows: Mapping[Ref, Row] = field(default_factory=dict)
    facts: Mapping[tuple[type[Fact], Hashable], Fact] = field(default_factory=dict)
    inbox: Mapping[tuple[str, str, str], InboxState] = field(default_factory=dict)
    emitted: Mapping[tuple[str, str], int] = field(default_factory=dict)
    parked: tuple[tuple[str, ParkedEvent], ...] = ()
    intents: Mapping[str, OpenIntent] = field(default_factory=dict)
    taken: frozenset[tuple[str, int]] = frozenset()

    def canonical(self) -> bytes:
        """Equal for states that are equal, whatever the way there."""
        rows = sorted((row.TABLE, str(row.id), _ENCODER.encode(row)) for row in self.rows.values())
        facts = sorted((fact.TABLE, str(fact.id), _ENCODER.encode(fact)) for fact in self.facts.values())
        parked = [(consumer, event.key, event) for consumer, event in self.parked]
        rest = (sorted(self.inbox.items()), sorted(self.emitted.items()), self.intents, sorted(self.taken))
        return _ENCODER.encode((rows, facts, parked, rest))

    def queue(self, consumer: str, key: str) -> list[ParkedEvent]:
        """What is parked of a key, head first."""
        return [event for at, event in self.parked if (at, event.key) == (consumer, key)]

    def heads(self) -> Iterable[tuple[str, ParkedEvent]]:
        """The first parked event of each key at each consumer."""
        seen: set[tuple[str, str]] = set()
        for consumer, event in self.parked:
            if (consumer, event.key) not in seen:
                seen.add((consumer, event.key))
                yield consumer, event

    def is_known(self, consumer: str, incoming: Incoming) -> bool:
        return (consumer, *incoming.name) in self.inbox

    def replayed(self, consumer: str, head: ParkedEvent) -> Stored:
        """An operator has sent what was given up to its consumer again."""
        again = msgspec.structs.replace(head, state=InboxState.PARKED)
        return replace(self, parked=tuple((at, again if event is head else event) for at, event in self.parked))


@dataclass(frozen=True, slots=True)
class Taken:
    """What has become of a batch. `written` are the versions of rows, one after another; `refused` is what the
    database said when it had to refuse something.
    """

    after: Stored
    results: Sequence[Result] = ()
    published: Sequence[OutboxRecord] = ()
    written: Sequence[Row] = ()
    refused: str = ""


def take(service: Service, stored: Stored, consumer: str, batch: Sequence[Incoming], *, failing: bool) -> Taken:
    """Carry the batch in, in one transaction. `failing`: the first message's handler fails."""
    failures: dict[tuple[str, str], Exception] = {}
    if failing:
        failures[batch[0].name] = MadeToFailError("made to fail")
    try:
        return _transact(service, stored, consumer, batch, failures)
    except DataRefusedError as error:
        refused = {each.name: error for each in batch if each.record is not None}
        try:
            taken = _transact(service, stored, consumer, batch, refused)
        except DataRefusedError:
            taken = Taken(stored)
        return replace(taken, refused=str(error))


def was_made_to_fail(event: ParkedEvent) -> bool:
    """Whether it can be handled, now that whatever was wrong is right again."""
    return event.failure is not None and event.failure.error == MadeToFailError.__name__


def take_parked(service: Service, stored: Stored, consumer: str, key: str, *, failing: bool) -> Taken:
    """The retrier's way in: all that is parked of the key, head first. `failing`: the head fails again."""
    batch = [from_parked(event, service.catalogue) for event in stored.queue(consumer, key)]
    return take(service, stored, consumer, batch, failing=failing)


def discard_head(service: Service, stored: Stored, consumer: str, head: ParkedEvent) -> Taken:
    """An operator gives a parked event up for good."""
    incoming = from_parked(head, service.catalogue)
    handler = BatchHandler(service, consumer, _snapshot(stored, consumer, [incoming]), POLICY, {})
    handler.discard(incoming, Act(caller=PLATFORM))
    if len(stored.queue(consumer, head.key)) == 1:
        handler.reopen(incoming)
    return Taken(_written(stored, handler.changes), published=handler.changes.outbox)


def edit_head(service: Service, stored: Stored, consumer: str, head: ParkedEvent) -> Taken:
    """An operator doubles all amounts of a dead event that tells what was ordered, and replays it.

    Nothing happens where that is no such event, or where it is refused.
    """
    value = msgspec.json.decode(head.record.value or b"{}")
    if "items" not in value or head.intent is not None:
        return Taken(stored)
    value["items"] = [{**item, "unit_price": 2 * item["unit_price"]} for item in value["items"]]
    value["total"] *= 2
    then = datetime.fromtimestamp(0, UTC)
    letter = DeadLetter.of(
        head,
        consumer=consumer,
        behind=0,
        edited=False,
        parked_at=then,
        first_failed_at=then,
        last_failed_at=then,
        next_attempt_at=then,
    )
    try:
        edited = replacement(
            StoredLetter(letter=letter, event=head), msgspec.json.encode(value), 0, "somebody", service
        )
    except EditRefusedError:
        return Taken(stored)
    event = msgspec.structs.replace(
        head,
        event_id=edited.event_id,
        identity=edited.identity,
        record=msgspec.structs.replace(head.record, value=edited.record.value, headers=edited.record.headers),
        state=InboxState.PARKED,
    )
    parked = tuple((at, event if each is head else each) for at, each in stored.parked)
    return Taken(replace(stored, parked=parked))


def _transact(
    service: Service,
    stored: Stored,
    consumer: str,
    batch: Sequence[Incoming],
    failures: Mapping[tuple[str, str], Exception],
) -> Taken:
    """The steps between open and commit, as `Processor.decide` has them."""
    failed = dict(failures)
    touched = [ref for incoming in batch for ref in _touched(service, incoming, failed)]
    handler = BatchHandler(service, consumer, _snapshot(stored, consumer, batch, touched), POLICY, failed)
    results = [handler.take(incoming) for incoming in batch]
    whole = {incoming.key for incoming in batch if incoming.parked is not None}
    for last in reopened(batch, whole, handler.changes.released):
        handler.reopen(last)
    return Taken(_written(stored, handler.changes), results, handler.changes.outbox, handler.changes.rows)


def _touched(service: Service, incoming: Incoming, failed: dict[tuple[str, str], Exception]) -> Iterable[Ref]:
    if incoming.envelope is None or is_ignored(service, incoming) or incoming.name in failed:
        return ()
    message = incoming.envelope.message
    try:
        return tuple(handler_of(service, message).touches(message))
    except Exception as error:  # noqa: BLE001  # as in production: it fails, alone
        failed[incoming.name] = error
        return ()


def _snapshot(stored: Stored, consumer: str, batch: Sequence[Incoming], touched: Iterable[Ref] = ()) -> Snapshot:
    names = [name for incoming in batch if incoming.record is not None for name in incoming.names]
    known = {name: state for name in names if (state := stored.inbox.get((consumer, *name))) is not None}
    keys = {incoming.key for incoming in batch}
    depth = {key: len(queue) for key in keys if (queue := stored.queue(consumer, key))}
    emitted = {stream: count for stream, count in stored.emitted.items() if stream[1] in keys}
    rows = {ref: stored.rows[ref] for ref in touched if ref in stored.rows}
    return Snapshot(known, depth, emitted, rows)


def _written(stored: Stored, changes: Changes) -> Stored:
    """As the database would write it. Raises DataRefusedError for what it would refuse."""
    inbox = dict(stored.inbox)
    for entry in changes.inbox:
        inbox[changes.consumer, entry.key, entry.identity] = entry.state
    return replace(
        stored,
        rows=_rows(stored, changes),
        facts=_facts(stored, changes.facts),
        inbox=inbox,
        emitted={**stored.emitted, **changes.emitted},
        parked=_parked(stored, changes),
        intents=_intents(stored, changes),
    )


def _rows(stored: Stored, changes: Changes) -> Mapping[Ref, Row]:
    """Row types in STEPWISE are checked version by version, the others as the batch leaves them."""
    rows = dict(stored.rows)
    for number, row in enumerate(changes.rows):
        is_last = row.ref not in [later.ref for later in changes.rows[number + 1 :]]
        if isinstance(row, STEPWISE) or is_last:
            check_row(rows.get(row.ref), row)
            rows[row.ref] = row
    return rows


def _facts(stored: Stored, added: Iterable[Fact]) -> Mapping[tuple[type[Fact], Hashable], Fact]:
    facts = dict(stored.facts)
    for fact in added:
        if (type(fact), fact.id) in facts:
            raise DataRefusedError(f"{fact.TABLE} {fact.id} is there already")
        facts[type(fact), fact.id] = fact
    return facts


def _parked(stored: Stored, changes: Changes) -> tuple[tuple[str, ParkedEvent], ...]:
    """Positions count the events of one key, so that they tell nothing of the way there."""
    gone = set(changes.released)
    again = {(event.key, event.position): event for event in changes.reparked}
    kept: list[tuple[str, ParkedEvent]] = []
    for consumer, event in stored.parked:
        if consumer != changes.consumer:
            kept.append((consumer, event))
        elif event.position not in gone:
            kept.append((consumer, again.get((event.key, event.position), event)))
    for event in changes.parked:
        queue = [each.position for at, each in kept if (at, each.key) == (changes.consumer, event.key)]
        place = max(queue, default=_base(event.key)) + 1
        kept.append((changes.consumer, msgspec.structs.replace(event, position=place)))
    return tuple(sorted(kept, key=lambda each: (each[0], each[1].key, each[1].position)))


def _base(key: str) -> int:
    """Positions of two keys are never the same."""
    return int.from_bytes(key.encode()[-4:], "big") * 1_000


def _intents(stored: Stored, changes: Changes) -> Mapping[str, OpenIntent]:
    intents = {key: intent for key, intent in stored.intents.items() if key not in changes.closed_intents}
    for opened in changes.opened:
        if opened.intent.key in intents:
            raise DataRefusedError(f"intents {opened.intent.key} is there already")
        intents[opened.intent.key] = opened
    for again in changes.postponed:
        intents[again.intent.key] = again
    return intents
