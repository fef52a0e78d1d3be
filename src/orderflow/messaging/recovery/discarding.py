"""Giving up a parked event for good, by an operator's word: those behind it go on."""

from __future__ import annotations

from orderflow.messaging.incoming import from_parked
from orderflow.messaging.inlet import Inlet
from orderflow.messaging.recovery.errors import LetterMissingError
from orderflow.messaging.recovery.locking import locked_sequence
from orderflow.messaging.recovery.model import StoredLetter
from orderflow.messaging.store import Act, Changes, LogEntry, Store


async def discard(letter: StoredLetter, act: Act, inlet: Inlet, store: Store) -> Changes:
    """Returns what was written. Should the event come again, it is known.

    Raises LetterMissingError, KeyBusyError, StoreUnavailableError.
    """
    async with store.transaction() as tx:
        waiting = await locked_sequence(tx, letter.consumer, letter.event.key)
        now = next((event for event in waiting if event.event_id == letter.event.event_id), None)
        if now is None:
            raise LetterMissingError(letter.event.event_id)
        incoming = from_parked(now, inlet.service.catalogue)
        left = len(waiting) - 1
        changes = await inlet.discard(tx, letter.consumer, incoming, act, reopens=not left)
        result = f"Discarded. What waits behind it goes on ({left})." if left else "Discarded. Its key is open again."
        entry = LogEntry(act, "discard", str(now.event_id), result)
        await tx.write(Changes(consumer=letter.consumer, log=[entry]))
    return changes
