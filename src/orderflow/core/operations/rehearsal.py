"""What today's code would make of parked events: the real way in, taken back at its end.

A rehearsal is a retry of all that is parked of a key, which ends with ROLLBACK: the database has checked
everything. Its report says what would become of each event, and what that would change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from orderflow.core.envelopes import Incoming, Result, from_parked
from orderflow.core.failures import INFRASTRUCTURE, InfrastructureError, describe
from orderflow.core.inbox import Failure, ParkedEvent
from orderflow.core.messages import Event, wire_name
from orderflow.core.operations.editing import LOCK_WAIT_S, SEQUENCE_MAX
from orderflow.core.operations.model import CausedEvent, RehearsalVerdict, Rehearsed, RowChange
from orderflow.core.processor import KeyBusyError, Processor, Share, Work
from orderflow.core.service import Decision, Fact, IllegalTransitionError, Ref, Row
from orderflow.core.store import DataRefusedError, End, ParkedQuery, Plan, Snapshot, Store, TransitionRefusedError
from orderflow.core.telemetry import Outcome

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
        case Outcome.HANDLED | Outcome.IGNORED:
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


LOCK_WAIT_MIN_S = 0.02
TRIES_MAX = 4


class _ChangedError(Exception):
    """What is parked is not what the locks were chosen for."""


class Rehearsal:
    """One operator's question. Its waits for the locks of live traffic are bounded by LOCK_WAIT_S in all."""

    def __init__(self, processor: Processor, store: Store) -> None:
        self._processor = processor
        self._store = store
        self._wait_s = LOCK_WAIT_S
        self._asked_at = 0.0

    async def of_key(self, consumer: str, key: str) -> Sequence[Rehearsed]:
        """Everything that is parked of a key, head first, as the retrier would take it now."""
        events: Sequence[ParkedEvent] = ()
        why: Exception = KeyBusyError(key)
        for _ in range(TRIES_MAX):
            try:
                events = await self._sequence(consumer, key)
                return await self._tell(consumer, events)
            except _ChangedError:
                continue
            except KeyBusyError as error:
                self.opened()
                why = error
                break
            except InfrastructureError as error:
                why = error
                break
        return [_busy(consumer, event, why) for event in events]

    async def _sequence(self, consumer: str, key: str) -> Sequence[ParkedEvent]:
        async with self._store.transaction() as tx:
            found = await tx.open(Plan(consumer, parked=ParkedQuery([key], SEQUENCE_MAX, due=False)))
        return found.parked

    async def _tell(self, consumer: str, events: Sequence[ParkedEvent]) -> Sequence[Rehearsed]:
        if not events:
            return ()
        passage = _Passage(self, consumer, events)
        try:
            results = await passage.carry(len(events))
            return passage.told(results)
        except DataRefusedError as error:
            return await passage.find(error)

    async def carry(self, work: Work) -> Sequence[Result]:
        """Raises DataRefusedError, KeyBusyError, InfrastructureError, StoreUnavailableError."""
        self._asked_at = asyncio.get_running_loop().time()
        done = await self._processor.process(work, End.ROLLBACK)
        assert done is not None
        return done.results

    def opened(self) -> None:
        """It has its locks."""
        self._wait_s -= asyncio.get_running_loop().time() - self._asked_at

    @property
    def wait_s(self) -> float:
        """What is left of the patience with live traffic."""
        return max(self._wait_s, LOCK_WAIT_MIN_S)

    def incoming(self, event: ParkedEvent) -> Incoming:
        return from_parked(event, self._processor.service.catalogue)


class _Passage:
    """The parked events of one key on their way in, all of them or those before a place."""

    def __init__(self, rehearsal: Rehearsal, consumer: str, events: Sequence[ParkedEvent]) -> None:
        self._rehearsal = rehearsal
        self._consumer = consumer
        self._events = events
        self._batch = [rehearsal.incoming(event) for event in events]
        self._before: Snapshot = Snapshot()

    async def carry(self, count: int) -> Sequence[Result]:
        """The first `count` of them. Raises as `Rehearsal.carry`, _ChangedError."""
        batch = self._batch[:count]
        return await self._rehearsal.carry(
            Work(
                consumer=self._consumer,
                batch=batch,
                parked=ParkedQuery([self._events[0].key], SEQUENCE_MAX, due=False),
                select=lambda snapshot: self._look(snapshot, batch),
                wait_s=self._rehearsal.wait_s,
            )
        )

    async def find(self, error: DataRefusedError) -> Sequence[Rehearsed]:
        """The database refuses them together and names nobody: the shortest run from the head that it refuses ends
        with the culprit, who fails alone. Those behind it would be held.
        """
        good, bad = 0, len(self._batch)
        results: Sequence[Result] = ()
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                results = await self.carry(middle)
            except DataRefusedError as again:
                bad, error = middle, again
                continue
            if any(result.failure for result in results):
                # So few of them that the database gives the culprit away.
                return self.told(results)
            good = middle
        return self.told(results, error)

    def told(self, results: Sequence[Result], refused: DataRefusedError | None = None) -> Sequence[Rehearsed]:
        """What became of the first ones, of the one that was `refused` behind them, and of the others."""
        prediction = Prediction(self._consumer, self._before.rows)
        told = [prediction.of(event, result) for event, result in zip(self._events, results, strict=False)]
        if refused is not None:
            told.append(prediction.of_refusal(self._events[len(told)], refused))
        return [*told, *map(prediction.of_held, self._events[len(told) :])]

    def _look(self, snapshot: Snapshot, batch: Sequence[Incoming]) -> Share:
        self._rehearsal.opened()
        if list(snapshot.parked) != list(self._events):
            raise _ChangedError
        self._before = snapshot
        return Share(batch, {batch[0].key} if len(batch) == len(self._events) else ())


def _busy(consumer: str, event: ParkedEvent, why: Exception) -> Rehearsed:
    return Rehearsed.of(consumer, event, RehearsalVerdict.BUSY, replace(describe(why), kind=INFRASTRUCTURE))
