"""The one way in: lock, recognise, load, decide, write, commit, for a batch of any size.

Consumed records, commands, answers and parked events all take it. A crash can only fall between two of its
steps, and leaves nothing or everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import UUID

from orderflow.messaging.clock import Clock
from orderflow.messaging.decision import Service
from orderflow.messaging.fold import Fold, Policy, Result
from orderflow.messaging.identity import lock_id
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.report import handled
from orderflow.messaging.rows import Ref
from orderflow.messaging.signals import BatchCommitted, BatchSplit, Outcome, Signals
from orderflow.messaging.store import Changes, DataRefusedError, Store, Transaction

Failures = Mapping[UUID, Exception]
Touched = Mapping[UUID, Sequence[Ref]]


class Inlet:
    """Admits batches into one service's database. Calls may run side by side: the locks keep them apart.

    `on_commit` is called with what each committed batch has written.
    """

    def __init__(
        self,
        service: Service,
        store: Store,
        policy: Policy,
        signals: Signals,
        clock: Clock,
        on_commit: Callable[[Changes], None] = lambda _: None,
    ) -> None:
        self.service = service
        self._store = store
        self._policy = policy
        self._signals = signals
        self._clock = clock
        self._on_commit = on_commit

    async def admit(self, consumer: str, batch: Sequence[Incoming]) -> list[Result]:
        """Carry the batch in; one result a message, in order. Order within a key is kept.

        Data that the database refuses is singled out by halving the batch, and fails alone. Raises
        StoreUnavailableError; what was committed by then is recognised when the batch comes again.
        """
        if all(self._is_passed_over(incoming) for incoming in batch):
            return self._pass_over(consumer, batch)
        try:
            return await self._transact(consumer, batch, {})
        except DataRefusedError as error:
            return await self._single_out(consumer, batch, error)

    async def carry(
        self,
        tx: Transaction,
        consumer: str,
        batch: Sequence[Incoming],
        touched: Touched,
        failures: Failures,
        *,
        reopens: bool = False,
    ) -> tuple[list[Result], Changes]:
        """The steps between lock and commit. `reopens`: the batch is all that is parked of its key."""
        recognition = await tx.recognise(consumer, [(m.key, m.identity) for m in batch])
        working = await tx.load({ref for m in batch for ref in touched[m.event_id]})
        fold = Fold(self.service, consumer, recognition, working, self._policy, failures)
        results = [fold.take(incoming) for incoming in batch]
        if reopens and len(fold.changes.released) == len(batch):
            fold.reopen(batch[-1])
        await tx.write(fold.changes)
        return results, fold.changes

    def touch(self, batch: Iterable[Incoming], failures: Failures) -> tuple[Touched, Failures, list[int]]:
        """The rows that each message touches, messages that cannot tell, and all locks in the order to take."""
        touched: dict[UUID, Sequence[Ref]] = {}
        failed = dict(failures)
        locks: set[int] = set()
        for incoming in batch:
            locks.add(lock_id("key", incoming.key))
            touched[incoming.event_id] = refs = self._refs(incoming, failed)
            locks.update(lock_id(ref.type.TABLE, ref.id) for ref in refs if str(ref.id) != incoming.key)
        return touched, failed, sorted(locks)

    def tell(self, consumer: str, results: Sequence[Result], changes: Changes | None, duration_s: float) -> None:
        """After the commit: hand on what was written, and signal."""
        if changes is not None:
            self._on_commit(changes)
        told = [handled(result) for result in results]
        self._signals.emit(BatchCommitted(self.service.name, consumer, told, duration_s))

    async def _transact(self, consumer: str, batch: Sequence[Incoming], failures: Failures) -> list[Result]:
        started = self._clock.monotonic()
        touched, failures, locks = self.touch(batch, failures)
        async with self._store.transaction() as tx:
            await tx.lock(locks)
            results, changes = await self.carry(tx, consumer, batch, touched, failures)
        self.tell(consumer, results, changes, self._clock.monotonic() - started)
        return results

    async def _single_out(self, consumer: str, batch: Sequence[Incoming], error: DataRefusedError) -> list[Result]:
        """Halve by key until the culprit stands alone; then it fails in a transaction of its own."""
        if len(batch) == 1:
            return await self._transact(consumer, batch, {batch[0].event_id: error})
        self._signals.emit(BatchSplit(self.service.name, consumer, len(batch), str(error)))
        keys = list(dict.fromkeys(incoming.key for incoming in batch))
        first_keys = set(keys[: max(1, len(keys) // 2)])
        parts = (
            [[i for i in batch if i.key in first_keys], [i for i in batch if i.key not in first_keys]]
            if len(keys) > 1
            else [batch[:1], batch[1:]]
        )
        by_id: dict[int, Result] = {}
        for part in parts:
            for incoming, result in zip(part, await self.admit(consumer, part), strict=True):
                by_id[id(incoming)] = result
        return [by_id[id(incoming)] for incoming in batch]

    def _refs(self, incoming: Incoming, failed: dict[UUID, Exception]) -> Sequence[Ref]:
        if incoming.envelope is None:
            return ()
        handler = self.service.handlers.get(type(incoming.envelope.message))
        if handler is None:
            return ()
        try:
            return tuple(handler.touches(incoming.envelope.message))
        except Exception as error:  # noqa: BLE001  # a service's own code failed over this message: it fails, alone
            failed[incoming.event_id] = error
            return ()

    def _is_passed_over(self, incoming: Incoming) -> bool:
        return incoming.envelope is not None and type(incoming.envelope.message) not in self.service.handlers

    def _pass_over(self, consumer: str, batch: Sequence[Incoming]) -> list[Result]:
        results = [Result(incoming, Outcome.PASSED) for incoming in batch]
        self.tell(consumer, results, None, 0.0)
        return results
