"""Whether each consumer's effects of a key were committed in the order in which its events were produced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from uuid import UUID

from orderflow.messaging.cloudevents import header_text
from orderflow.messaging.dead_letters import SUFFIX
from orderflow.messaging.identity import uuid_of
from orderflow.messaging.inbox import InboxState
from orderflow.messaging.store import Changes
from orderflow.simulation.log import TroubledLog

Place = tuple[str, int]


class KeyOrder:
    """Notes what is committed. Between two topics, or two partitions, there is no order to keep."""

    def __init__(self) -> None:
        self._handled: dict[tuple[str, str], list[UUID]] = {}

    def note(self, committed: Sequence[Changes]) -> None:
        """A transaction has been committed."""
        for changes in committed:
            for entry in changes.inbox:
                if entry.state is InboxState.DONE:
                    self._handled.setdefault((changes.consumer, entry.key), []).append(entry.event_id)

    def broken(self, log: TroubledLog) -> Iterator[str]:
        """A sentence for each event that overtook another of its key."""
        produced = {topic: first_offsets(log, topic) for topic in log.topics() if not topic.endswith(SUFFIX)}
        for (consumer, key), events in self._handled.items():
            reached: dict[Place, int] = {}
            for event in events:
                for topic, offsets in produced.items():
                    if event not in offsets:
                        continue
                    partition, offset = offsets[event]
                    if offset < reached.get((topic, partition), 0):
                        yield f"{consumer} handled {event} of {key} ({topic}/{partition}@{offset}) too late"
                    reached[topic, partition] = offset


def first_offsets(log: TroubledLog, topic: str) -> dict[UUID, tuple[int, int]]:
    """Event id → partition and offset at which it was produced first."""
    found: dict[UUID, tuple[int, int]] = {}
    for (_, partition), (_, end) in log.ends([topic]).items():
        for record in log.slice(topic, partition, 0, end):
            text = header_text(record.headers, "ce_id")
            with suppress(ValueError):  # what is no event of ours may have any id
                found.setdefault(uuid_of(text), (partition, record.offset))
    return found
