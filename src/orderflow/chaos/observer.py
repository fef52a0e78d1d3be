"""Every record of every topic, read from the beginning as any other program would, and what it tells."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from orderflow.chaos.history import DOUBLED, LOST, REORDERED, Trouble
from orderflow.events.order import OrderCompleted, OrderFailed
from orderflow.events.topics import INVENTORY_STATUS, ORDER_EVENTS, PAYMENT_STATUS, TOPICS
from orderflow.messaging.catalogue import wire_name
from orderflow.messaging.cloudevents import header_text
from orderflow.messaging.dead_letters import topic_of
from orderflow.messaging.transport import ConsumerRecord, Transport

PAGE: Final = 2_000
LETTERS: Final = tuple(topic_of(topic) for topic in (ORDER_EVENTS, PAYMENT_STATUS, INVENTORY_STATUS))
POISON: Final = b"chaos-poison"
Stream = tuple[str, str]


class Observer:
    """Notes of each source and key which numbers have come, in which order.

    A topic that is made again begins a new life: `records` and gaps are counted over all lives, order within each.
    """

    def __init__(self) -> None:
        self.records = 0
        self.repeated = 0
        self.letters = 0
        self.types: Counter[str] = Counter()
        self.troubles: list[Trouble] = []
        self._reading = asyncio.Lock()
        self._positions: dict[tuple[str, int], int] = {}
        self._lives: Counter[str] = Counter()
        self._streams: dict[Stream, dict[int, int]] = {}
        self._came: dict[tuple[str, int, int, str, str], list[int]] = {}

    async def read(self, transport: Transport) -> None:
        """Everything that has come since. Raises TransportUnavailableError, TopicMissingError."""
        async with self._reading:
            await self._read(transport)

    @asynccontextmanager
    async def new_life(self, topic: str, transport: Transport) -> AsyncIterator[None]:
        """Within, the topic is deleted and made again; all that it held was read before.

        Nobody reads meanwhile. Raises TransportUnavailableError, TopicMissingError.
        """
        async with self._reading:
            await self._read(transport)
            yield
            self.begin_life(topic)

    async def _read(self, transport: Transport) -> None:
        for (topic, partition), (_, end) in sorted((await transport.ends([*TOPICS, *LETTERS])).items()):
            while (position := self._positions.get((topic, partition), 0)) < end:
                page = await transport.read(topic, partition, position, PAGE)
                if not page:
                    break
                self.take(page)

    def take(self, page: Sequence[ConsumerRecord]) -> None:
        """Records of one partition, in their order."""
        for record in page:
            self._positions[record.topic, record.partition] = record.offset + 1
            self.records += 1
            if record.topic in LETTERS:
                self.letters += 1
            elif (record.key or b"").startswith(POISON):
                continue
            else:
                self._event(record)

    def begin_life(self, topic: str) -> None:
        """It was deleted and made again; all that it held has been read."""
        self._lives[topic] += 1
        self._positions = {place: at for place, at in self._positions.items() if place[0] != topic}

    def events_of(self, service: str, key: str) -> int:
        """How many different events of this key the service has published, over all topics."""
        return len(self._streams.get((f"/orderflow/{service}", key), ()))

    def finish(self) -> list[Trouble]:
        """What was found, with the numbers that never came."""
        gaps = [
            Trouble(LOST, key, f"of {source} {len(seen)} events came, the last has number {max(seen)}")
            for (source, key), seen in self._streams.items()
            if max(seen) != len(seen)
        ]
        return [*self.troubles, *gaps]

    def _event(self, record: ConsumerRecord) -> None:
        headers = record.headers
        source, key = header_text(headers, "ce_source"), (record.key or b"").decode()
        sequence, name = int(header_text(headers, "ce_sequence") or 0), UUID(header_text(headers, "ce_id")).int
        seen = self._streams.setdefault((source, key), {})
        known = seen.get(sequence)
        if known is not None:
            self.repeated += 1
            if known != name & _MASK:
                what = f"two events of {source} have number {sequence}"
                self.troubles.append(Trouble(DOUBLED, key, what))
        else:
            self.types[header_text(headers, "ce_type")] += 1
            seen[sequence] = name & _MASK
        self._order(record, source, key, sequence)

    def _order(self, record: ConsumerRecord, source: str, key: str, sequence: int) -> None:
        """A number that is lower than one that came before it in its partition must have come before that too."""
        place = (record.topic, self._lives[record.topic], record.partition, source, key)
        came = self._came.setdefault(place, [])
        if not came or sequence > came[-1]:
            came.append(sequence)
        elif sequence not in came:
            what = f"number {sequence} of {source} came after number {came[-1]} on {record.topic}"
            self.troubles.append(Trouble(REORDERED, key, what))

    @property
    def finals(self) -> int:
        """Orders that have ended, as the topics tell."""
        return sum(self.types[wire_name(each)] for each in (OrderCompleted, OrderFailed))


_MASK: Final = (1 << 60) - 1
