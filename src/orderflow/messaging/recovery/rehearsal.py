"""What today's code would make of parked events: the real way in, taken back at its end.

A rehearsal locks, recognises, loads, decides and writes as a retry does, in a transaction that always rolls back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NoReturn

from msgspec.structs import replace

from orderflow.messaging.failures import INFRASTRUCTURE, InfrastructureError, describe
from orderflow.messaging.inbox import ParkedEvent
from orderflow.messaging.incoming import from_parked
from orderflow.messaging.inlet import Inlet
from orderflow.messaging.recovery.errors import KeyBusyError
from orderflow.messaging.recovery.locking import LOCK_WAIT_S, SEQUENCE_MAX, lock_within
from orderflow.messaging.recovery.model import RehearsalVerdict, Rehearsed
from orderflow.messaging.recovery.prediction import Prediction
from orderflow.messaging.retrier import DRAIN_MAX
from orderflow.messaging.store import DataRefusedError, Store, Transaction

LOCK_WAIT_MIN_S = 0.02
TRIES_MAX = 4


class _RolledBackError(Exception):
    """Ends the transaction of a rehearsal: nothing of it stays."""


class Rehearsal:
    """One operator's question. Its waits for the locks of live traffic are bounded by LOCK_WAIT_S in all."""

    def __init__(self, inlet: Inlet, store: Store) -> None:
        self._inlet = inlet
        self._store = store
        self._wait_s = LOCK_WAIT_S

    async def of_key(self, consumer: str, key: str) -> Sequence[Rehearsed]:
        """Everything that is parked of a key, head first, as the retrier would take it now."""
        passage = _Passage(self._inlet, consumer, singly_from=SEQUENCE_MAX)
        why: Exception = KeyBusyError(key)
        for _ in range(TRIES_MAX):
            try:
                async with self._store.transaction() as tx:
                    await self._try(tx, passage, key)
            except _RolledBackError:
                if passage.ended:
                    return passage.told
            except DataRefusedError:
                passage = _Passage(self._inlet, consumer, singly_from=passage.place)
            except (KeyBusyError, InfrastructureError) as error:
                why = error
                break
        return [_busy(consumer, event, why) for event in passage.events]

    async def _try(self, tx: Transaction, passage: _Passage, key: str) -> NoReturn:
        if await self._locked(tx, passage, key):
            await passage.carry(tx)
        raise _RolledBackError

    async def _locked(self, tx: Transaction, passage: _Passage, key: str) -> bool:
        """Take the locks; whether what is parked is still what they were chosen for."""
        locks = passage.take(await tx.sequence(passage.consumer, key, SEQUENCE_MAX))
        loop = asyncio.get_running_loop()
        started = loop.time()
        await lock_within(tx, locks, key, max(self._wait_s, LOCK_WAIT_MIN_S))
        self._wait_s -= loop.time() - started
        return await tx.sequence(passage.consumer, key, SEQUENCE_MAX) == passage.events


class _Passage:
    """The parked events of one key on their way in.

    As the retrier does, it takes DRAIN_MAX events at a time, and from the place on where the database has refused
    such a part (`singly_from`) one by one: so the culprit is found, and is alone to fail.
    """

    def __init__(self, inlet: Inlet, consumer: str, singly_from: int) -> None:
        self.consumer = consumer
        self.events: Sequence[ParkedEvent] = ()
        self.place = 0
        self.told: list[Rehearsed] = []
        self.ended = False
        self._inlet = inlet
        self._singly_from = singly_from

    def take(self, events: Sequence[ParkedEvent]) -> Sequence[int]:
        """These are to be carried in; returns the locks that they need."""
        self.events = events
        self._batch = [from_parked(event, self._inlet.service.catalogue) for event in events]
        self._touched, self._failures, locks = self._inlet.touch(self._batch, {})
        return locks

    async def carry(self, tx: Transaction) -> None:
        """Raises DataRefusedError: the part at `place` was refused, and is to be taken one by one."""
        prediction = Prediction(self.consumer, await tx.load(self._touched))
        while self.place < len(self.events) and not prediction.failed:
            size = 1 if self.place >= self._singly_from else DRAIN_MAX
            part = self.events[self.place : self.place + size]
            try:
                self.told += await self._carry(tx, prediction, part)
            except DataRefusedError as error:
                if size > 1:
                    raise
                self.told.append(prediction.of_refusal(part[0], error))
            self.place += len(part)
        self.told += [prediction.of_held(event) for event in self.events[self.place :]]
        self.ended = True

    async def _carry(self, tx: Transaction, prediction: Prediction, part: Sequence[ParkedEvent]) -> list[Rehearsed]:
        batch = self._batch[self.place : self.place + len(part)]
        last = self.place + len(part) == len(self.events)
        whole = {batch[0].key} if last else ()
        results, _ = await self._inlet.carry(tx, self.consumer, batch, self._touched, self._failures, whole=whole)
        return [prediction.of(event, result) for event, result in zip(part, results, strict=True)]


def _busy(consumer: str, event: ParkedEvent, why: Exception) -> Rehearsed:
    return Rehearsed.of(consumer, event, RehearsalVerdict.BUSY, replace(describe(why), kind=INFRASTRUCTURE))
