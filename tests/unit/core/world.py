"""One process of the toy service over a database in memory, and what tests look at it with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

from msgspec.structs import replace

from orderflow.core import envelopes
from orderflow.core.decisions import Policy
from orderflow.core.envelopes import Incoming, Result, from_command, from_record
from orderflow.core.inbox import ParkedEvent
from orderflow.core.messages import Envelope, Message
from orderflow.core.processor import Processor
from orderflow.core.retry import Backoff, RetryPolicy
from orderflow.core.service import Ref
from orderflow.core.store import Act, Changes, DataRefusedError, End, OpenIntent, OutboxRecord, StoreUnavailableError
from orderflow.core.telemetry import BatchCommitted, Outcome, Signal, Signals
from orderflow.core.testing import bench
from orderflow.core.testing.state import MemoryDatabase
from orderflow.core.testing.store import MemoryStore
from orderflow.core.testing.transaction import MemoryTransaction
from orderflow.core.timing import Clock, SystemClock
from orderflow.core.transport import ConsumerRecord, Headers
from tests.unit.core.toy import Counted, Moods, Opened, Put, Said, Tally, refuse_666, toy_service

SOURCE = "/toy/counter"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def record_of(
    event: Message, *, offset: int, event_id: UUID | None = None, trace: str | None = None, sequence: int = 1
) -> ConsumerRecord:
    """As another service would have published it."""
    envelope = Envelope(
        id=event_id or uuid4(),
        message=event,
        source=SOURCE,
        key=event.key,
        sequence=sequence,
        traceparent=trace,
    )
    return bench.record_of(envelope, "counts", offset, 1_700_000_000_123)


def poisoned(offset: int, *, key: bytes | None, value: bytes | None, headers: Headers = ()) -> ConsumerRecord:
    return ConsumerRecord("counts", 0, offset, key, value, headers)


def command(name: str = "k", total: int = 1, act: Act | None = None) -> Incoming:
    """As a caller sends it."""
    return from_command(Put(name=name, total=total), "/orderflow/counter", None, uuid4(), act)


class PickyStore(MemoryStore):
    """Refuses to write what `refuses` says."""

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self.refuses: Callable[[Changes], bool] = lambda _: False

    def transaction(self) -> MemoryTransaction:
        made = super().transaction()
        commit = made.commit

        async def picky(changes: Changes, end: End = End.COMMIT) -> None:
            if self.refuses(changes):
                raise DataRefusedError("this database takes nothing of the kind")
            await commit(changes, end)

        made.commit = picky  # type: ignore[method-assign]
        return made


def _as_noted(message: Message | None) -> str:
    match message:
        case Counted():
            return f"{message.name}{message.amount:+}"
        case Opened():
            return "opened"
        case Said():
            return message.words
    return ""


class World:
    """One process of the toy service over a database in memory."""

    def __init__(
        self,
        *,
        attempts_max: int = 3,
        retry_ms: float = 0,
        away_ms: float = 0,
        parked_keys_max: int = 1_000,
        parked_depth_max: int = 1_000,
        clock: Clock | None = None,
        encoding: str = "utf-8",
    ) -> None:
        self.moods = Moods()
        self.clock: Clock = clock or SystemClock()
        self.seen: list[Signal] = []
        self.signals = Signals([self.seen.append, self._note])
        self.steps: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.database = MemoryDatabase(
            self.clock, checks=(refuse_666,), stepwise=(Tally,), encoding=encoding, gate=self._gate
        )
        self.store = PickyStore(self.database)
        self.service = toy_service(self.moods)
        self.policy = Policy(
            retry=RetryPolicy(Backoff(retry_ms, retry_ms), attempts_max),
            away=Backoff(away_ms, away_ms),
            ask_again=Backoff(1, 1),
            rng=random.Random(7),
            slots=16,
            lease_ms=60_000,
            release="1.2.3",
            parked_keys_max=parked_keys_max,
            parked_depth_max=parked_depth_max,
        )
        self.committed: list[Changes] = []
        self.processor = Processor(
            self.service, self.store, self.policy, self.signals, self.clock, self.committed.append
        )
        self._offset = 0

    def _note(self, signal: Signal) -> None:
        if isinstance(signal, BatchCommitted):
            done = [each.message for each in signal.handled if each.outcome is Outcome.HANDLED]
            self.moods.handled += [said for said in map(_as_noted, done) if said]

    async def _gate(self, step: str) -> None:
        self.steps.append(step)
        await asyncio.sleep(0)
        error = self.failing.pop(step, None)
        if error is not None:
            raise error

    def lose(self, step: str) -> None:
        """The next time that `step` is reached, the database does not answer."""
        self.failing[step] = StoreUnavailableError(f"lost at {step}")

    def read(self, event: Message, **how: Any) -> Incoming:
        """The event as the next record of its topic."""
        self._offset += 1
        return from_record(record_of(event, offset=self._offset, **how), self.service.catalogue)

    async def admit(self, *events: Message | Incoming) -> list[Result]:
        batch = [event if isinstance(event, Incoming) else self.read(event) for event in events]
        return await self.processor.admit("counter", batch)

    def total(self, name: str) -> int | None:
        row = self.database.state.rows.get(Ref(Tally, name))
        return row.total if isinstance(row, Tally) else None

    def outbox(self, topic: str | None = None) -> list[OutboxRecord]:
        rows = self.database.state.outbox.values()
        return [row for row in rows if topic is None or row.topic == topic]

    def flow(self) -> list[str]:
        """What was said on `flow-status`: (kind, key) in order."""
        return [
            f"{header(row.headers, 'ce_type').split('.')[1]} {(row.key or b'').decode()}"
            for row in self.outbox("flow-status")
        ]

    def parked(self) -> list[ParkedEvent]:
        return [waiting.event for waiting in self.database.state.parked.values()]

    def intents(self) -> dict[str, OpenIntent]:
        return {key: asked.intent for key, asked in self.database.state.intents.items()}

    def states(self) -> dict[tuple[str, str], str]:
        """The inbox: (key, identity) → state."""
        return {(e.key, e.identity): e.state.name for e in self.database.state.inbox.values()}

    def signals_of(self, kind: type[Signal]) -> list[Any]:
        return [signal for signal in self.seen if isinstance(signal, kind)]


def header(headers: Headers, name: str) -> str:
    return envelopes.header_text(headers, name)


def outcomes(results: Sequence[Result]) -> list[Outcome]:
    return [result.outcome for result in results]


def as_record(row: OutboxRecord, offset: int = 0) -> ConsumerRecord:
    """What a reader would get of an outbox row."""
    record = ConsumerRecord(row.topic, 0, offset, row.key, row.value, row.headers)
    return replace(record, headers=envelopes.with_time(row.headers, row.created_at))
