"""Giving up a parked event for good, by an operator's word: those behind it go on."""

from __future__ import annotations

from orderflow.messaging.incoming import from_parked
from orderflow.messaging.inlet import Inlet
from orderflow.messaging.recovery.errors import LetterMissingError
from orderflow.messaging.recovery.locking import locked_sequence
from orderflow.messaging.recovery.port import Letter
from orderflow.messaging.store import Changes, Store


async def discard(letter: Letter, inlet: Inlet, store: Store) -> tuple[Changes, int]:
    """What was written, and how many events are left of its key.

    Should the event come again, it is known. Raises LetterMissingError, KeyBusyError, StoreUnavailableError.
    """
    async with store.transaction() as tx:
        waiting = await locked_sequence(tx, letter.consumer, letter.event.key)
        now = next((event for event in waiting if event.event_id == letter.event.event_id), None)
        if now is None:
            raise LetterMissingError(letter.event.event_id)
        incoming = from_parked(now, inlet.service.catalogue)
        changes = await inlet.discard(tx, letter.consumer, incoming, reopens=len(waiting) == 1)
    return changes, len(waiting) - 1
