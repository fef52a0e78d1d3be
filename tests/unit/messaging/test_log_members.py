"""What a member and an appender of the log in PostgreSQL decide before they ask the server."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from orderflow.messaging.partitioner import Partitioner
from orderflow.messaging.transport import ProducerRecord
from orderflow.messaging.transports.postgres_log.append import arrays
from orderflow.messaging.transports.postgres_log.headers import HeaderCodec
from orderflow.messaging.transports.postgres_log.membership import Membership
from orderflow.messaging.transports.postgres_log.topics import Topic

QUERIES = {"heartbeat": "heartbeat", "join_group": "join_group", "assignment": "assignment"}


class Server:
    """Answers as the log's server does, of whose group we are told only what it has come to."""

    def __init__(self) -> None:
        self.generation = 1
        self.committed = 0

    async def value(self, query: str, *_: object) -> int:
        return self.generation

    async def listen(self, channel: str) -> None:
        """Nobody says anything here."""

    async def fetch(self, query: str, group: int, member: UUID) -> Sequence[dict[str, Any]]:
        held = {"partition_id": 1, "name": "topic", "number": 0, "committed": self.committed}
        return [{**held, "owner_generation": self.generation}]


async def test_a_partition_that_was_lost_and_regained_goes_on_at_what_was_settled_meanwhile() -> None:
    server = Server()
    link: Any = server
    membership = Membership(link, QUERIES, "group", ["topic"], 1000)
    await membership.renew()
    membership.holdings[1].position = 7

    server.generation, server.committed = 3, 5
    await membership.renew()

    assert membership.holdings[1].position == 5


def test_partitions_are_locked_in_one_order_whatever_the_records_order_is() -> None:
    topics = {"topic": Topic("topic", "t1", (11, 12, 13, 14))}
    records = [ProducerRecord("topic", b"key-%d" % number, b"") for number in range(20)]
    orders = [
        arrays(each, topics, Partitioner(random.Random(1)), HeaderCodec())[0] for each in (records, records[::-1])
    ]

    assert orders == [[11, 12, 13, 14]] * 2
