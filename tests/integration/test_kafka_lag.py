"""Asking a broker that has just started where groups stand: its coordinators are still moving."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from orderflow.core.kafka import KafkaTransport
from orderflow.core.transport import TopicSettings, TransportUnavailableError
from tests.support.kafka import KafkaServer

ROOT = Path(__file__).parents[2]
ASKING = 4
TIMES = 40


async def test_a_process_that_asks_for_the_lag_while_coordinators_move_lives_on(kafka_jars: Path) -> None:
    broker = KafkaServer(kafka_jars)
    try:
        broker.start()
        command = (sys.executable, "-m", "tests.integration.test_kafka_lag", broker.bootstrap)
        asking = [await asyncio.create_subprocess_exec(*command, cwd=ROOT) for _ in range(ASKING)]
        assert [await asyncio.wait_for(each.wait(), 120) for each in asking] == [0] * ASKING
    finally:
        broker.remove()


async def ask(bootstrap: str) -> None:
    """As a service does that starts together with its broker."""
    transport = await KafkaTransport.connect(bootstrap)
    await transport.create_topics([TopicSettings("asked", 6)])
    answered = 0
    for _ in range(TIMES):
        groups = (f"group {os.getpid()} {number}" for number in range(2))
        answers = await asyncio.gather(*(transport.lag(group, ["asked"]) for group in groups), return_exceptions=True)
        assert all(isinstance(each, list | TransportUnavailableError) for each in answers), answers
        answered = sum(isinstance(each, list) for each in answers)
    assert answered == 2
    await transport.close()


if __name__ == "__main__":
    asyncio.run(ask(sys.argv[1]))
