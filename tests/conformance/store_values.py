"""Short ways to make what stores are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from msgspec.structs import replace

from orderflow.core.identity import NAMESPACE, slot_of
from orderflow.core.inbox import Failure, InboxEntry, InboxState, ParkedEvent
from orderflow.core.service import Intent, Ref, Row
from orderflow.core.store import Changes, OpenIntent, OutboxRecord, ParkedQuery, Plan, Store, Transaction
from orderflow.core.transport import ConsumerRecord

CONSUMER = "shop"
FAILURE = Failure("decision", "KeyError", "no such thing", "KeyError@model.py:7")


def event_id(name: str) -> UUID:
    return uuid5(NAMESPACE, name)


def entry(key: str, identity: str, state: InboxState = InboxState.DONE) -> InboxEntry:
    return InboxEntry(key, identity, event_id(f"{key}/{identity}"), state)


def changes(**fields: Any) -> Changes:
    return Changes(consumer=CONSUMER, **fields)


def outgoing(key: str, value: bytes | None = b"{}", slots: int = 16) -> OutboxRecord:
    return OutboxRecord(
        topic="parcel-events",
        key=key.encode(),
        value=value,
        headers=(("ce_type", b"Sent"), ("empty", b""), ("none", None), ("ce_type", b"again")),
        event_id=event_id(f"{key}/{value!r}"),
        slot=slot_of(key.encode(), slots),
    )


def parked(key: str, identity: str, **fields: Any) -> ParkedEvent:
    """A failed head by default; held with `attempts=0`."""
    attempts = fields.pop("attempts", 1)
    return ParkedEvent(
        key=key,
        identity=identity,
        event_id=event_id(f"{key}/{identity}"),
        event_type="Sent.v1",
        record=ConsumerRecord("parcels", 3, 41, key.encode(), b"\x00\xff", (("a", None), ("b", b"\xfe")), 1234),
        attempts=attempts,
        failure=FAILURE if attempts else None,
        **fields,
    )


def intent(name: str, **fields: Any) -> OpenIntent:
    request = {"amount": 1250, "currency": "EUR", "nested": {"list": [1, None, "ä"]}}
    return OpenIntent(
        intent=Intent(key=f"charge:{name}", kind="charge", request=request),
        key=name,
        cause=event_id(name),
        traceparent="00-1-2-01",
        **fields,
    )


def as_given(event: ParkedEvent) -> ParkedEvent:
    """Without what the store adds."""
    return replace(event, position=0, first_failed_at=None)


async def commit(store: Store, batch: Changes) -> None:
    """Write in a transaction of its own, recognising first, as the way in does."""
    async with store.transaction() as tx:
        entries = [(each.key, each.identity) for each in batch.inbox]
        await tx.open(Plan(batch.consumer, [*entries, *((key, None) for _, key in batch.emitted)]))
        await tx.commit(batch)


async def waiting(
    tx: Transaction, *keys: str, limit: int = 1, due: bool = False, consumer: str = CONSUMER
) -> Sequence[ParkedEvent]:
    """What is parked of the keys, as the unit of work sees it."""
    return (await tx.open(Plan(consumer, parked=ParkedQuery(keys, limit, due)))).parked


async def load(store: Store, *refs: Ref) -> Mapping[Ref, Row]:
    """The rows that exist."""
    async with store.transaction() as tx:
        return (await tx.open(Plan(CONSUMER, rows=refs))).rows


async def park(store: Store, *events: ParkedEvent) -> None:
    """Park new events with their inbox rows."""
    inbox = [InboxEntry(event.key, event.identity, event.event_id, event.state) for event in events]
    await commit(store, changes(parked=list(events), inbox=inbox))


async def queue(store: Store, key: str, limit: int = 100) -> list[str]:
    """The identities of what `parked` gives."""
    async with store.transaction() as tx:
        return [event.identity for event in await waiting(tx, key, limit=limit, due=True)]


def dead(key: str, identity: str, **fields: Any) -> ParkedEvent:
    """One that was given up after 6 attempts."""
    return parked(key, identity, state=InboxState.DEAD, **{"attempts": 6, **fields})


async def sequence(store: Store, key: str, limit: int = 100) -> Sequence[ParkedEvent]:
    """What is parked of a key."""
    async with store.transaction() as tx:
        return await waiting(tx, key, limit=limit)


async def end(store: Store, key: str, state: InboxState = InboxState.DONE) -> None:
    """The head of a key is handled (or discarded) and waits no longer."""
    async with store.transaction() as tx:
        (head,) = await waiting(tx, key)
        entry = InboxEntry(key, head.identity, head.event_id, state)
        await tx.commit(changes(inbox=[entry], released=[head.position]))


async def fail(store: Store, key: str, failure: Failure = FAILURE, state: InboxState = InboxState.DEAD) -> None:
    """The head of a key fails once more."""
    async with store.transaction() as tx:
        (head,) = await waiting(tx, key)
        await tx.commit(changes(reparked=[replace(head, state=state, attempts=head.attempts + 1, failure=failure)]))
