"""Whether anything is under way, and waiting until nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from orderflow.audit.books import ServiceBooks
from orderflow.audit.databases import Databases
from orderflow.messaging.transport import Transport
from orderflow.registry import service_of

LOOK_EVERY_S = 0.25


class Look(NamedTuple):
    """What was under way; `written` counts the events that were ever published, service by service."""

    services: Sequence[ServiceBooks]
    written: Sequence[int]

    @property
    def is_quiet(self) -> bool:
        return all(service.is_at_rest for service in self.services)


async def look(databases: Databases, transport: Transport) -> Look:
    """One look at each service and at the log. Raises StoreUnavailableError, TransportUnavailableError."""
    rows = {name: (await databases.ask(name, "under_way"))[0] for name in databases.services}
    services: list[ServiceBooks] = []
    for service in map(service_of, databases.services):
        row = rows[service.name]
        lag = {
            each.consumer: sum(part.lag for part in await transport.lag(each.consumer, each.topics))
            for each in service.subscriptions
        }
        services.append(
            ServiceBooks(
                service=service.name,
                unsent=row["unsent"],
                open_intents=row["open_intents"],
                retrying=row["retrying"],
                lag=lag,
            )
        )
    return Look(services, [row["written"] for row in rows.values()])


async def wait_for_rest(
    databases: Databases, transport: Transport, timeout_s: float, told: Callable[[Look], None]
) -> Look:
    """Look until all is quiet, twice with nothing written between, or until the time is up; the last look.

    Each look is `told`.

    One quiet look is not enough: an event can move on from a part that was not yet looked at to one that was.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    before = await look(databases, transport)
    while True:
        now = await look(databases, transport)
        told(now)
        if (now.is_quiet and before == now) or loop.time() >= deadline:
            return now
        before = now
        await asyncio.sleep(LOOK_EVERY_S)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far everything had been written at one moment: each service's events, and the ends of the partitions."""

    written: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[tuple[str, int], int] = field(default_factory=dict)

    async def is_passed(self, databases: Databases, transport: Transport) -> bool:
        """All events until then are on the log, and every consumer has settled all records until then.

        Raises StoreUnavailableError, TransportUnavailableError.
        """
        for name, written in self.written.items():
            first = (await databases.ask(name, "under_way"))[0]["first"]
            if first is not None and first <= written:
                return False
        for service in map(service_of, databases.services):
            for each in service.subscriptions:
                for part in await transport.lag(each.consumer, each.topics):
                    if part.position < self.ends.get((part.topic, part.partition), 0):
                        return False
        return True


async def mark(databases: Databases, transport: Transport) -> Mark:
    """As of now: taken after a look, so that what it has seen written is before the mark."""
    written = {name: (await databases.ask(name, "under_way"))[0]["written"] for name in databases.services}
    services = map(service_of, databases.services)
    topics = sorted({topic for service in services for each in service.subscriptions for topic in each.topics})
    ends = await transport.ends(topics)
    return Mark(written, {place: end for place, (_, end) in ends.items()})
