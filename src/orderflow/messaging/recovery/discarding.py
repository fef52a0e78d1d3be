"""Giving up a parked event for good, by an operator's word: those behind it go on."""

from __future__ import annotations

from collections.abc import Sequence

from orderflow.messaging.incoming import from_parked
from orderflow.messaging.processor import Processor, Share, Work
from orderflow.messaging.recovery.errors import LetterMissingError
from orderflow.messaging.recovery.locking import LOCK_WAIT_S, SEQUENCE_MAX
from orderflow.messaging.recovery.model import StoredLetter
from orderflow.messaging.result import Result
from orderflow.messaging.store import Act, Changes, End, LogEntry, ParkedQuery, Snapshot


async def discard(letter: StoredLetter, act: Act, processor: Processor) -> Changes:
    """Returns what was written. Should the event come again, it is known.

    Raises LetterMissingError, KeyBusyError, StoreUnavailableError.
    """
    event = letter.event
    behind = 0

    def look(snapshot: Snapshot) -> Share:
        nonlocal behind
        now = next((each for each in snapshot.parked if each.event_id == event.event_id), None)
        if now is None:
            raise LetterMissingError(event.event_id)
        behind = len(snapshot.parked) - 1
        incoming = from_parked(now, processor.service.catalogue)
        return Share([incoming], () if behind else {event.key}, discarding=act)

    def finish(_: Sequence[Result], changes: Changes) -> End:
        told = f"What waits behind it goes on ({behind})." if behind else "Its key is open again."
        changes.log.append(LogEntry(act, "discard", str(event.event_id), f"Discarded. {told}"))
        return End.COMMIT

    done = await processor.process(
        Work(
            consumer=letter.consumer,
            batch=[from_parked(event, processor.service.catalogue)],
            parked=ParkedQuery([event.key], SEQUENCE_MAX, due=False),
            look=look,
            finish=finish,
            wait_s=LOCK_WAIT_S,
        )
    )
    assert done is not None
    return done.changes
