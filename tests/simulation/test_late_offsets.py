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
        if step == "settle" and closing and not writing.is_set():
            writing.set()
            await go_on.wait()

    log = TroubledLog(SystemClock(), random.Random(1), session_timeout_s=5)
    transport = TroubledTransport(log, hop, lambda _: None, settle_late=True)
    await transport.create_topics([TopicSettings("parcels", 1)])
    closing = False
    member = await transport.subscribe("shop", ["parcels"])
    for number in range(2):
        log.append([ProducerRecord("parcels", b"k", str(number).encode())])
        await member.settle(await member.poll(10))

    closing = True
    first = asyncio.create_task(member.close())
    await writing.wait()
    await member.close()
    go_on.set()
    await first
    assert log.group("shop").committed == {("parcels", 0): 2}
