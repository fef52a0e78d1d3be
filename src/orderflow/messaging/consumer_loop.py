"""Polls a consumer, carries the batch in, settles it: database first, offset second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from orderflow.messaging.carrier import Carrier
from orderflow.messaging.cloudevents import type_of
from orderflow.messaging.crash_points import Point, reached
from orderflow.messaging.decision import Subscription
from orderflow.messaging.pacing import Pacer
from orderflow.messaging.patience import Patience
from orderflow.messaging.transport import (
    Consumer,
    ConsumerRecord,
    TopicMissingError,
    Transport,
    TransportUnavailableError,
)

LONG_BATCH = 3
"""A batch that has been committed in so many parts goes on well, however long it takes; most have one or two."""

NO_EXCUSE = (TransportUnavailableError, TopicMissingError)


class ConsumerLoop:
    """One subscription of the service. `unread` are the wire names of events that it passes over.

    `joining` is awaited before a group is joined; `commits` tells how many batches of the consumer were committed.
    """

    def __init__(
        self,
        subscription: Subscription,
        unread: frozenset[bytes],
        carrier: Carrier,
        transport: Transport,
        pacer: Pacer,
        patience: Patience,
        batch_max: int,
        joining: Callable[[str, Sequence[str]], Awaitable[None]],
        commits: Callable[[], int],
    ) -> None:
        self.worked = False
        self.consumer = subscription.consumer
        self._topics = subscription.topics
        self._unread = unread
        self._carrier = carrier
        self._transport = transport
        self._pacer = pacer
        self._patience = patience
        self._batch_max = batch_max
        self._joining = joining
        self._commits = commits
        self._commits_before: int | None = None
        self._member: Consumer | None = None
        self._poll_task: asyncio.Task[Sequence[ConsumerRecord]] | None = None
        self._waiting = False
        self._closing = asyncio.Event()

    @property
    def problem(self) -> str:
        """Why records wait although the database is there; "" when they do not."""
        return self._carrier.problem

    def excuse(self, place: str) -> str:
        """Why records of a place ("topic/partition") wait, where that is known; "" when it is not.

        That the log cannot be reached is no excuse: who asks has just reached it.
        """
        if self._patience.error is not None and not isinstance(self._patience.error, NO_EXCUSE):
            return self._patience.problem
        topic, _, partition = place.rpartition("/")
        return self._carrier.excuse(topic, int(partition))

    def holds(self, place: str) -> bool:
        """Whether the place is this member's to read: it has it, or has none at all although it should."""
        topic, _, partition = place.rpartition("/")
        held = self._member.assignment() if self._member is not None else frozenset()
        return not held or (topic, int(partition)) in held

    @property
    def strides(self) -> int:
        """How far one long batch has come, which commits part by part; 0 when there is none."""
        commits = 0 if self._commits_before is None else self._commits() - self._commits_before
        return commits if commits >= LONG_BATCH else 0

    async def run(self) -> None:
        """Consume until `close`; then return when the batch in hand is settled. What is deferred is not.

        May be cancelled and run anew: it joins its group as a new member then.
        """
        self._member = None
        try:
            while not self._closing.is_set():
                await self._patience.until_done(self._step)
        finally:
            await self._leave()
            if self._poll_task is not None:
                task, self._poll_task = self._poll_task, None
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Take no more records. `run` returns when the batch in hand is settled and the group is left."""
        self._closing.set()
        if self._waiting:
            await self._leave()

    async def _step(self) -> None:
        if self._closing.is_set():
            return
        if self._member is None:
            await self._joining(self.consumer, self._topics)
            self._member = await self._transport.subscribe(self.consumer, self._topics)
            reached(Point.CONSUMER_JOINED)
        member = self._member
        await self._pacer.gather()
        records = await self._take(member)
        if self._closing.is_set() and not records:
            return
        if records:
            self._pacer.started(len(records))
            reached(Point.CONSUMER_POLLED)
        read = [record for record in records if type_of(record) not in self._unread]
        if read or self._carrier.wait_s is not None:
            await self._patience.until_done(lambda: self._carry(read))
        done = self._carrier.settleable(records)
        if done:
            reached(Point.CONSUMER_CARRIED)
            # Tried until it succeeds: nothing else settles the last records of a quiet topic.
            await self._patience.until_done(lambda: member.settle(done))
            reached(Point.OFFSETS_NOTED)
            self.worked = True
        if records:
            self._pacer.ended()

    async def _take(self, member: Consumer) -> Sequence[ConsumerRecord]:
        """The next records; none when something that was deferred may be tried before they come."""
        wait_s = self._carrier.wait_s
        if self._closing.is_set():
            return ()
        self._waiting = True
        try:
            if wait_s is None and self._poll_task is None:
                return await member.poll(self._batch_max)
            return await self._poll_within(member, wait_s)
        finally:
            self._waiting = False

    async def _poll_within(self, member: Consumer, wait_s: float | None) -> Sequence[ConsumerRecord]:
        """A poll that takes longer goes on, since one that is cancelled could lose what it had fetched."""
        if self._poll_task is None and not self._carrier.has_room:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._closing.wait()
            return ()
        if self._poll_task is None:
            self._poll_task = asyncio.get_running_loop().create_task(member.poll(self._batch_max))
        await asyncio.wait({self._poll_task}, timeout=wait_s)
        if not self._poll_task.done():
            return ()
        task, self._poll_task = self._poll_task, None
        return task.result()

    async def _carry(self, records: Sequence[ConsumerRecord]) -> None:
        """Tried until it succeeds, whatever it raises: the next poll would settle past these records.

        So the batch stays in hand while the database is away: no attempt is burnt, the membership is kept.
        """
        self._commits_before = self._commits()
        try:
            await self._carrier.carry(records, carefully=self._patience.is_troubled)
        finally:
            self._commits_before = None

    async def _leave(self) -> None:
        if self._member is not None:
            with suppress(TransportUnavailableError):
                await self._member.close()
