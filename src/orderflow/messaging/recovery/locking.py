"""How operators' acts take their turn among live traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orderflow.messaging.identity import lock_id
from orderflow.messaging.inbox import ParkedEvent
from orderflow.messaging.recovery.errors import KeyBusyError
from orderflow.messaging.store import Transaction

LOCK_WAIT_S = 2.0
SEQUENCE_MAX = 10_000


async def lock_within(tx: Transaction, locks: Sequence[int], key: str, wait_s: float) -> None:
    """Take the locks of an event of `key`. Raises KeyBusyError when they are not free within `wait_s`."""
    try:
        async with asyncio.timeout(wait_s):
            await tx.lock(locks)
    except TimeoutError as error:
        raise KeyBusyError(key) from error


async def locked_sequence(tx: Transaction, consumer: str, key: str) -> Sequence[ParkedEvent]:
    """What is parked of the key, head first, under its lock. Raises KeyBusyError."""
    await lock_within(tx, [lock_id(key)], key, LOCK_WAIT_S)
    return await tx.sequence(consumer, key, SEQUENCE_MAX)
