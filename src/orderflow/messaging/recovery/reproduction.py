"""All that is needed to make a parked event fail again elsewhere: the event, and the rows as they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from orderflow.messaging.inbox import ParkedEvent
from orderflow.messaging.incoming import from_parked
from orderflow.messaging.processor import Processor
from orderflow.messaging.recovery.port import Letter
from orderflow.messaging.rows import Row
from orderflow.messaging.store import Plan, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """A row as it stands. `type` is `module:Class` of the Row; `values` are JSON-able, by field."""

    type: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """A parked event with the rows that it touches, at the service `service`.

    `rows` are those that exist now: for an event that waits behind others, their effects are missing. An event
    that cannot be decoded, or whose handler cannot say what it touches, has none.
    """

    service: str
    consumer: str
    event: ParkedEvent
    rows: Sequence[StoredRow]


async def reproduce(letter: Letter, processor: Processor, store: Store) -> Reproduction:
    """Reads without locks. Raises StoreUnavailableError."""
    plan, _ = processor.plan(letter.consumer, [from_parked(letter.event, processor.service.catalogue)])
    async with store.transaction() as tx:
        rows = (await tx.open(Plan(letter.consumer, rows=plan.rows))).rows
    return Reproduction(
        service=processor.service.name,
        consumer=letter.consumer,
        event=letter.event,
        rows=[_stored(rows[ref]) for ref in sorted(rows, key=str)],
    )


def _stored(row: Row) -> StoredRow:
    kind = type(row)
    return StoredRow(type=f"{kind.__module__}:{kind.__qualname__}", values=msgspec.to_builtins(row, str_keys=True))
