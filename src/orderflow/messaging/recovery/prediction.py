"""The report of a rehearsal: what would become of each event, and what that would change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from orderflow.messaging.catalogue import wire_name
from orderflow.messaging.decision import Decision
from orderflow.messaging.failures import describe
from orderflow.messaging.inbox import Failure, ParkedEvent
from orderflow.messaging.machine import IllegalTransitionError
from orderflow.messaging.message import Event
from orderflow.messaging.recovery.model import CausedEvent, RehearsalVerdict, Rehearsed, RowChange
from orderflow.messaging.result import Result
from orderflow.messaging.rows import Fact, Ref, Row
from orderflow.messaging.signals import Outcome
from orderflow.messaging.store import DataRefusedError, TransitionRefusedError

ILLEGAL = (IllegalTransitionError.__name__, TransitionRefusedError.__name__)
"""What is said of an event that cannot happen in the state that the rows are in, by the code or by the database."""


class Prediction:
    """Tells the results of one key's events in order. `rows` are the rows that they touch, before all of them."""

    def __init__(self, consumer: str, rows: Mapping[Ref, Row]) -> None:
        self.failed = False
        self._consumer = consumer
        self._rows = dict(rows)

    def of(self, event: ParkedEvent, result: Result) -> Rehearsed:
        """An event that was carried in."""
        decision = result.decision or Decision()
        verdict = _verdict(result)
        self.failed |= verdict is not RehearsalVerdict.SUCCEEDS and verdict is not RehearsalVerdict.DUPLICATE
        return self._told(event, verdict, result.failure, decision)

    def of_refusal(self, event: ParkedEvent, error: DataRefusedError) -> Rehearsed:
        """The event whose data the database refuses."""
        self.failed = True
        illegal = isinstance(error, TransitionRefusedError)
        verdict = RehearsalVerdict.ILLEGAL if illegal else RehearsalVerdict.FAILS
        return self._told(event, verdict, describe(error), Decision())

    def of_held(self, event: ParkedEvent) -> Rehearsed:
        """An event behind one that fails."""
        return self._told(event, RehearsalVerdict.HELD, None, Decision())

    def _told(
        self, event: ParkedEvent, verdict: RehearsalVerdict, failure: Failure | None, decision: Decision
    ) -> Rehearsed:
        return Rehearsed.of(
            self._consumer,
            event,
            verdict,
            failure,
            rows=[*self._changed(decision.rows), *(_added(fact) for fact in decision.facts)],
            events=[_caused(each) for each in decision.events],
            intents=[intent.key for intent in decision.intents],
        )

    def _changed(self, rows: Sequence[Row]) -> Sequence[RowChange]:
        """The last versions, beside what was there before the event."""
        before = {row.ref: self._rows.get(row.ref) for row in rows}
        self._rows |= {row.ref: row for row in rows}
        changes = [_change(old, self._rows[ref]) for ref, old in before.items()]
        return [change for change in changes if change.after]


def _verdict(result: Result) -> RehearsalVerdict:
    match result.outcome:
        case Outcome.HANDLED | Outcome.PASSED:
            return RehearsalVerdict.SUCCEEDS
        case Outcome.DUPLICATE:
            return RehearsalVerdict.DUPLICATE
        case Outcome.HELD | Outcome.DEFERRED:
            return RehearsalVerdict.HELD
        case Outcome.PARKED | Outcome.DEAD | Outcome.REFUSED:
            illegal = result.failure is not None and result.failure.error in ILLEGAL
            return RehearsalVerdict.ILLEGAL if illegal else RehearsalVerdict.FAILS


def _change(before: Row | None, after: Row) -> RowChange:
    new = _columns(after)
    if before is None:
        return RowChange(table=after.TABLE, id=_plain(after.id), before=None, after=new)
    old = _columns(before)
    changed = [name for name in new if new[name] != old.get(name)]
    return RowChange(
        table=after.TABLE,
        id=_plain(after.id),
        before={name: old.get(name) for name in changed},
        after={name: new[name] for name in changed},
    )


def _added(fact: Fact) -> RowChange:
    return RowChange(table=fact.TABLE, id=_plain(fact.id), before=None, after=_columns(fact))


def _caused(event: Event) -> CausedEvent:
    return CausedEvent(type=wire_name(type(event)), topic=event.TOPIC, payload=_plain(event))


def _columns(row: Row | Fact) -> dict[str, Any]:
    columns: dict[str, Any] = msgspec.to_builtins(row, str_keys=True)
    return columns


def _plain(value: object) -> object:
    plain: object = msgspec.to_builtins(value, str_keys=True)
    return plain
