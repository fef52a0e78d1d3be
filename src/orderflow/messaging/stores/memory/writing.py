"""Writes a batch's changes into the state, refusing what the PostgreSQL schema refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec
from msgspec.structs import replace

from orderflow.messaging.decision import Intent
from orderflow.messaging.inbox import InboxState, ParkedEvent
from orderflow.messaging.recovery.model import Moment
from orderflow.messaging.rows import Fact, Row
from orderflow.messaging.store import Changes, DataRefusedError, OpenIntent, OutboxRecord
from orderflow.messaging.stores.memory.state import Asked, Journal, State, Waiting, note_action, remember

CHECK_VIOLATION = "23514"
NUL_IN_TEXT = "22021"
UNTRANSLATABLE = "22P05"
RECORD_MAX = 2_097_000
Check = Callable[[Row | None, Row], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a service's tables hold beyond uniqueness.

    `checks` see each change of a row (None: it is new) and raise DataRefusedError. Row types in `stepwise`
    are shown every version, the others the last one of a batch. `encoding` is the database's, by Python's name.
    """

    checks: Sequence[Check] = ()
    stepwise: Collection[type[Row]] = ()
    encoding: str = "utf-8"

    def require_text(self, *texts: str | None) -> None:
        """Raises DataRefusedError for what no column of type text holds: a NUL, a character the encoding lacks."""
        for text in texts:
            if not text:
                continue
            if "\x00" in text:
                raise DataRefusedError("invalid byte sequence: 0x00", NUL_IN_TEXT)
            try:
                text.encode(self.encoding)
            except UnicodeEncodeError as error:
                raise DataRefusedError(f"no equivalent in encoding {self.encoding}", UNTRANSLATABLE) from error


