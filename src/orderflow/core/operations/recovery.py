"""Everything that an operator can do about parked events, each act confirmed where that is asked for, and logged."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from uuid import UUID

import msgspec

from orderflow.core.access import OPERATE
from orderflow.core.crash_points import Point, reached
from orderflow.core.envelopes import from_parked
from orderflow.core.inbox import EditedEvent, InboxState
from orderflow.core.operations.editing import changes_of, discard, put_in_place, replacement
from orderflow.core.operations.model import (
    ConfirmationNeededError,
    Content,
    DeadLetter,
    EditRefusedError,
    FieldChange,
    LetterFilter,
    LetterMissingError,
    Moment,
    NothingToReplayError,
    NothingToRepublishError,
    Rehearsed,
    Replay,
    ReplayMissingError,
    ReplayPlan,
    ReplayState,
    ReplayStateError,
    Reproduction,
    StoredLetter,
    StoredRow,
    headers_of,
)
from orderflow.core.operations.port import OperatedStore, RecoveryStore
from orderflow.core.operations.rehearsal import Rehearsal
from orderflow.core.operations.repairing import Repairs
from orderflow.core.processor import Processor
from orderflow.core.service import Row
from orderflow.core.store import Act, Changes, OutboxFilter, Plan

PAGE = 500
NAMED_MAX = 10
REHEARSE_MAX = 1_000


class Recovery:
    """One service's parked events. All calls raise StoreUnavailableError, and RecoveryError with a sentence; acts
    also ForbiddenError.

    `lag`: how many records the service's consumers are behind. `problems`: what its parts are waiting for now.
    `on_replay`: a replay is to go on. `on_discard`: this was written, and the next event of its key is due.
    `on_repair`: this was written. `new_id` makes ids that are in the order of time.

    `repairs` is what can be done where nothing is parked.
    """

    def __init__(
        self,
        processor: Processor,
        store: OperatedStore,
        *,
        lag: Callable[[], Awaitable[int]],
        problems: Callable[[], Mapping[str, str]],
        on_replay: Callable[[], None],
        on_discard: Callable[[Changes], None],
        on_repair: Callable[[Changes], None],
        new_id: Callable[[], UUID],
        two_person: bool = False,
    ) -> None:
        self.repairs = Repairs(processor, store, on_repair, new_id, two_person=two_person)
        self._processor = processor
        self._database = store
        self._lag = lag
        self._problems = problems
        self._on_replay = on_replay
        self._on_discard = on_discard

    @property
    def store(self) -> RecoveryStore:
        """What is parked, dead, and was done about it: to look at."""
        return self._database.recovery

    async def rehearse(self, chosen: LetterFilter, limit: int = REHEARSE_MAX) -> Sequence[Rehearsed]:
        """What would become of the events meant (at most `limit`), and of all that waits with them.

        Nothing is changed, published or asked. Whole sequences of each key, head first.
        """
        rehearsal = Rehearsal(self._processor, self._database)
        told: list[Rehearsed] = []
        keys = [(letter.consumer, letter.key) async for letter in self._letters(chosen, limit)]
        for consumer, key in dict.fromkeys(keys):
            told += await rehearsal.of_key(consumer, key)
        return told

    async def replay(self, chosen: LetterFilter, plan: ReplayPlan, act: Act) -> Replay:
        """Begin to give the dead events meant to their consumer again, in order, with all that waits behind them.

        Raises NothingToReplayError, ConfirmationNeededError.
        """
        OPERATE.require(act.caller)
        self._confirm(act)
        dead = msgspec.structs.replace(chosen, state=InboxState.DEAD)
        positions = [letter.position async for letter in self._letters(dead)]
        if not positions:
            raise NothingToReplayError
        replay = await self.store.begin_replay(positions, plan, act, await self._lag(), _meant(chosen))
        reached(Point.REPLAY_BEGUN)
        self._on_replay()
        return replay

    async def annotate(self, fingerprint: str, note: str, act: Act) -> None:
        """Say what is known of a group."""
        OPERATE.require(act.caller)
        await self.store.annotate(fingerprint, note, act)

    async def acknowledge_expired(self, consumer: str, act: Act) -> int:
        """The loss of these records is known and seen to; returns how many there were."""
        OPERATE.require(act.caller)
        return await self.store.acknowledge_expired(consumer, act)

    async def find_replay(self, number: int) -> Replay:
        """A replay as it stands; `why` tells what one that is under way may be waiting for.

        Raises ReplayMissingError.
        """
        replay = await self.store.replay(number)
        if replay is None:
            raise ReplayMissingError(number)
        problems = self._problems()
        if replay.state is not ReplayState.RUNNING or not replay.progress.under_way or not problems:
            return replay
        waits = "; ".join(f"{component}: {problem}" for component, problem in problems.items())
        return msgspec.structs.replace(replay, why=f"Events under way wait for as long as this lasts: {waits}")

    async def pause(self, number: int, act: Act) -> Replay:
        """Send no more of it; what is under way goes on. Raises ReplayMissingError, ReplayStateError."""
        OPERATE.require(act.caller)
        await self.find_replay(number)
        if not await self.store.pause_replay(number, act, _said_by(act)):
            raise ReplayStateError(f"The replay {number} is not running: there is nothing to pause.")
        return await self.find_replay(number)

    async def resume(self, number: int, act: Act) -> Replay:
        """Go on with one that was paused or stopped; its gates count anew, and a canary begins with 1 again.

        Raises ReplayMissingError, ReplayStateError, ConfirmationNeededError.
        """
        OPERATE.require(act.caller)
        self._confirm(act)
        await self.find_replay(number)
        if not await self.store.resume_replay(number, act):
            raise ReplayStateError(f"The replay {number} is neither paused nor stopped: there is nothing to resume.")
        self._on_replay()
        return await self.find_replay(number)

    async def republish(self, chosen: OutboxFilter, act: Act) -> int:
        """Publish again what the outbox still has of what was published; returns how many events.

        Consumers drop what they know by its id. Raises NothingToRepublishError, ConfirmationNeededError (a reason is
        always asked for).
        """
        OPERATE.require(act.caller)
        if not (act.confirmed and act.reason.strip()):
            raise ConfirmationNeededError(
                "Events are published again for every consumer: confirm it, and give a reason."
            )
        meant = _narrowed(msgspec.structs.asdict(chosen), "all that was published")
        found = await self._database.republish(chosen, act, meant)
        if not found:
            raise NothingToRepublishError
        return found

    async def preview(self, event: UUID | int, value: bytes) -> tuple[StoredLetter, Sequence[FieldChange]]:
        """The event as it stands, and what an edit would change of it; nothing is stored.

        Raises EditRefusedError, LetterMissingError.
        """
        letter = await self._letter(event)
        await self._replacement(letter, value, "")
        return letter, changes_of(letter.event.record.value, value)

    async def edit(self, event: UUID | int, value: bytes, act: Act, seen: UUID | None = None) -> StoredLetter:
        """Put another payload (JSON of the event's type) in the place of a dead event's; replay it then.

        The original is kept. `seen` is the event's id when it was looked at. Raises EditRefusedError (also if it has
        another by now), LetterMissingError, KeyBusyError, ConfirmationNeededError.
        """
        OPERATE.require(act.caller)
        self._confirm(act)
        letter = await self._letter(event)
        if seen is not None and seen != letter.event.event_id:
            raise EditRefusedError("The event was edited since you looked at it: look at it again.")
        edited = await self._replacement(letter, value, act.who)
        await put_in_place(edited, letter, act, self._database)
        return await self._letter(letter.event.position)

    async def _replacement(self, letter: StoredLetter, value: bytes, who: str) -> EditedEvent:
        history = await self.store.history(letter.event.position)
        edits = sum(entry.moment is Moment.EDITED for entry in history)
        return replacement(letter, value, edits, who, self._processor.service)

    async def discard(self, event: UUID | int, act: Act) -> None:
        """Give a parked event up for good; those behind it go on.

        Raises LetterMissingError, KeyBusyError, ConfirmationNeededError (a reason is always asked for).
        """
        OPERATE.require(act.caller)
        self._confirm(act)
        if not act.reason.strip():
            raise ConfirmationNeededError("This discards an event for good: give a reason.")
        self._on_discard(await discard(await self._letter(event), act, self._processor))

    async def reproduce(self, event: UUID | int) -> Reproduction:
        """What a test needs to make the event fail again. Reads without locks. Raises LetterMissingError."""
        stored = await self._letter(event)
        processor = self._processor
        plan, _ = processor.plan(stored.consumer, [from_parked(stored.event, processor.service.catalogue)])
        async with self._database.transaction() as tx:
            rows = (await tx.open(Plan(stored.consumer, rows=plan.rows))).rows
        return _reproduction(processor.service.name, stored, [rows[ref] for ref in sorted(rows, key=str)])

    def _confirm(self, act: Act) -> None:
        why = self._processor.service.confirm
        if why and not (act.confirmed and act.reason.strip()):
            name = self._processor.service.name
            raise ConfirmationNeededError(f"Confirm what you do about events of {name}, and give the reason: {why}.")

    async def _letter(self, event: UUID | int) -> StoredLetter:
        letter = await self.store.letter(event)
        if letter is None:
            raise LetterMissingError(event)
        return letter

    async def _letters(self, chosen: LetterFilter, limit: int = sys.maxsize) -> AsyncIterator[DeadLetter]:
        after = 0
        while limit > 0 and (page := await self.store.letters(chosen, min(PAGE, limit), after)):
            for letter in page:
                yield letter
            after = page[-1].position
            limit -= len(page)


def _reproduction(service: str, stored: StoredLetter, rows: Sequence[Row]) -> Reproduction:
    event, record = stored.event, stored.event.record
    return Reproduction(
        service=service,
        consumer=stored.consumer,
        key=event.key,
        identity=event.identity,
        event_id=str(event.event_id),
        event_type=event.event_type,
        attempts=event.attempts,
        intent=event.intent,
        error=stored.letter.error,
        message=stored.letter.message,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        record_key=Content.of(record.key),
        value=Content.of(record.value),
        headers=headers_of(record),
        rows=[_stored_row(row) for row in rows],
    )


def _stored_row(row: Row) -> StoredRow:
    kind = type(row)
    values = msgspec.to_builtins(row, str_keys=True)
    return StoredRow(type=f"{kind.__module__}:{kind.__qualname__}", values=values)


def _meant(chosen: LetterFilter) -> str:
    """Which dead events a filter means, in words for the log."""
    if chosen.events is not None:
        named = ", ".join(map(str, chosen.events[:NAMED_MAX]))
        more = len(chosen.events) - NAMED_MAX
        return f"{named} and {more} more" if more > 0 else named
    narrowed = {
        "group": chosen.fingerprint,
        "consumer": chosen.consumer,
        "topic": chosen.topic,
        "type": chosen.event_type,
        "key": chosen.key,
        "older than ms": chosen.older_than_ms,
    }
    return _narrowed(narrowed, "all that is dead")


def _narrowed(by: Mapping[str, object], everything: str) -> str:
    return ", ".join(f"{name} {value}" for name, value in by.items() if value is not None) or everything


def _said_by(act: Act) -> str:
    return f"Paused by {act.who}: {act.reason}" if act.reason else f"Paused by {act.who}."
