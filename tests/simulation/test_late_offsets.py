"""Members of the simulated log that write offsets late lose none of them when they are closed in good order."""

from __future__ import annotations

import asyncio
import random

from orderflow.core.timing import SystemClock
from orderflow.core.transport import ProducerRecord, TopicSettings
from orderflow.simulation.log import TroubledLog, TroubledTransport


async def test_who_closes_a_member_again_while_it_writes_its_last_offsets_does_not_cut_that_short() -> None:
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def hop(step: str) -> None:
        if step == "commit_offsets" and closing and not writing.is_set():
            writing.set()
            await go_on.wait()

    log = TroubledLog(SystemClock(), random.Random(1), session_timeout_s=5)
    transport = TroubledTransport(log, hop, lambda _: None, commit_late=True)
    await transport.create_topics([TopicSettings("parcels", 1)])
    closing = False
    member = await transport.subscribe("shop", ["parcels"])
    for number in range(2):
        log.append([ProducerRecord("parcels", b"k", str(number).encode())])
        await member.commit(await member.poll(10))

    closing = True
    first = asyncio.create_task(member.close())
    await writing.wait()
    await member.close()
    go_on.set()
    await first
    assert log.group("shop").committed == {("parcels", 0): 2}


async def go_on_at_once(_: str) -> None:
    await asyncio.sleep(0)


async def test_what_a_member_commits_again_after_it_was_fenced_is_written() -> None:
    log = TroubledLog(SystemClock(), random.Random(1), session_timeout_s=5)
    transport = TroubledTransport(log, go_on_at_once, lambda _: None, commit_late=True)
    await transport.create_topics([TopicSettings("parcels", 1)])
    log.append([ProducerRecord("parcels", b"k", b"1")])
    consumer = await transport.subscribe("shop", ["parcels"])
    await consumer.commit(await consumer.poll(10))
    log.leave("shop", log.group("shop").members[0])

    await consumer.commit(await consumer.poll(10))
    await consumer.close()
    assert log.group("shop").committed == {("parcels", 0): 1}