class Writer:
    """Writes one set of changes at one moment.

    `known` are the inbox entries (key, identity) that may be replaced, `streams` the (source, key) that may go on.
    """

    def __init__(
        self,
        state: State,
        journal: Journal,
        rules: Rules,
        known: Collection[tuple[str, str]],
        streams: Collection[tuple[str, str]],
        now_ms: int,
    ) -> None:
        self._state = state
        self._journal = journal
        self._rules = rules
        self._known = known
        self._known_streams = streams
        self._now = now_ms

    def write(self, changes: Changes) -> None:
        """Raises DataRefusedError; the caller then takes the journal back."""
        _once([(entry.key, entry.identity) for entry in changes.inbox], "processed_events")
        for events in (changes.reparked, changes.edited):
            _once([event.position for event in events], "parked_events")
        _once(changes.released, "parked_events")
        self._rows(changes)
        self._facts(changes.facts)
        self._inbox(changes)
        self._streams(changes)
        self._outbox(changes.outbox)
        self._park(changes)
        self._repark(changes)
        self._edit(changes)
        self._release(changes)
        self._intents(changes)
        for entry in changes.log:
            act = entry.act
            self._rules.require_text(act.who, entry.action, entry.target, act.reason, entry.result)
            note_action(self._state, self._journal, entry, self._now)

    def _rows(self, changes: Changes) -> None:
        by_ref: dict[object, list[Row]] = {}
        for row in changes.rows:
            by_ref.setdefault(row.ref, []).append(row)
        for versions in by_ref.values():
            stepwise = type(versions[0]) in self._rules.stepwise
            for number, row in enumerate(versions if stepwise else versions[-1:]):
                self._row(row, is_new=number == 0 and row.ref not in changes.existing)

    def _row(self, row: Row, *, is_new: bool) -> None:
        before = self._state.rows.get(row.ref)
        if is_new and before is not None:
            raise _double(f"{row.TABLE} {row.id}", f"{row.TABLE}_pkey", row.id)
        if not is_new and before is None:
            raise DataRefusedError(f"{row.TABLE}: 1 rows were to be written, 0 were")
        self._check(before, row)
        self._journal.set(self._state.rows, row.ref, row)

    def _check(self, before: Row | None, row: Row) -> None:
        """A constraint tells which row it refuses, a trigger does not."""
        try:
            for check in self._rules.checks:
                check(before, row)
        except DataRefusedError as error:
            if error.sqlstate == CHECK_VIOLATION:
                error.named = _names(row.id)
            raise

    def _facts(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            name = (type(fact), fact.id)
            if name in self._state.facts:
                raise _double(f"{fact.TABLE} {fact.id}", None, fact.id)
            self._journal.set(self._state.facts, name, fact)

    def _inbox(self, changes: Changes) -> None:
        for entry in changes.inbox:
            name = (entry.key, changes.consumer, entry.identity)
            known = (entry.key, entry.identity) in self._known
            self._rules.require_text(*name)
            if name in self._state.inbox and not known:
                raise _double(f"processed_events {name}", "processed_events_once", name)
            if known and name not in self._state.inbox:
                raise DataRefusedError("processed_events: 1 rows were to be written, 0 were")
            self._journal.set(self._state.inbox, name, entry)

    def _streams(self, changes: Changes) -> None:
        for (source, key), count in changes.emitted.items():
            known = (source, key) in self._known_streams
            self._rules.require_text(source, key)
            _hold(known or count > 0, "streams_emitted_positive")
            if (key, source) in self._state.streams and not known:
                raise _double(f"streams {(key, source)}", "streams_once", (key, source))
            if known and count <= self._state.streams.get((key, source), 0):
                raise DataRefusedError("streams: 1 rows were to be written, 0 were")
            self._journal.set(self._state.streams, (key, source), count)

    def _outbox(self, records: Iterable[OutboxRecord]) -> None:
        for record in records:
            headers = len(msgspec.msgpack.encode(record.headers))
            size = len(record.key or b"") + len(record.value or b"") + headers // 2
            self._rules.require_text(record.topic)
            _hold(size <= RECORD_MAX, "outbox_record_fits")
            _hold(record.slot >= 0, "outbox_slot_not_negative")
            self._journal.set(self._state.outbox, record.id, replace(record, created_at=self._now))
            self._journal.set(self._state.pending, record.id, record.slot)

    def _park(self, changes: Changes) -> None:
        for event in changes.parked:
            name = (event.key, changes.consumer, event.identity)
            _hold(name in self._state.inbox, "parked_events_in_inbox", "23503", name)
            for other in self._state.parked.values():
                if (other.event.key, other.consumer, other.event.identity) == name:
                    raise _double(f"parked_events {name}", "parked_events_once", name)
            self._state.positions += 1
            self._wait(changes.consumer, replace(event, position=self._state.positions), None)

    def _repark(self, changes: Changes) -> None:
        for event in changes.reparked:
            before = self._state.parked.get(event.position)
            if before is None:
                raise DataRefusedError("parked_events: 1 rows were to be written, 0 were")
            again = replace(
                before.event,
                state=event.state,
                attempts=event.attempts,
                failure=event.failure,
                delay_ms=event.delay_ms,
            )
            self._wait(before.consumer, again, before)

    def _wait(self, consumer: str, event: ParkedEvent, before: Waiting | None) -> None:
        _hold(event.state in (InboxState.PARKED, InboxState.DEAD), "parked_events_state_waits")
        _hold(event.attempts >= 0, "parked_events_attempts_not_negative")
        _hold(event.state is not InboxState.DEAD or event.attempts > 0, "parked_events_dead_was_tried")
        _hold((event.attempts == 0) == (event.failure is None), "parked_events_failure_whole")
        failure = msgspec.structs.astuple(event.failure) if event.failure else ()
        self._rules.require_text(event.event_type, event.record.topic, event.intent, *failure)
        failed = event.attempts > 0
        first = (before.event.first_failed_at if before else None) or self._now
        waiting = Waiting(
            consumer=consumer,
            event=replace(event, delay_ms=0, first_failed_at=first if failed else None),
            parked_at=before.parked_at if before else self._now,
            next_attempt_at=self._now + event.delay_ms,
            last_failed_at=self._now if failed else None,
        )
        self._journal.set(self._state.parked, event.position, waiting)
        if event.failure is not None:
            moment = Moment.DEAD if event.state is InboxState.DEAD else Moment.FAILED
            remember(self._state, self._journal, event, moment, self._now, event.failure)

    def _edit(self, changes: Changes) -> None:
        for edit in changes.edited:
            before = self._state.parked.get(edit.position)
            if before is None:
                raise DataRefusedError("parked_events: 1 rows were to be written, 0 were")
            name = (before.event.key, before.consumer, edit.identity)
            self._rules.require_text(edit.event_type, edit.who)
            _hold(name in self._state.inbox, "parked_events_in_inbox", "23503", name)
            record, new = before.event.record, edit.record
            event = replace(
                before.event,
                event_id=edit.event_id,
                identity=edit.identity,
                event_type=edit.event_type,
                record=replace(record, key=new.key, value=new.value, headers=new.headers),
            )
            if edit.position not in self._state.originals:
                self._journal.set(self._state.originals, edit.position, before.event)
            self._journal.set(self._state.parked, edit.position, dataclasses.replace(before, event=event))
            remember(self._state, self._journal, event, Moment.EDITED, self._now, who=edit.who)

    def _release(self, changes: Changes) -> None:
        act = changes.discarding
        for position in changes.released:
            if position not in self._state.parked:
                raise DataRefusedError("parked_events: 1 rows were to be written, 0 were")
            event = self._state.parked[position].event
            self._journal.delete(self._state.parked, position)
            if act is not None:
                self._rules.require_text(act.who, act.reason)
                remember(
                    self._state, self._journal, event, Moment.DISCARDED, self._now, who=act.who, message=act.reason
                )
            elif event.attempts:
                remember(self._state, self._journal, event, Moment.HANDLED, self._now)

    def _intents(self, changes: Changes) -> None:
        for key in changes.closed_intents:
            if key in self._state.intents:
                self._journal.delete(self._state.intents, key)
        for intent in changes.opened:
            if intent.intent.key in self._state.intents:
                raise _double(f"intents {intent.intent.key}", "intents_once", intent.intent.key)
            self._ask(intent, changes.lease_ms)
        postponed = [intent.intent.key for intent in changes.postponed]
        if any(len(list(same)) > 1 for _, same in groupby(sorted(postponed))):
            raise DataRefusedError("an intent was postponed twice in one batch", "21000")
        for intent in changes.postponed:
            self._ask(intent, intent.delay_ms)

    def _ask(self, intent: OpenIntent, wait_ms: int) -> None:
        _hold(intent.attempts >= 0, "intents_attempts_not_negative")
        asked = intent.intent
        self._rules.require_text(asked.key, asked.kind, intent.key, intent.traceparent)
        try:
            request = msgspec.json.encode(asked.request)
        except (TypeError, ValueError) as error:
            raise DataRefusedError(f"intents: {type(error).__name__}: {error}") from error
        if b"\\u0000" in request:
            raise DataRefusedError("unsupported Unicode escape sequence", UNTRANSLATABLE)
        plain = msgspec.json.decode(request)
        _hold(isinstance(plain, dict), "intents_request_is_object")
        kept = replace(intent, intent=Intent(key=asked.key, kind=asked.kind, request=plain), delay_ms=0)
        known = self._state.intents.get(asked.key)
        since = known.created_at if known else self._now
        self._journal.set(self._state.intents, asked.key, Asked(kept, self._now + wait_ms, since))


def _once(names: Sequence[Hashable], table: str) -> None:
    """A set-based statement touches a row once, however often it is named."""
    if len(different := set(names)) < len(names):
        raise DataRefusedError(f"{table}: {len(names)} rows were to be written, {len(different)} were")


def _hold(condition: bool, constraint: str, sqlstate: str = CHECK_VIOLATION, row: Hashable = ()) -> None:
    if not condition:
        raise DataRefusedError(f"the rule {constraint} was broken", sqlstate, constraint, _names(row))


def _double(what: str, constraint: str | None, row: Hashable) -> DataRefusedError:
    return DataRefusedError(f"{what} is there already", "23505", constraint, _names(row))


def _names(row: Hashable) -> frozenset[str]:
    """The values that PostgreSQL would name: those of the key."""
    return frozenset(map(str, row if isinstance(row, tuple) else (row,)))
