"""What the log knows of its topics: their partitions' numbers in the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orderflow.messaging.transport import TopicMissingError
from orderflow.messaging.transports.postgres_log.link import Link


@dataclass(frozen=True, slots=True)
class Topic:
    """`partition_ids` by partition number."""

    name: str
    channel: str
    partition_ids: tuple[int, ...]


class Topics:
    """A cache: topics are never removed, and never change their partitions."""

    def __init__(self, link: Link, queries: Mapping[str, str]) -> None:
        self._link = link
        self._queries = queries
        self._known: dict[str, Topic] = {}

    async def get(self, names: Iterable[str]) -> Mapping[str, Topic]:
        """All topics known, `names` among them. Raises TopicMissingError, TransportUnavailableError."""
        if not self._known.keys() >= (wanted := set(names)):
            rows = await self._link.fetch(self._queries["topics"])
            self._known = {
                row["name"]: Topic(row["name"], f"t{row['topic_id']}", tuple(row["partition_ids"])) for row in rows
            }
            missing = sorted(wanted - self._known.keys())
            if missing:
                raise TopicMissingError(", ".join(missing))
        return self._known
