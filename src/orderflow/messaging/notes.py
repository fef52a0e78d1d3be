"""What is noted of one message in the changes of its batch."""

from __future__ import annotations

from orderflow.messaging.handling import intent_of
from orderflow.messaging.inbox import InboxEntry, InboxState
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.store import Changes


def mark(changes: Changes, incoming: Incoming, state: InboxState) -> None:
    """The inbox knows it in this state from now on."""
    changes.inbox.append(InboxEntry(incoming.key, incoming.identity, incoming.event_id, state))


def finish(changes: Changes, incoming: Incoming, state: InboxState) -> None:
    """It is in its last state, under every name that it goes by, and waits no longer."""
    mark(changes, incoming, state)
    if incoming.also is not None:
        event_id = incoming.envelope.id if incoming.envelope else incoming.event_id
        changes.inbox.append(InboxEntry(*incoming.also, event_id, state))
    release(changes, incoming)


def release(changes: Changes, incoming: Incoming) -> None:
    """It waits no longer, if it did."""
    if incoming.parked is not None:
        changes.released.append(incoming.parked.position)


def close_intent(changes: Changes, incoming: Incoming) -> None:
    """The intent that it answers, if any, is answered."""
    intent = intent_of(incoming)
    if intent is not None:
        changes.closed_intents.append(intent)
