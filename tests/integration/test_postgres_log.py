"""What only the log in PostgreSQL has: segments, leases that end with the connection, one schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from orderflow.core.postgres_log import PostgresLogTransport, check, migrate
from orderflow.core.store import SchemaBehindError
from orderflow.core.transport import (
    Consumer,
    ConsumerRecord,
    ProducerRecord,
    TopicSettings,
    TransportUnavailableError,
)
from tests.support.locks import holding, waits_for_a_lock
from tests.support.member import ProcessMember
from tests.support.postgres import PostgresServer, age_segments
from tests.support.records import committed_total, numbered, numbers, take
from tests.support.waiting import eventually

TOPIC = "topic"
DAY_MS = 24 * 3_600_000
SHORT_SESSION_S = 6.0


@pytest.fixture
async def log(database_url: str) -> AsyncIterator[PostgresLogTransport]:
    await migrate(database_url)
    transport = await PostgresLogTransport.connect(database_url, session_timeout_s=60.0)
    await transport.create_topics([TopicSettings(TOPIC, 1, 7 * DAY_MS)])
    yield transport
    await transport.close()


async def test_records_leave_only_after_their_retention(
    postgres: PostgresServer, database_url: str, log: PostgresLogTransport
) -> None:
    await log.append(numbered(TOPIC, 5))
    for days in (0, 2, 3, 3):
        age_segments(postgres, database_url, days)
        assert await log.drop_expired() == 0
    await log.append(numbered(TOPIC, 5, start=5))
    assert numbers(await log.read(TOPIC, 0, 0, 100)) == list(range(10))
    age_segments(postgres, database_url, 2)
    assert await log.drop_expired() == 1
    assert numbers(await log.read(TOPIC, 0, 0, 100)) == list(range(5, 10))
    assert await log.ends([TOPIC]) == {(TOPIC, 0): (5, 10)}


async def test_a_new_group_starts_at_the_first_record_kept(
    postgres: PostgresServer, database_url: str, log: PostgresLogTransport
) -> None:
    await log.append(numbered(TOPIC, 5))
    age_segments(postgres, database_url, 2)
    await log.drop_expired()
    await log.append(numbered(TOPIC, 5, start=5))
    age_segments(postgres, database_url, 8)
    await log.drop_expired()
    assert [place.lag for place in await log.lag("group", [TOPIC])] == [5]
    consumer = await log.subscribe("group", [TOPIC])
    assert numbers(await take(consumer, 5, commit=True)) == list(range(5, 10))

    async def nothing_is_left() -> bool:
        return [place.lag for place in await log.lag("group", [TOPIC])] == [0]

    assert await eventually(nothing_is_left)


async def test_the_segments_go_round(postgres: PostgresServer, database_url: str, log: PostgresLogTransport) -> None:
    kept: list[list[int]] = []
    for number in range(20):
        await log.append(numbered(TOPIC, 1, start=number))
        kept.append(numbers(await log.read(TOPIC, 0, 0, 100)))
        age_segments(postgres, database_url, 1)
        await log.drop_expired()
    assert all(found == list(range(found[0], number + 1)) for number, found in enumerate(kept))
    assert all(len(found) >= min(7, number + 1) for number, found in enumerate(kept))
    assert len(kept[-1]) <= 9


async def test_while_the_next_segment_is_not_free_the_open_one_stays_open(
    postgres: PostgresServer, database_url: str, log: PostgresLogTransport
) -> None:
    for number in range(8):
        await log.append(numbered(TOPIC, 1, start=number))
        age_segments(postgres, database_url, 1)
        await log.drop_expired()
    await log.create_topics([TopicSettings("longer", 1, 70 * DAY_MS)])
    for number in range(8, 16):
        await log.append(numbered(TOPIC, 1, start=number))
        age_segments(postgres, database_url, 2)
        await log.drop_expired()
    found = numbers(await log.read(TOPIC, 0, 0, 100))
    assert found == list(range(found[0], 16))
    assert found[0] <= 1


async def test_a_member_whose_connection_is_gone_is_followed_before_its_lease_ends(
    database_url: str, log: PostgresLogTransport
) -> None:
    await log.append(numbered(TOPIC, 3))
    other = await PostgresLogTransport.connect(database_url, session_timeout_s=60.0)
    gone = await other.subscribe("group", [TOPIC])
    await take(gone, 3)
    await gone.abort()
    successor = await log.subscribe("group", [TOPIC])

    async def joined_again() -> bool:
        return bool(await successor.poll(10))

    assert await eventually(joined_again)
    await other.close()


async def test_a_member_that_leaves_says_so(
    postgres: PostgresServer, database_url: str, log: PostgresLogTransport
) -> None:
    leaving = await log.subscribe("group", [TOPIC])
    database = database_url.rpartition("/")[2]
    assert postgres.execute("SELECT count(*) FROM group_members", database) == "1"
    await leaving.close()
    assert postgres.execute("SELECT count(*) FROM group_members", database) == "0"


async def test_what_was_fetched_before_a_member_was_put_out_commits_nothing_after_it_is_back(
    postgres: PostgresServer, database_url: str, log: PostgresLogTransport
) -> None:
    consumer = await log.subscribe("group", [TOPIC])
    await log.append(numbered(TOPIC, 5))
    stale = await take(consumer, 5)
    database = database_url.rpartition("/")[2]
    postgres.execute("DELETE FROM group_members", database)
    postgres.execute("SELECT pg_notify('g' || id, '') FROM groups", database)
    await eventually(lambda: postgres.execute("SELECT count(*) FROM group_members", database) == "1")
    await consumer.commit(stale)
    await consumer.close()
    assert await committed_total(log, "group", TOPIC) == 0


async def test_a_member_that_loses_its_connection_goes_on_where_it_was(
    postgres: PostgresServer, database_url: str, log: PostgresLogTransport
) -> None:
    consumer = await log.subscribe("group", [TOPIC])
    await log.append(numbered(TOPIC, 3))
    records = await take(consumer, 3)
    end_connections(postgres, database_url)
    await eventually(lambda: log_answers(log))
    await log.append(numbered(TOPIC, 3, start=3))
    found: list[int] = []

    async def came() -> bool:
        found.extend(numbers(await poll_patiently(consumer)))
        return found == [3, 4, 5]

    await eventually(came)
    await consumer.commit(records)

    async def committed() -> bool:
        return await committed_total(log, "group", TOPIC) == 3

    assert await eventually(committed)


async def test_what_is_committed_soon_after_the_last_is_written_a_little_later_and_on_leaving_at_the_latest(
    log: PostgresLogTransport,
) -> None:
    consumer = await log.subscribe("group", [TOPIC])
    await log.append(numbered(TOPIC, 30))
    for _ in range(3):
        await consumer.commit(await consumer.poll(5))

    async def committed() -> bool:
        return await committed_total(log, "group", TOPIC) == 15

    assert await eventually(committed)
    for _ in range(3):
        await consumer.commit(await consumer.poll(5))
    await consumer.close()
    assert await committed_total(log, "group", TOPIC) == 30


async def test_what_is_committed_while_offsets_are_being_written_is_written_though_no_record_follows(
    postgres: PostgresServer, database_url: str, log: PostgresLogTransport
) -> None:
    consumer = await log.subscribe("group", [TOPIC])
    await log.append(numbered(TOPIC, 15))
    first, second, third = [await consumer.poll(5) for _ in range(3)]
    await consumer.commit(first)
    async with holding(database_url, "SELECT FROM group_offsets FOR UPDATE"):
        written = asyncio.create_task(consumer.commit(second))
        await eventually(lambda: waits_for_a_lock(postgres, database_url))
        meanwhile = asyncio.create_task(consumer.commit(third))
        await asyncio.sleep(0)
    await asyncio.gather(written, meanwhile)

    async def committed() -> int:
        total = await committed_total(log, "group", TOPIC)
        assert total == 15, total
        return total

    assert await eventually(committed)


async def test_a_notification_that_is_too_long_to_name_partitions_wakes_all(
    database_url: str, log: PostgresLogTransport
) -> None:
    await log.create_topics([TopicSettings("wide", 2000)])
    consumer = await log.subscribe("group", ["wide"])
    await log.append([ProducerRecord("wide", str(number).encode(), b"1") for number in range(9000)])
    assert len(await take(consumer, 9000)) == 9000


async def test_a_small_batch_comes_with_its_notice_as_it_stands_in_the_table(
    postgres: PostgresServer, database_url: str, log: PostgresLogTransport
) -> None:
    consumer = await log.subscribe("group", [TOPIC])
    headers = (("none", None), ("empty", b""), ("text", "ä".encode()))
    await log.append(
        [
            ProducerRecord(TOPIC, b"key", b"\x00\xff:, value", headers),
            ProducerRecord(TOPIC, None, None),
            *numbered(TOPIC, 3),
        ]
    )
    kept = await log.read(TOPIC, 0, 0, 10)
    postgres.execute("DELETE FROM records", database_url.rpartition("/")[2])
    assert await take(consumer, 5) == kept
    assert [each.offset for each in kept] == list(range(5))


async def test_a_member_that_stood_still_does_not_act_on_the_notices_that_came_meanwhile(database_url: str) -> None:
    await migrate(database_url)
    other = await PostgresLogTransport.connect(database_url, session_timeout_s=SHORT_SESSION_S)
    await other.create_topics([TopicSettings(TOPIC, 1)])
    stalled = await ProcessMember.start("postgres-log", database_url, SHORT_SESSION_S, "group", [TOPIC])
    try:
        stalled.stall()
        await other.append(numbered(TOPIC, 3))
        successor = await other.subscribe("group", [TOPIC])
        assert numbers(await take(successor, 3, commit=True)) == [0, 1, 2]
        await successor.close()
        stalled.resume()
        await other.append(numbered(TOPIC, 1, start=3))
        assert await stalled.poll(10) == [(TOPIC, 0, 3)]
    finally:
        await stalled.kill()
        await other.close()


async def test_a_lease_that_was_taken_while_the_clock_was_ahead_holds_up_nobody(
    postgres: PostgresServer, database_url: str, log: PostgresLogTransport
) -> None:
    stalled = await ProcessMember.start("postgres-log", database_url, SHORT_SESSION_S, "group", [TOPIC])
    try:
        stalled.stall()
        ahead = "UPDATE group_members SET expires_at = expires_at + interval '1 day'"
        postgres.execute(ahead, database_url.rpartition("/")[2])
        successor = await log.subscribe("group", [TOPIC])
        assert successor.assignment() == {(TOPIC, 0)}
    finally:
        await stalled.kill()


async def test_upkeep_that_fails_is_said_and_goes_on_by_itself(postgres: PostgresServer, database_url: str) -> None:
    await migrate(database_url)
    log = await PostgresLogTransport.connect(database_url, maintenance_every_s=0.05)
    database = database_url.rpartition("/")[2]

    async def said() -> str:
        try:
            await log.ping()
        except TransportUnavailableError as error:
            return str(error)
        return ""

    postgres.execute("ALTER FUNCTION rotate_segments RENAME TO rotated_segments", database)
    assert "log upkeep" in await eventually(said)
    postgres.execute("ALTER FUNCTION rotated_segments RENAME TO rotate_segments", database)
    await eventually(lambda: log_answers(log))
    await log.close()


async def test_a_schema_that_is_behind_is_said_to_be(database_url: str) -> None:
    with pytest.raises(SchemaBehindError, match="orderflow migrate"):
        await check(database_url)
    await migrate(database_url)
    await check(database_url)


async def log_answers(log: PostgresLogTransport) -> bool:
    try:
        await log.ping()
    except TransportUnavailableError:
        return False
    return True


async def poll_patiently(consumer: Consumer) -> Sequence[ConsumerRecord]:
    try:
        return await consumer.poll(10)
    except TransportUnavailableError:
        return ()


def end_connections(postgres: PostgresServer, url: str) -> None:
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{url.rpartition('/')[2]}' AND pid <> pg_backend_pid()"
    )
