"""A bug that is no slip in a line: dedupe in a transaction of its own. The others are in tests/zoo."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from orderflow.messaging.decision import Service
from orderflow.messaging.engine import Engine
from orderflow.messaging.inbox import ParkedEvent
from orderflow.messaging.rows import Ref, Row
from orderflow.messaging.store import DEPTH_LIMIT, Changes, Recognition, Transaction
from orderflow.messaging.stores.memory.store import MemoryStore
from orderflow.messaging.transport import Transport


@dataclass
class DedupesApart:
    """Bug: the inbox rows are committed in a transaction of their own, before the effect is."""

    inner: Transaction
    store: MemoryStore

    async def lock(self, locks: Sequence[int]) -> None:
        await self.inner.lock(locks)

    async def recognise(
        self, consumer: str, messages: Sequence[tuple[str, str | None]], depth_limit: int = DEPTH_LIMIT
    ) -> Recognition:
        return await self.inner.recognise(consumer, messages, depth_limit)

    async def load(self, refs: Iterable[Ref]) -> dict[Ref, Row]:
        return await self.inner.load(refs)

    async def parked(self, consumer: str, keys: Sequence[str], limit: int) -> Sequence[ParkedEvent]:
        return await self.inner.parked(consumer, keys, limit)

    async def write(self, changes: Changes) -> None:
        async with self.store.transaction() as own:
            await own.recognise(changes.consumer, [(entry.key, entry.identity) for entry in changes.inbox])
            await own.write(Changes(consumer=changes.consumer, inbox=changes.inbox))
        await self.inner.write(replace(changes, inbox=[]))


class DedupesApartStore:
    """Everything else is the store that it wraps."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[DedupesApart]:
        async with self._store.transaction() as inner:
            yield DedupesApart(inner, self._store)


class DedupesApartEngine(Engine):
    def __init__(self, service: Service, store: MemoryStore, transport: Transport, **others: Any) -> None:
        apart: Any = DedupesApartStore(store)
        super().__init__(service, apart, transport, **others)
