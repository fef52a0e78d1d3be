"""What a member and an appender of the log in PostgreSQL decide, before and after they ask the server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from orderflow.core.identity import Partitioner
from orderflow.core.postgres_log.consumer import BUFFERED_MAX, COMMIT_EVERY_S, PostgresLogConsumer
from orderflow.core.postgres_log.records import Kept, RecordCodec, Topic, read_notices
from orderflow.core.transport import ConsumerRecord, ProducerRecord
from orderflow.simulation.loop import VirtualClock, VirtualLoop
from tests.support.interleaving import Scene, at_each_step, soon, virtually

TOPIC = Topic(1, "topic", (11, 12))
QUERIES = {"renew": "renew", "join_group": "join", "leave_group": "leave", "fetch": "read"}
SESSION_S = 9.0
AT_MS = 1_700_000_000_000


class Row(tuple[Any, ...]):
    """A row whose last column is `taken`."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(-1 if key == "taken" else key)


class Server:
    """Answers as the log's server does to its one member, over its link and its reader alike."""

    def __init__(self) -> None:
        self.kept: dict[int, list[Kept]] = {11: [], 12: []}
        self.first = 0
        self.generation = 1
        self.committed = 0
        self.is_member = False
        self.has_lost_11 = False
        self.asked: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.heard: Callable[[str], None] = lambda _: None
        self._hearers: dict[str, Any] = {}
        self._codec = RecordCodec()

    def append(self, *values: str, partition: int = 11, says: bool = True, records: bool = True) -> None:
        """`records`: the notice, if the server `says` anything, brings them along."""
        headers = msgspec.msgpack.encode([("h", None)])
        kept = [(b"k", each.encode(), headers) for each in values]
        self.kept[partition] += kept
        if says:
            self.tell(len(self.kept[partition]) - len(kept), partition=partition, records=records)

    def tell(self, start: int, *, partition: int = 11, records: bool = True) -> None:
        """Of all that was appended from this offset on."""
        kept = self.kept[partition][start:]
        body = f":{self._codec.body(kept)}" if records else ""
        self.say(f"{AT_MS} {partition}:{start}:{len(kept)}{body}")

    def say(self, payload: str) -> None:
        self._hearers["r1"].notified("r1", payload)

    def deal(self) -> None:
        """The group has dealt its partitions anew."""
        self._hearers["g1"].notified("g1", "")

    async def fetch(self, query: str, *arguments: Any) -> Sequence[Any]:
        self.asked.append(query)
        await asyncio.sleep(0)
        await self.answers.wait()
        rows = [*getattr(self, f"_{query}")(*arguments)]
        await asyncio.sleep(0)
        return rows

    async def value(self, query: str, *arguments: Any) -> Any:
        rows = await self.fetch(query, *arguments)
        return rows[0][0]

    async def hear(self, channel: str, hearer: Any) -> None:
        self._hearers[channel] = hearer
        self.heard(channel)
        await asyncio.sleep(0)

    async def ensure_open(self) -> None:
        """It is never lost."""

    def forget(self, hearer: Any) -> None:
        self._hearers = {channel: each for channel, each in self._hearers.items() if each is not hearer}

    async def close(self) -> None:
        """Nothing is open."""

    def _join(self, *_: object) -> Sequence[Any]:
        self.is_member = True
        return [(1,)]

    def _leave(self, *_: object) -> Sequence[Any]:
        self.is_member = False
        return []

    def _renew(self, _group: int, _member: object, _ms: int, numbers: Any, since: Any, offsets: Any) -> Sequence[Any]:
        if not self.is_member:
            return []
        for number, generation, offset in zip(numbers, since, offsets, strict=True):
            if (number, generation) == (11, self.generation):
                self.committed = max(self.committed, offset)
        rows = [(11, self.generation, self.committed, len(self.kept[11])), (12, 1, 0, len(self.kept[12]))]
        return rows[self.has_lost_11 :]

    def _read(self, numbers: Sequence[int], positions: Sequence[int], limit: int, _bytes: int) -> Sequence[Any]:
        rows = [
            Row((number, offset, AT_MS, *kept, 1))
            for number, position in zip(numbers, positions, strict=True)
            for offset, kept in enumerate(self.kept[number])
            if offset >= max(position, self.first)
        ]
        return rows[:limit]


