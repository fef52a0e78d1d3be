"""Kafka: whether a local one can be had, and whether the one that is used answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from orderflow.cli.checks.verdict import FAILED, OK, SKIPPED, Verdict
from orderflow.settings import Settings


def local_kafka() -> Verdict:
    """Java and Maven, which only `up --kafka` needs."""
    from orderflow.local.kafka import find_java, missing_for_kafka

    why = missing_for_kafka()
    if why is not None:
        return Verdict("java and maven", SKIPPED, why, "Only needed for: orderflow up --kafka")
    return Verdict("java and maven", OK, f"{find_java()}, for: orderflow up --kafka")


def kafka(running: Settings) -> Iterator[Verdict]:
    """Only where it carries the events."""
    if running.transport == "kafka":
        yield asyncio.run(_ask(running))


async def _ask(settings: Settings) -> Verdict:
    from orderflow.cli.errors import CliError
    from orderflow.cli.log_access import open_log
    from orderflow.local.preparation import all_topics
    from orderflow.messaging.transport import TopicMissingError

    where = settings.kafka_bootstrap
    try:
        async with open_log(settings) as log:
            await log.ping()
            await log.ends([topic.name for topic in all_topics(settings)])
    except CliError as error:
        advice = "Is the broker up, and ORDERFLOW_KAFKA_BOOTSTRAP right?"
        return Verdict("kafka", FAILED, str(error), advice)
    except TopicMissingError as error:
        return Verdict("kafka", FAILED, f"answers at {where}, but has no topic {error}", "Run: orderflow migrate")
    return Verdict("kafka", OK, f"answers at {where} and has every topic")
