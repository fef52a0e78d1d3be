"""Readings of all services, second by second, while somebody watches; what is counted in them, and how fast it grows.

With nobody there nothing is asked. All tabs share one reading.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from orderflow.console.asking import AskError, Services
from orderflow.http.operators.queues import Lag
from orderflow.services.order.storage import OrderStates

EVERY_S = 1.0
TRACED = 300
SMOOTHED_OVER = 5
GAP_S = 10.0
"""When nobody has looked for so long, rates are not counted across it."""

SLOW_EVERY = 5
"""What changes slowly is asked for in every fifth reading."""

Counter = tuple[str, ...]
Labels = Mapping[str, str]

_LINE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class Exposition:
    """What a process shows at `/metrics` (Prometheus text format 0.0.4): samples by the name of their metric.

    `_bucket` samples are left out: nobody here reads them.
    """

    def __init__(self, text: str = "") -> None:
        self._samples: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for line in text.splitlines():
            if line.startswith("orderflow_") and (match := _LINE.fullmatch(line)) and "_bucket" not in match["name"]:
                self._samples[match["name"]].append((_labels(match["labels"] or ""), float(match["value"])))

    def of(self, name: str) -> Iterator[tuple[Labels, float]]:
        """Every sample of the metric `orderflow_<name>`."""
        yield from self._samples.get(f"orderflow_{name}", ())

    def total(self, name: str, **wanted: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(
            value
            for labels, value in self.of(name)
            if all(labels.get(label) == text for label, text in wanted.items())
        )


def _labels(text: str) -> Labels:
    return {
        name: re.sub(r'\\[\\"n]', lambda match: _ESCAPED[match[0]], value) for name, value in _LABEL.findall(text)
    }


@dataclass(frozen=True, slots=True)
class ServiceReading:
    """One service at one moment. `why` says why it is not `ready`; `is_there` tells whether it answers at all."""

    name: str
    is_there: bool
    why: str
    exposition: Exposition
    lag: Sequence[Lag] = ()
    addresses: Sequence[str] = ()

    @property
    def state(self) -> str:
        if not self.is_there:
            return "down"
        return "not ready" if self.why else "ready"

    @property
    def stuck(self) -> Mapping[str, int]:
        """How many events wait, by why: `retrying`, `dead`, `held`."""
        return {why: round(self.exposition.total(f"stuck_{why}")) for why in ("retrying", "dead", "held")}

    @property
    def outbox(self) -> int:
        return round(self.exposition.total("outbox_unsent"))

    @property
    def behind(self) -> int:
        return sum(each.lag for each in self.lag)


@dataclass(frozen=True, slots=True)
class Reading:
    """All services at one moment. `at` is monotonic, in seconds; `wall_ms` for people. `read` are the addresses of
    the processes that have answered.
    """

    at: float
    wall_ms: int
    services: Mapping[str, ServiceReading]
    counters: Mapping[Counter, float] = field(default_factory=dict)
    read: frozenset[str] = frozenset()
    states: OrderStates | None = None

    def total(self, *wanted: str) -> float:
        """The sum of the counters whose name begins so (the last part of a name is the process)."""
        return sum(value for name, value in self.counters.items() if name[: len(wanted)] == wanted)


Point = Sequence[float | None]
Traced = Callable[[Sequence[Reading]], Point]


class Sampler:
    """Reads all services every second while somebody is inside `watched`. Of what is `traced`, the last five minutes
    are kept. `now` is in seconds, by a clock that only goes on.
    """

    def __init__(self, services: Services, traced: Traced, now: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._traced = traced
        self._now = now
        self._readings: deque[Reading] = deque(maxlen=SMOOTHED_OVER + 1)
        self._trace: deque[Point] = deque(maxlen=TRACED)
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._taken = 0
        self._states: OrderStates | None = None

    @property
    def readings(self) -> Sequence[Reading]:
        """Oldest first."""
        return [*self._readings]

    @property
    def trace(self) -> Sequence[Point]:
        """What was traced, oldest first: when (s since the epoch), then the values."""
        return [*self._trace]

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is asked."""
        return self._task is None

    @property
    def latest(self) -> Reading | None:
        return self._readings[-1] if self._readings else None

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        self._watchers += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="sampler")
        try:
            yield
        finally:
            self._watchers -= 1

    async def fresh(self) -> Reading:
        """A reading that is no older than a few seconds."""
        latest = self.latest
        if latest is None or self._now() - latest.at > 2 * EVERY_S:
            return await self._take()
        return latest

    async def next_after(self, reading: Reading | None) -> Reading:
        """The one that follows. Only inside of `watched`."""
        while (latest := self.latest) is None or latest is reading:
            await self._changed.wait()
        return latest

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._watchers:
                began = self._now()
                await self._take()
                await asyncio.sleep(max(0.1, EVERY_S - (self._now() - began)))
        finally:
            self._task = None

    async def _take(self) -> Reading:
        names = self._services.names
        readings = asyncio.gather(*(self._read(name) for name in names))
        if self._taken % SLOW_EVERY == 0:
            self._states = await self._read_states()
        self._taken += 1
        found = await readings
        counters = {name: value for _, counted in found for name, value in counted.items()}
        services = {name: reading for name, (reading, _) in zip(names, found, strict=True)}
        read = frozenset(address for reading, _ in found for address in reading.addresses)
        reading = Reading(self._now(), round(time.time() * 1000), services, counters, read, self._states)
        self._forget_what_is_old(reading)
        self._readings.append(reading)
        self._trace.append([round(reading.wall_ms / 1000), *self._traced(self._readings)])
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return reading

    def _forget_what_is_old(self, reading: Reading) -> None:
        latest = self.latest
        if latest is not None and reading.at - latest.at > GAP_S:
            self._readings.clear()
            if self._trace:
                self._trace.append([round(latest.wall_ms / 1000) + 1, *(None for _ in self._trace[-1][1:])])

    async def _read(self, name: str) -> tuple[ServiceReading, Mapping[Counter, float]]:
        try:
            addresses = self._services.process_urls(name)
            lag, ready, *texts = await asyncio.gather(
                self._services.read(list[Lag], name, "/ops/lag"),
                self._services.inspect(name, "/health/ready"),
                *(self._services.scrape(name, each) for each in addresses),
            )
        except AskError as error:
            return ServiceReading(name, is_there=bool(error.status), why=str(error), exposition=Exposition()), {}
        exposed = [Exposition(text) for text in texts]
        counters: dict[Counter, float] = {}
        for address, each in zip(addresses, exposed, strict=True):
            counters.update(_counted(name, address, each))
        for row in lag:
            place = (row.topic, str(row.partition))
            counters["appended", row.topic, *place] = row.end
            counters["committed", row.consumer, row.topic, *place] = row.committed
        why = "; ".join(f"{part}: {problem}" for part, problem in ready["problems"].items())
        return ServiceReading(name, True, why, exposed[0], lag, addresses), counters

    async def _read_states(self) -> OrderStates | None:
        try:
            return await self._services.read(OrderStates, "order", "/ops/order-states")
        except AskError:
            return None


