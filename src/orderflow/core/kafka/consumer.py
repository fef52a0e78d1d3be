"""A member of a Kafka consumer group, for the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress

from orderflow.core.kafka.admin import Admin
from orderflow.core.kafka.membership import FetchBuffer, Place, Poller
from orderflow.core.kafka.settings import KafkaSettings
from orderflow.core.transport import ConsumerRecord, TopicMissingError, TransportUnavailableError

TELL_AGAIN_S = 0.5
CLOSE_TIMEOUT_S = 15.0


class KafkaConsumer:
    """Made by `KafkaTransport.subscribe`.

    For each topic it is a member of its own: the assignor evens out how many partitions a member has and not whose
    they are, so of two members for two topics it gives one topic to each, whatever their load.
    """

    def __init__(self, settings: KafkaSettings, admin: Admin, group: str, topics: Sequence[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._admin = admin
        self._woken = asyncio.Event()
        self._buffer = FetchBuffer()
        self._told = False
        self._closed = False
        self._pollers = [self._poller(settings, group, topic) for topic in dict.fromkeys(topics)]

    async def poll(self, max_records: int) -> Sequence[ConsumerRecord]:
        while not self._closed:
            self._woken.clear()
            for poller in self._pollers:
                if poller.notices:
                    raise poller.notices.popleft()
            records = self._buffer.take(max_records)
            if records:
                self._told = False
                return records
            if self._problem() is not None:
                await self._tell()
            elif self._told:
                # Let the caller see that it works again.
                self._told = False
                break
            else:
                await self._woken.wait()
        return ()

    async def commit(self, records: Sequence[ConsumerRecord]) -> None:
        self._buffer.mark_done(records)

    def assignment(self) -> frozenset[Place]:
        return frozenset() if self._closed else self._buffer.places()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._woken.set()
        for poller in self._pollers:
            poller.stop()
        await asyncio.gather(*(asyncio.to_thread(each.join, CLOSE_TIMEOUT_S) for each in self._pollers))

    async def _tell(self) -> None:
        """Raise what is wrong, unless it passes in a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TELL_AGAIN_S):
                await self._woken.wait()
        problem = self._problem()
        if problem is None or self._closed:
            return
        self._told = True
        kind = TopicMissingError if isinstance(problem, TopicMissingError) else TransportUnavailableError
        raise kind(str(problem)) from problem

    def _problem(self) -> Exception | None:
        return next((each.problem for each in self._pollers if each.problem is not None), None)

    def _poller(self, settings: KafkaSettings, group: str, topic: str) -> Poller:
        def topic_id() -> Future[str]:
            return asyncio.run_coroutine_threadsafe(self._admin.topic_id(topic), self._loop)

        return Poller(settings, group, topic, self._buffer, topic_id=topic_id, wake=self._wake)

    def _wake(self) -> None:
        # The loop may be gone before the thread is.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._woken.set)
