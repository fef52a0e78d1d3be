"""A new payload in the place of the one that fails, or none: an edit, and a discard, for a parked event."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from orderflow.core import envelopes
from orderflow.core.decisions import VALUE_MAX
from orderflow.core.envelopes import Result, from_parked, from_record
from orderflow.core.failures import shown
from orderflow.core.identity import lock_id, uuid5, uuid_text
from orderflow.core.inbox import EditedEvent, InboxEntry, InboxState, ParkedEvent
from orderflow.core.messages import MALFORMED, Catalogue, Event, UndecodableError
from orderflow.core.operations.model import EditRefusedError, FieldChange, LetterMissingError, StoredLetter
from orderflow.core.processor import Processor, Share, Work, open_within
from orderflow.core.service import Service
from orderflow.core.store import Act, Changes, End, LogEntry, ParkedQuery, Plan, Snapshot, Store
from orderflow.core.transport import ConsumerRecord, Headers

LOCK_WAIT_S = 2.0
SEQUENCE_MAX = 10_000


SEQUENCE_DIGITS_MAX = 18
CHANGES_LOGGED_MAX = 20
VALUE_SHOWN_MAX = 200
NOTHING = "nothing"


def changes_of(before: bytes | None, after: bytes) -> Sequence[FieldChange]:
    """Field by field where both are JSON, in the order of the names; else the whole value."""
    old, new = _fields_of(before), _fields_of(after)
    names = sorted(old.keys() | new.keys()) if old is not None and new is not None else []
    found = [
        FieldChange(name, _cut(old.get(name)), _cut(new.get(name)))
        for name in names
        if old is not None and new is not None and old.get(name) != new.get(name)
    ]
    return found or [FieldChange("", _cut(_text(before)), _cut(_text(after)))]


def replacement(letter: StoredLetter, value: bytes, edits: int, who: str, service: Service) -> EditedEvent:
    """The event with another payload, and an id that tells it from its `edits` predecessors.

    The type, the key, what the service takes on trust and every header that is not an attribute of the event stay.
    Raises EditRefusedError.
    """
    event, catalogue = letter.event, service.catalogue
    _require_editable(event, value)
    message = _decoded(event, value, catalogue)
    if message.key != event.key:
        raise EditRefusedError(
            f"An edit cannot change the key: it is {event.key!r}, the new payload's {message.key!r}."
        )
    _require_trusted(letter.original or event.record, message, service)
    original = letter.original_id or event.event_id
    event_id = uuid5(f"edited\n{uuid_text(original)}\n{edits + 1}")
    headers = _headers(event, uuid_text(event_id))
    record = type(event.record)(
        topic=event.record.topic,
        partition=event.record.partition,
        offset=event.record.offset,
        key=event.record.key,
        value=value,
        headers=headers,
        timestamp=event.record.timestamp,
    )
    incoming = from_record(record, catalogue)
    if incoming.problem is not None:
        raise EditRefusedError(f"The edited event could not be read: {incoming.problem.detail}.")
    return EditedEvent(
        position=event.position,
        event_id=event_id,
        identity=incoming.identity,
        event_type=incoming.event_type,
        record=record,
        who=who,
    )


async def put_in_place(edited: EditedEvent, letter: StoredLetter, act: Act, store: Store) -> None:
    """The original will be known as discarded, should it come again. What was changed goes into the operators' log.

    Raises EditRefusedError, KeyBusyError, StoreUnavailableError.
    """
    key = letter.event.key
    names = dict.fromkeys([(key, letter.event.identity), (key, edited.identity)])
    waiting = ParkedQuery([key], SEQUENCE_MAX, due=False)
    async with store.transaction() as tx:
        found = await open_within(tx, Plan(letter.consumer, list(names), [lock_id(key)], (), waiting), LOCK_WAIT_S)
        now = next((event for event in found.parked if event.position == edited.position), None)
        if now is None or now.event_id != letter.event.event_id:
            raise EditRefusedError("The event has changed meanwhile: look at it again.")
        original = str(letter.original_id or letter.event.event_id)
        entry = LogEntry(act, "edit", original, f"It is {edited.event_id} now. {_told(now, edited)}")
        entries = _entries(found, now, edited)
        await tx.commit(Changes(consumer=letter.consumer, inbox=entries, edited=[edited], log=[entry]))


def _entries(found: Snapshot, now: ParkedEvent, edited: EditedEvent) -> list[InboxEntry]:
    replaced = InboxEntry(now.key, edited.identity, edited.event_id, now.state)
    if edited.identity == now.identity:
        return [replaced]
    if (now.key, edited.identity) in found.known:
        raise EditRefusedError(
            f"Its key already has an event {edited.event_type}, and can have only one: discard this one."
        )
    return [InboxEntry(now.key, now.identity, now.event_id, InboxState.DISCARDED), replaced]


def _require_editable(event: ParkedEvent, value: bytes) -> None:
    if event.state is not InboxState.DEAD:
        raise EditRefusedError(
            "It is not dead: it will be tried again, or waits behind another. Edit it once it is dead."
        )
    if event.intent is not None:
        raise EditRefusedError(f"It is what the outside world said to {event.intent}: an answer is not edited.")
    if not event.record.key or event.record.key != event.key.encode():
        raise EditRefusedError(
            "It came without a usable key, so it has no place in any key's order: discard it, and have the "
            "correct event published."
        )
    if len(value) > VALUE_MAX:
        raise EditRefusedError(f"The new payload has {len(value)} bytes; at most {VALUE_MAX} are allowed.")
    if value == event.record.value:
        raise EditRefusedError("The new payload is the same as the old one: replay the event as it is.")


def _decoded(event: ParkedEvent, value: bytes, catalogue: Catalogue) -> Event:
    name = envelopes.header_text(event.record.headers, "ce_type")
    if not name:
        raise EditRefusedError(
            "It does not say its type (header ce_type), so no payload can be checked: discard it, and have the "
            "correct event published."
        )
    try:
        message = catalogue.decode(name, value)
    except UndecodableError as error:
        if error.reason == MALFORMED:
            wanted = next(each for each in catalogue.types if name.startswith(f"{each.TYPE}.v"))
            said = f"The new payload does not fit its type: {error.detail}."
            raise EditRefusedError(said, (error.__cause__, wanted)) from error
        raise EditRefusedError(
            f"This release cannot read events of type {name!r}: deploy one that can, or discard the event."
        ) from error
    if not isinstance(message, Event):
        raise EditRefusedError(f"{name!r} is not a type of event.")
    return message


def _require_trusted(came: ConsumerRecord, message: Event, service: Service) -> None:
    """What the service cannot compare with anything stays as its producer has said it, where that can be read."""
    try:
        before = service.catalogue.decode(envelopes.header_text(came.headers, "ce_type"), came.value or b"")
    except UndecodableError:
        return
    handler = service.handlers.get(type(message))
    trusted = handler.trusts if handler is not None else ()
    changed = [name for name in trusted if getattr(before, name, None) != getattr(message, name)]
    if changed:
        raise EditRefusedError(
            f"An edit cannot change {', '.join(changed)}: {service.name} takes it on trust, and what follows from "
            "it would not agree with what the others have stored. Replay the event as it is, or discard it."
        )


def _headers(event: ParkedEvent, event_id: str) -> Headers:
    """The attributes that make it readable, whatever they were before."""
    given = dict(event.record.headers)
    attributes: dict[str, bytes | None] = {
        "ce_specversion": b"1.0",
        "ce_id": event_id.encode(),
        "ce_type": given["ce_type"],
        "ce_source": given.get("ce_source") if _is_text(given.get("ce_source")) else b"/orderflow/edited",
        "ce_subject": event.key.encode(),
    }
    number = given.get("ce_sequence")
    if number is not None and number.isdigit() and len(number) <= SEQUENCE_DIGITS_MAX:
        attributes["ce_sequence"] = number
    if _is_text(given.get("ce_causationid")):
        attributes["ce_causationid"] = given["ce_causationid"]
    others = ((name, value) for name, value in event.record.headers if name not in envelopes.READ)
    return (*attributes.items(), *others)


def _is_text(value: bytes | None) -> bool:
    try:
        return bool((value or b"").decode())
    except UnicodeDecodeError:
        return False


def _told(before: ParkedEvent, after: EditedEvent) -> str:
    changes = changes_of(before.record.value, after.record.value or b"")
    told = [f"{each.field or 'value'}: {each.before or NOTHING} → {each.after or NOTHING}" for each in changes]
    more = len(told) - CHANGES_LOGGED_MAX
    return "; ".join([*told[:CHANGES_LOGGED_MAX], *([f"and {more} fields more"] if more > 0 else [])])


def _fields_of(value: bytes | None) -> dict[str, str] | None:
    """The fields of JSON by their paths, each as JSON; None: it is no JSON object."""
    try:
        document = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    return dict(_fields(document, "")) if isinstance(document, dict) else None


def _fields(value: Any, path: str) -> Iterator[tuple[str, str]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner or not value:
        yield path, json.dumps(value, ensure_ascii=False)
    else:
        for name, each in inner:
            yield from _fields(each, f"{path}.{name}" if path else str(name))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")


def _cut(text: str | None) -> str | None:
    if text is None:
        return None
    safe = shown(text)
    return safe if len(safe) <= VALUE_SHOWN_MAX else f"{safe[:VALUE_SHOWN_MAX]}…"


async def discard(letter: StoredLetter, act: Act, processor: Processor) -> Changes:
    """Returns what was written. Should the event come again, it is known.

    Raises LetterMissingError, KeyBusyError, StoreUnavailableError.
    """
    event = letter.event
    behind = 0

    def look(snapshot: Snapshot) -> Share:
        nonlocal behind
        now = next((each for each in snapshot.parked if each.event_id == event.event_id), None)
        if now is None:
            raise LetterMissingError(event.event_id)
        behind = len(snapshot.parked) - 1
        incoming = from_parked(now, processor.service.catalogue)
        return Share([incoming], () if behind else {event.key}, discarding=act)

    def finish(_: Sequence[Result], changes: Changes) -> End:
        told = f"What waits behind it goes on ({behind})." if behind else "Its key is open again."
        changes.log.append(LogEntry(act, "discard", str(event.event_id), f"Discarded. {told}"))
        return End.COMMIT

    done = await processor.process(
        Work(
            consumer=letter.consumer,
            batch=[from_parked(event, processor.service.catalogue)],
            parked=ParkedQuery([event.key], SEQUENCE_MAX, due=False),
            select=look,
            finish=finish,
            wait_s=LOCK_WAIT_S,
        )
    )
    assert done is not None
    return done.changes