def _counted(service: str, address: str, exposition: Exposition) -> Iterator[tuple[Counter, float]]:
    for labels, value in exposition.of("messages_total"):
        yield ("handled", service, labels.get("outcome", ""), _kind(labels), address), value
    for labels, value in exposition.of("refused_transitions_total"):
        yield ("refused", service, _kind(labels), address), value
    for labels, value in exposition.of("intents_total"):
        yield ("asked", labels.get("kind", ""), labels.get("outcome", ""), address), value
    for part in ("sum", "count"):
        yield ("relay age", part, service, address), exposition.total(f"outbox_relay_age_seconds_{part}")


def _kind(labels: Labels) -> str:
    return labels.get("event_type", "").removeprefix("orderflow.").partition(".")[0]


def rate(readings: Sequence[Reading], *wanted: str, over: int = SMOOTHED_OVER) -> float | None:
    """How fast counters whose name begins so have grown, a second, over the last readings; None before there are two.

    A process that began anew counts from 0 again: what is less than before has all been counted since. So has what a
    process that was read before counts for the first time.
    """
    if len(readings) < 2:
        return None
    now, then = readings[-1], readings[max(-1 - over, -len(readings))]
    grown = 0.0
    for name, value in now.counters.items():
        if name[: len(wanted)] == wanted and (name in then.counters or name[-1] in then.read):
            before = then.counters.get(name, 0.0)
            grown += value - before if value >= before else value
    return grown / max(0.001, now.at - then.at)
