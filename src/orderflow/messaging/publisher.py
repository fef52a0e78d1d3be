"""Events on their way out: numbered per key, named for ever, written to the outbox."""

from __future__ import annotations

from collections.abc import Mapping

from orderflow.messaging import cloudevents, identity
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.message import Event
from orderflow.messaging.store import Changes, OutboxRecord

VALUE_MAX = 1_900_000


class OversizedEventError(Exception):
    """An event that the log would not take; it would hold up all that is published after it."""


class Publisher:
    """Turns the events of one batch into outbox rows of `changes`."""

    def __init__(self, emitted: Mapping[tuple[str, str], int], slots: int, changes: Changes) -> None:
        self._emitted = dict(emitted)
        self._slots = slots
        self._changes = changes

    def publish(self, event: Event, value: bytes, source: str, cause: Incoming) -> None:
        """Number the event (encoded as `value`) within (source, key) and write it.

        Its key is that of its cause, whose lock the caller holds.
        """
        stream = (source, cause.key)
        sequence = self._emitted.get(stream, 0) + 1
        envelope = Envelope(
            id=identity.event_id(source, event.TYPE, cause.key, sequence),
            message=event,
            source=source,
            key=cause.key,
            sequence=sequence,
            causation=cause.event_id,
            traceparent=cause.envelope.traceparent if cause.envelope else None,
        )
        self._changes.outbox.append(to_publish(envelope, event.TOPIC, value, self._slots))
        self._emitted[stream] = self._changes.emitted[stream] = sequence


def to_publish(envelope: Envelope, topic: str, value: bytes, slots: int) -> OutboxRecord:
    """The outbox row of an event that has its number."""
    key = envelope.key.encode()
    return OutboxRecord(
        topic=topic,
        key=key,
        value=value,
        headers=cloudevents.to_headers(envelope),
        event_id=envelope.id,
        slot=identity.slot_of(key, slots),
    )