def clock_here() -> VirtualClock:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return VirtualClock(loop)


async def joined(server: Server) -> PostgresLogConsumer:
    link: Any = server
    consumer = PostgresLogConsumer(link, link, QUERIES, "group", [TOPIC], session_timeout_s=SESSION_S)
    await consumer.start()
    return consumer


def values(records: Sequence[ConsumerRecord]) -> list[str]:
    return [(record.value or b"").decode() for record in records]


@virtually
async def test_records_that_a_notice_brings_along_are_handed_out_without_a_question() -> None:
    server = Server()
    consumer = await joined(server)
    polling = asyncio.ensure_future(consumer.poll(10))
    await asyncio.sleep(0)
    server.append("a", "b")
    server.append("c", partition=12)

    taken = [*await polling]
    while len(taken) < 3:
        taken += await consumer.poll(10)

    assert taken == [
        ConsumerRecord("topic", 0, 0, b"k", b"a", (("h", None),), AT_MS),
        ConsumerRecord("topic", 0, 1, b"k", b"b", (("h", None),), AT_MS),
        ConsumerRecord("topic", 1, 0, b"k", b"c", (("h", None),), AT_MS),
    ]
    assert "read" not in server.asked
    await consumer.close()


@virtually
async def test_after_a_gap_the_table_is_read() -> None:
    server = Server()
    consumer = await joined(server)
    server.append("a", says=False)
    server.append("b")
    server.append("c", records=False)
    server.append("d")

    assert values(await consumer.poll(10)) == ["a", "b", "c", "d"]
    assert server.asked.count("read") == 1
    await consumer.close()


@virtually
async def test_a_poll_takes_no_more_than_it_asked_for_and_loses_nothing() -> None:
    server = Server()
    consumer = await joined(server)
    server.append(*"abc")
    server.append(*"de", records=False)

    taken = [values(await consumer.poll(2)) for _ in range(3)]

    assert taken == [["a", "b"], ["c", "d"], ["e"]]
    await consumer.close()


@virtually
async def test_a_partition_that_is_always_full_starves_no_other() -> None:
    server = Server()
    consumer = await joined(server)
    server.append(*"abcdef", records=False)
    server.append("x", partition=12)

    assert "x" in values([*await consumer.poll(2), *await consumer.poll(2)])
    await consumer.close()


@virtually
async def test_a_notice_that_was_told_before_is_passed_over() -> None:
    server = Server()
    server.is_member = True
    consumer = await joined(server)
    server.append("a", says=False)
    server.append("b", says=False)
    server.say(f"{AT_MS} 11:1:1")
    assert values(await consumer.poll(10)) == ["a", "b"]
    polling = asyncio.ensure_future(consumer.poll(10))

    server.say(f"{AT_MS} 11:0:1")
    server.append("c")

    assert values(await polling) == ["c"]
    await consumer.close()


@virtually
async def test_who_does_not_poll_keeps_no_more_of_the_notices_than_a_bound() -> None:
    server = Server()
    consumer = await joined(server)
    wanted = [str(number) for number in range(BUFFERED_MAX + 50)]
    for value in wanted:
        server.append(value)

    taken = values(await consumer.poll(10_000))
    assert "read" in server.asked
    while len(taken) < len(wanted):
        taken += values(await consumer.poll(10_000))

    assert taken == wanted
    await consumer.close()


@virtually
async def test_what_has_expired_before_it_was_read_is_not_asked_for_again_and_again() -> None:
    server = Server()
    consumer = await joined(server)
    server.append(*"abc", records=False)
    server.first = 3
    polling = asyncio.ensure_future(consumer.poll(10))
    await clock_here().sleep(60)
    server.append("d")

    assert values(await polling) == ["d"]
    assert server.asked.count("read") <= 2
    await consumer.close()


