"""A bug that is no slip in a line: dedupe in a transaction of its own. The others are in tests/zoo."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from orderflow.core.engine import Engine
from orderflow.core.service import Service
from orderflow.core.store import Changes, End, Plan, Snapshot, Transaction
from orderflow.core.testing.store import MemoryStore
from orderflow.core.transport import Transport


@dataclass
class DedupesApart:
    """Bug: the inbox rows are committed in a transaction of their own, before the effect is."""

    inner: Transaction
    store: MemoryStore

    async def open(self, plan: Plan) -> Snapshot:
        return await self.inner.open(plan)

    async def commit(self, changes: Changes, end: End = End.COMMIT) -> None:
        async with self.store.transaction() as own:
            await own.open(Plan(changes.consumer, [(entry.key, entry.identity) for entry in changes.inbox]))
            await own.commit(Changes(consumer=changes.consumer, inbox=changes.inbox))
        await self.inner.commit(replace(changes, inbox=[]), end)


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
