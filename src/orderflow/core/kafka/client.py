"""A client of the library and the thread that calls it: both are replaced when a call does not return.

And the one idempotent producer, on such a thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer

from orderflow.core.crash_points import Point, reached
from orderflow.core.kafka.settings import KafkaSettings, translate
from orderflow.core.transport import ProducerRecord, TransportUnavailableError

C = TypeVar("C")
T = TypeVar("T")
Calls = SimpleQueue[Callable[[], None] | None]

CLOSE_TIMEOUT_S = 5.0


class ClientThread(Generic[C]):
    """One call at a time, in the order of the callers.

    With `keeps` a client outlives a call that raised; without it the next call has a new one. A call that outlives
    its bound is given up with its thread and its client: nothing can end it, and it must neither stop the next
    call nor the end of the process (hence a daemon thread and no `ThreadPoolExecutor`).
    """

    def __init__(
        self, name: str, make: Callable[[], C], dispose: Callable[[C], object], *, keeps: bool = False
    ) -> None:
        self._name = name
        self._make = make
        self._dispose = dispose
        self._keeps = keeps
        self._life: _Life[C] | None = None
        self._turn = asyncio.Lock()

    async def run(self, call: Callable[[C], T], timeout_s: float) -> T:
        """What `call` returns or raises. Raises TransportUnavailableError when it takes longer than `timeout_s`."""
        async with self._turn:
            if self._life is None:
                self._life = _Life(self._name, self._make, self._dispose)
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._life.calls.put(_carried(self._life, call, future, keeps=self._keeps))
            try:
                async with asyncio.timeout(timeout_s):
                    return await future
            except TimeoutError as error:
                self.give_up()
                raise TransportUnavailableError(
                    f"Kafka: a call of the client library took longer than {timeout_s:g} s; the client is replaced"
                ) from error

    def give_up(self) -> None:
        """Leave client and thread to themselves; the next call has new ones."""
        life, self._life = self._life, None
        if life is not None:
            life.calls.put(None)

    async def close(self) -> None:
        """Dispose of the client, waiting a little for what is in hand. Idempotent."""
        life, self._life = self._life, None
        if life is not None:
            life.calls.put(life.dispose)
            life.calls.put(None)
            await asyncio.to_thread(life.thread.join, CLOSE_TIMEOUT_S)


class _Life(Generic[C]):
    def __init__(self, name: str, make: Callable[[], C], dispose: Callable[[C], object]) -> None:
        self.calls: Calls = SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._make = make
        self._dispose = dispose
        self._client: C | None = None
        self.thread.start()

    def client(self) -> C:
        if self._client is None:
            self._client = self._make()
        return self._client

    def dispose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._dispose(client)

    def _serve(self) -> None:
        while (call := self.calls.get()) is not None:
            call()


def _carried(life: _Life[C], call: Callable[[C], T], future: asyncio.Future[T], *, keeps: bool) -> Callable[[], None]:
    def carry_out() -> None:
        try:
            result = call(life.client())
        except BaseException as error:  # noqa: BLE001  # whoever waits gets it, whatever it is
            # First the client: nobody who has heard of the error may still meet it.
            if not keeps:
                life.dispose()
            _tell(future, future.set_exception, error)
        else:
            _tell(future, future.set_result, result)

    return carry_out


def _tell(future: asyncio.Future[Any], resolve: Callable[[Any], None], outcome: object) -> None:
    def resolve_if_awaited() -> None:
        if not future.done():
            resolve(outcome)

    # The loop may be gone before the call is done.
    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(resolve_if_awaited)


FLUSH_MARGIN_S = 2.0
GIVE_UP_MARGIN_S = 5.0
QUEUE_FULL_POLL_S = 0.05


class _Reports:
    """Delivery reports of one append: only an error-free one counts as an acknowledgement."""

    __slots__ = ("acknowledged", "error", "topic")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.error: KafkaError | None = None
        self.topic = ""

    def __call__(self, error: KafkaError | None, message: object) -> None:
        if error is None:
            self.acknowledged += 1
            reached(Point.APPEND_REPORTED)
        elif self.error is None:
            self.error = error
            topic = getattr(message, "topic", None)
            self.topic = topic() if topic is not None else ""


class Appender:
    """One append at a time, in the order of the calls.

    After any error the producer is thrown away: what it still held may or may not be in the log, and a new
    one must not be overtaken by that.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._flush_s = settings.delivery_timeout_s + FLUSH_MARGIN_S
        self._refusals = settings.refusals
        self._producers = ClientThread("kafka-append", lambda: Producer(settings.producer()), _discard)

    async def warm_up(self) -> None:
        """Let the producer get its id from the brokers from now on (half a second), not from the first append."""
        await self._producers.run(lambda _: None, self._flush_s + GIVE_UP_MARGIN_S)

    async def append(self, records: Sequence[ProducerRecord]) -> None:
        """Raises TransportUnavailableError, TopicMissingError, RecordTooLargeError."""
        await self._producers.run(lambda producer: self._append(producer, records), self._flush_s + GIVE_UP_MARGIN_S)

    async def close(self) -> None:
        """Idempotent."""
        await self._producers.close()

    def _append(self, producer: Producer, records: Sequence[ProducerRecord]) -> None:
        reports = _Reports()
        deadline = time.monotonic() + self._flush_s
        try:
            for record in records:
                _produce(producer, record, reports, deadline)
            reached(Point.APPEND_QUEUED)
            producer.flush(max(0.0, deadline - time.monotonic()))
        except KafkaException as error:
            raise translate(error.args[0], refusals=self._refusals) from error
        if reports.acknowledged != len(records):
            if reports.error is not None:
                raise translate(reports.error, reports.topic, refusals=self._refusals)
            why = self._refusals.why
            raise TransportUnavailableError(
                f"Kafka {why}" if why else "Kafka did not acknowledge all records in time"
            )


def _produce(producer: Producer, record: ProducerRecord, reports: _Reports, deadline: float) -> None:
    while True:
        try:
            producer.produce(
                record.topic,
                record.value,
                record.key,
                headers=list(record.headers),
                on_delivery=reports,
            )
        except BufferError:
            if time.monotonic() > deadline:
                raise TransportUnavailableError("Kafka takes no more records") from None
            producer.poll(QUEUE_FULL_POLL_S)
        else:
            return


def _discard(producer: Producer) -> None:
    producer.purge()
    producer.flush(0)