@virtually
@pytest.mark.parametrize(
    "payload",
    ["what?", "1 2 3", f"{AT_MS} 11:0:1:AAAA", f"{AT_MS} 11:0:1:wA==", f"{AT_MS} 11:0:1:kA==", f"{AT_MS} 11:1:99"],
)
async def test_a_notice_that_is_not_so_loses_nothing(payload: str) -> None:
    server = Server()
    consumer = await joined(server)
    server.say(payload)
    polling = asyncio.ensure_future(consumer.poll(10))
    await clock_here().sleep(1)
    server.append("a")
    server.append("b")

    taken = await polling
    while len(taken) < 2:
        taken = [*taken, *await consumer.poll(10)]

    assert values(taken) == ["a", "b"]
    await consumer.close()


@virtually
async def test_what_nobody_has_told_is_found_when_the_lease_is_renewed() -> None:
    server = Server()
    consumer = await joined(server)
    polling = asyncio.ensure_future(consumer.poll(10))
    await asyncio.sleep(0)
    server.append("a", says=False)

    assert values(await asyncio.wait_for(polling, SESSION_S / 2)) == ["a"]
    await consumer.close()


@virtually
async def test_a_notice_that_names_no_partition_means_any() -> None:
    server = Server()
    consumer = await joined(server)
    server.append("a", says=False)
    server.say("")

    assert values(await asyncio.wait_for(consumer.poll(10), 1)) == ["a"]
    await consumer.close()


@virtually
async def test_a_member_that_stood_still_hands_out_nothing_before_its_group_has_heard_of_it() -> None:
    """Notices lie in its socket; by then the partition may be another's, who has committed what they bring."""
    server = Server()
    consumer = await joined(server)
    server.answers.clear()
    await clock_here().sleep(SESSION_S + 1)
    server.append("a", "b")
    polling = asyncio.ensure_future(consumer.poll(10))
    await clock_here().sleep(1)
    server.is_member, server.generation, server.committed = False, 2, 2
    server.answers.set()
    await clock_here().sleep(1)
    server.append("c")

    assert values(await polling) == ["c"]
    await consumer.close()


@virtually
async def test_what_came_under_the_old_name_is_not_handed_out_while_a_member_joins_anew() -> None:
    server = Server()
    consumer = await joined(server)
    server.append("a", "b")
    polling: list[asyncio.Future[Sequence[ConsumerRecord]]] = []
    server.heard = lambda _: polling.append(asyncio.ensure_future(consumer.poll(10)))
    server.is_member, server.generation, server.committed = False, 2, 2
    server.deal()
    await clock_here().sleep(1)
    server.append("c")

    assert [values(await each) for each in polling] == [["c"]]
    await consumer.close()


def test_of_a_partition_that_is_lost_at_any_moment_of_a_poll_nothing_is_handed_out_any_more() -> None:
    def make() -> Scene:
        server, after_it_was_lost, polling = Server(), list[str](), list[asyncio.Future[None]]()

        async def first() -> None:
            consumer = await joined(server)
            polling.append(asyncio.ensure_future(poll(consumer)))
            server.append("a", "b", says=False)
            server.deal()
            await clock_here().sleep(1)
            server.append("c", records=False)
            await clock_here().sleep(1)

        async def poll(consumer: PostgresLogConsumer) -> None:
            while True:
                for record in await consumer.poll(1):
                    if (record.topic, record.partition) not in consumer.assignment():
                        after_it_was_lost.append(str(record.offset))

        def second() -> None:
            server.has_lost_11 = True
            if polling:
                server.deal()

        async def check() -> None:
            await clock_here().sleep(1)
            polling[0].cancel()
            assert after_it_was_lost == []

        return Scene(first, second, check)

    assert at_each_step(make) > 10


@virtually
async def test_a_partition_that_was_lost_and_regained_goes_on_at_what_was_committed_meanwhile() -> None:
    server = Server()
    consumer = await joined(server)
    server.append(*"abcdefg")
    assert len(await consumer.poll(7)) == 7

    server.generation, server.committed = 3, 5
    server.deal()

    assert values(await asyncio.wait_for(consumer.poll(10), 1)) == ["f", "g"]
    await consumer.close()


@virtually
async def test_what_is_committed_is_written_together_and_renews_the_lease() -> None:
    server = Server()
    consumer = await joined(server)
    server.append(*"abc")
    before = len(server.asked)
    for _ in range(3):
        await consumer.commit(await consumer.poll(1))
    assert server.committed == 0

    await clock_here().sleep(COMMIT_EVERY_S * 1.5)

    assert server.committed == 3
    await clock_here().sleep(SESSION_S / 3 - COMMIT_EVERY_S)
    assert server.asked[before:] == ["renew"]
    await consumer.close()


