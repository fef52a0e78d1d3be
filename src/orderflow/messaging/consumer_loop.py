"""Polls a consumer, carries the batch in, settles it: database first, offset second."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from orderflow.messaging.cloudevents import type_of
from orderflow.messaging.decision import Subscription
from orderflow.messaging.incoming import from_record
from orderflow.messaging.inlet import Inlet
from orderflow.messaging.pacing import Pacer
from orderflow.messaging.patience import Patience
from orderflow.messaging.transport import Consumer, ConsumerRecord, Transport, TransportUnavailableError


class ConsumerLoop:
    """One subscription of the service. `step` polls and handles one batch."""

    def __init__(
        self,
        subscription: Subscription,
        inlet: Inlet,
        transport: Transport,
        pacer: Pacer,
        patience: Patience,
        batch_max: int,
    ) -> None:
        self._subscription = subscription
        self._inlet = inlet
        self._transport = transport
        self._pacer = pacer
        self._patience = patience
        self._batch_max = batch_max
        self._unread = inlet.service.unread()
        self._consumer: Consumer | None = None
        self._polling = False
        self._closing = False

    async def run(self) -> None:
        """Consume until `close`; then return when the batch in hand is settled."""
        try:
            while not self._closing:
                await self._patience.until_done(self._step)
        finally:
            await self._leave()

    async def close(self) -> None:
        """Take no more records. `run` returns when the batch in hand is settled and the group is left."""
        self._closing = True
        if self._polling:
            await self._leave()

    async def _step(self) -> None:
        if self._closing:
            return
        if self._consumer is None:
            self._consumer = await self._transport.subscribe(self._subscription.consumer, self._subscription.topics)
        await self._pacer.gather()
        records = await self._poll(self._consumer)
        if not records:
            return
        self._pacer.started(len(records))
        read = [record for record in records if type_of(record) not in self._unread]
        if read:
            await self._patience.until_done(lambda: self._carry_in(read))
        consumer = self._consumer
        # Tried until it succeeds: nothing else settles the last records of a quiet topic.
        await self._patience.until_done(lambda: consumer.settle(records))

    async def _poll(self, consumer: Consumer) -> Sequence[ConsumerRecord]:
        if self._closing:
            return ()
        self._polling = True
        try:
            return await consumer.poll(self._batch_max)
        finally:
            self._polling = False

    async def _carry_in(self, records: Sequence[ConsumerRecord]) -> None:
        """Tried until it succeeds, whatever it raises: the next poll would settle past these records.

        So the batch stays in hand while the database is away: no attempt is burnt, the membership is kept.
        """
        batch = [from_record(record, self._inlet.service.catalogue) for record in records]
        await self._inlet.admit(self._subscription.consumer, batch)

    async def _leave(self) -> None:
        if self._consumer is not None:
            with suppress(TransportUnavailableError):
                await self._consumer.close()
