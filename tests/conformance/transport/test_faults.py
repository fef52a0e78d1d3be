"""Members that die or stall, and a server that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from orderflow.core.transport import Consumer, ConsumerRecord, ProducerRecord, Transport, TransportUnavailableError
from tests.conformance.transport.conftest import PARTITIONS
from tests.support.records import collect, committed_total, numbered, numbers, take
from tests.support.transports import Harness, Member
from tests.support.waiting import eventually

TAKEN_OVER_S = 60.0


async def test_a_member_that_is_killed_is_followed_from_what_it_committed(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    await transport.append([ProducerRecord(topic, b"key", str(number).encode()) for number in range(10)])
    member = await harness.member(group, [topic])
    committed = len(await _poll(member, 4))
    await member.commit()
    await eventually(lambda: _committed(transport, group, topic, committed))
    await _poll(member, 4)
    await member.kill()
    successor = await transport.subscribe(group, [topic])
    assert numbers(await take(successor, 10 - committed)) == list(range(committed, 10))
    await eventually(lambda: len(successor.assignment()) == PARTITIONS, timeout_s=TAKEN_OVER_S)


async def test_what_a_stalled_member_commits_late_has_no_effect(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    await transport.append([ProducerRecord(topic, b"key", str(number).encode()) for number in range(10)])
    stalled = await harness.member(group, [topic])
    await _poll(stalled, 3)
    stalled.stall()
    successor = await transport.subscribe(group, [topic])
    await take(successor, 10)
    stalled.resume()
    await stalled.commit()
    await stalled.kill()
    await successor.close()
    assert await committed_total(transport, group, topic) == 0
    assert numbers(await take(await transport.subscribe(group, [topic]), 10)) == list(range(10))


async def test_a_stalled_member_comes_back_as_a_member(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    stalled = await harness.member(group, [topic])
    await transport.append(numbered(topic, 1))
    await _poll(stalled, 1)
    stalled.stall()
    successor = await transport.subscribe(group, [topic])
    taken: list[ConsumerRecord] = []
    task = asyncio.create_task(collect(successor, taken))
    await eventually(lambda: len(successor.assignment()) == PARTITIONS, timeout_s=TAKEN_OVER_S)
    stalled.resume()
    back = asyncio.create_task(_poll(stalled, 10))
    await eventually(lambda: 0 < len(successor.assignment()) < PARTITIONS, timeout_s=TAKEN_OVER_S)
    await transport.append(numbered(topic, 60, keys=30))
    assert await back
    await successor.close()
    await task


async def test_a_member_stays_in_its_group_while_nobody_polls(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    quiet = await transport.subscribe(group, [topic])
    await transport.append([ProducerRecord(topic, b"key", b"0")])
    records = await take(quiet, 1)
    later = asyncio.get_running_loop().time() + 1.5 * harness.session_timeout_s
    await eventually(lambda: asyncio.get_running_loop().time() > later)
    await quiet.commit(records)
    await eventually(lambda: _committed(transport, group, topic, 1))
    assert len(quiet.assignment()) == PARTITIONS


async def test_a_server_that_goes_away_is_said_to_be_and_found_again(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    consumer = await transport.subscribe(group, [topic])
    await transport.append(numbered(topic, 5))
    await take(consumer, 5, commit=True)
    hasty = await harness.connect(hasty=True)
    harness.take_away()
    with pytest.raises(TransportUnavailableError):
        await hasty.append(numbered(topic, 5, start=5))
    with pytest.raises(TransportUnavailableError):
        await hasty.ping()
    with pytest.raises(TransportUnavailableError):
        await hasty.ends([topic])
    with pytest.raises(TransportUnavailableError):
        await hasty.subscribe(f"{group}-other", [topic])
    harness.bring_back()
    await _until_available(transport.ping)
    await _until_available(lambda: transport.append(numbered(topic, 5, start=100)))
    found = await _take_patiently(consumer, {100, 101, 102, 103, 104})
    assert found - set(range(10)) == {100, 101, 102, 103, 104}


async def test_a_poll_that_waits_through_an_outage_goes_on_afterwards(
    harness: Harness, transport: Transport, topic: str, group: str
) -> None:
    consumer = await transport.subscribe(group, [topic])
    await eventually(lambda: _held(consumer), timeout_s=TAKEN_OVER_S)
    waiting = asyncio.create_task(_take_patiently(consumer, {7}))
    harness.take_away()
    harness.bring_back()
    other = await harness.connect()
    await _until_available(lambda: other.append([ProducerRecord(topic, b"key", b"7")]))
    assert 7 in await waiting


async def _poll(member: Member, max_records: int) -> list[tuple[str, int, int]]:
    async with asyncio.timeout(TAKEN_OVER_S):
        while True:
            records = await member.poll(max_records)
            if records:
                return records


async def _committed(transport: Transport, group: str, topic: str, count: int) -> bool:
    return await committed_total(transport, group, topic) == count


def _held(consumer: Consumer) -> bool:
    return len(consumer.assignment()) == PARTITIONS


async def _until_available(operation: Callable[[], Awaitable[object]]) -> None:
    async def tried() -> bool:
        try:
            await operation()
        except TransportUnavailableError:
            return False
        return True

    await eventually(tried, timeout_s=TAKEN_OVER_S, every_s=0.1)


async def _take_patiently(consumer: Consumer, wanted: set[int]) -> set[int]:
    """Poll and commit as a consumer loop does: errors of infrastructure are waited out."""
    found: set[int] = set()

    async def tried() -> bool:
        try:
            records = await asyncio.wait_for(consumer.poll(100), TAKEN_OVER_S)
            found.update(numbers(records))
            await consumer.commit(records)
        except TransportUnavailableError:
            return False
        return found >= wanted

    await eventually(tried, timeout_s=TAKEN_OVER_S, every_s=0.05)
    return found