@virtually
async def test_what_is_committed_at_last_is_written_on_leaving() -> None:
    server = Server()
    consumer = await joined(server)
    server.append(*"abc")
    await consumer.commit(await consumer.poll(10))

    await consumer.close()

    assert server.committed == 3
    assert server.asked[-2:] == ["renew", "leave"]


@virtually
async def test_a_member_at_rest_asks_nothing_but_for_its_lease() -> None:
    server = Server()
    consumer = await joined(server)
    before = len(server.asked)

    await clock_here().sleep(10 * SESSION_S)

    assert set(server.asked[before:]) == {"renew"}
    assert len(server.asked[before:]) <= 31
    await consumer.close()


@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("late", [True, False])
def test_a_notice_at_any_moment_of_a_poll_brings_each_record_once_and_in_order(records: bool, late: bool) -> None:
    """`late`: of what the member has heard of by another way."""

    def make() -> Scene:
        server, taken, polling = Server(), list[str](), list[asyncio.Future[None]]()

        async def first() -> None:
            consumer = await joined(server)
            polling.append(asyncio.ensure_future(poll(consumer)))
            server.append("a", "b", says=False)
            server.deal()
            await soon(lambda: len(taken) > 1, lambda: taken)

        async def poll(consumer: PostgresLogConsumer) -> None:
            while True:
                taken.extend(values(await consumer.poll(10)))

        def second() -> None:
            if not server.kept[11]:
                server.append("a", "b", says=False)
            elif late:
                server.tell(0, records=records)
            else:
                server.append("c", records=records)

        async def check() -> None:
            await soon(lambda: len(taken) >= len(server.kept[11]), lambda: taken)
            polling[0].cancel()
            assert taken == [value.decode() for _, value, _ in server.kept[11] if value is not None]

        return Scene(first, second, check)

    assert at_each_step(make) > 10


def arrays_of(records: Sequence[ProducerRecord], topics: Mapping[str, Topic]) -> tuple[Any, ...]:
    return RecordCodec().batch(records, topics, Partitioner(random.Random(1))).arguments


def test_partitions_are_locked_in_one_order_whatever_the_records_order_is() -> None:
    topics = {"topic": Topic(1, "topic", (11, 12, 13, 14))}
    records = [ProducerRecord("topic", b"key-%d" % number, b"") for number in range(20)]

    orders = [arrays_of(each, topics)[0] for each in (records, records[::-1])]

    assert orders == [[11, 12, 13, 14]] * 2


@pytest.mark.parametrize(
    ("size", "least", "most"),
    [(0, 24, 24), (10, 24, 24), (300, 24, 24), (1_000, 3, 12), (2_000, 1, 4), (5_000, 0, 2), (8_000, 0, 0)],
)
def test_a_notice_brings_along_what_it_has_room_for_and_its_records_are_whole(
    size: int, least: int, most: int
) -> None:
    topics = {"topic": Topic(1, "topic", tuple(range(11, 17))), "other": Topic(2, "other", (17,))}
    records = [
        ProducerRecord(topic, b"key-%d" % number, b"v" * size, (("h", None), ("i", b"x")))
        for number in range(12)
        for topic in topics
    ]
    touched, counts, channels, bodies, *_ = arrays_of(records, topics)
    brought = 0
    for channel in ("r1", "r2"):
        places = [place for place in zip(touched, counts, channels, bodies, strict=True) if place[2] == channel]
        payload = f"{AT_MS} " + " ".join(
            f"{number}:{2**62}:{count}" + (f":{body}" if body else "") for number, count, _, body in places
        )
        assert len(payload) < 8_000
        for notice in read_notices(payload):
            assert (notice.start, notice.at_ms) == (2**62, AT_MS)
            if notice.body:
                found = RecordCodec().brought(notice, ("topic", 0))
                assert [record.value for record in found] == [b"v" * size] * (notice.end - notice.start)
                assert {record.headers for record in found} == {(("h", None), ("i", b"x"))}
                brought += len(found)
    assert least <= brought <= most
