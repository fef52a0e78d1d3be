"""Whether a process is alive, and whether it is ready: what is wrong, by component. And `/metrics`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from orderflow.core.access import EVERYBODY, READ
from orderflow.core.operations.model import LetterFilter
from orderflow.core.operations.port import OperatedStore
from orderflow.core.store import StoreUnavailableError
from orderflow.core.telemetry import AlarmCleared, AlarmRaised, Signals, Usage
from orderflow.core.timing import Clock
from orderflow.core.transport import TopicMissingError, TransportUnavailableError
from orderflow.http.operation import Operation, Reply, Request, Response, route
from orderflow.http.operators.queues import Queues
from orderflow.observability.metrics import CONTENT_TYPE, Gauges, LagAges, Metrics

PING_TIMEOUT_S = 2.0
FRESH_S = 1.0
READ_EVERY_S = 5.0
CLOCK_OFF_S = 5.0
UNTOLD = "show a token to see why"


class Readiness(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`problems` names each component that is not well, and why. Empty when ready.

    `faults` of a game day are there while any is set, `alarms` (by name) while something needs an operator; neither
    makes the service unready.
    """

    ready: bool
    problems: dict[str, str]
    faults: tuple[str, ...] = ()
    alarms: dict[str, str] = {}


class Liveness(msgspec.Struct, frozen=True, kw_only=True):
    """The process runs and answers. `installation` is null until its database has been reached."""

    alive: bool = True
    service: str
    installation: UUID | None


_ALIVE = {"alive": True, "service": "order", "installation": "802ee2c0-78c9-4fba-8d71-5f763dd97118"}
_READY = {"ready": True, "problems": {}}
_UNREADY = {"ready": False, "problems": {"database": "database does not answer within 2 s"}}


@dataclass(slots=True)
class HealthCheck:
    """Gathers what the engine knows with a ping of each of `pings`, at most once a second.

    `alarms` are the service's, `standing` those of the process itself. `database_ms` tells the database's time.
    """

    clock: Clock
    pings: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    known: Callable[[], Mapping[str, str]] = dict
    faults: Callable[[], Sequence[str]] = tuple
    alarms: Callable[[], Mapping[str, str]] = dict
    standing: Callable[[], Mapping[str, str]] = dict
    process: str = "starting"
    service: str = ""
    installation: UUID | None = None
    database_ms: Callable[[], Awaitable[int]] | None = None
    _clock_off: Mapping[str, str] = field(default_factory=dict)
    _found: Mapping[str, str] = field(default_factory=dict)
    _found_at: float = float("-inf")

    async def problems(self) -> Mapping[str, str]:
        """By component; `process` says that this one is starting or stopping."""
        if self.clock.monotonic() - self._found_at > FRESH_S:
            clock, *found = await asyncio.gather(
                self._look_at_clock(), *(self._ping(name, ping) for name, ping in self.pings.items())
            )
            self._clock_off = {"clock": clock} if clock else {}
            self._found = {name: problem for name, problem in zip(self.pings, found, strict=True) if problem}
            self._found_at = self.clock.monotonic()
        own = {"process": self.process} if self.process else {}
        return {**own, **self.known(), **self._found}

    @property
    def all_alarms(self) -> dict[str, str]:
        """By name, the clock's as the last look has found it."""
        return {**self.standing(), **self._clock_off, **self.alarms()}

    async def _look_at_clock(self) -> str:
        """How far the clock of this machine is off from that of the database, if it is; "" too where that is away."""
        if self.database_ms is None:
            return ""
        before = self.clock.wall_ms()
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                there = await self.database_ms()
        except (StoreUnavailableError, TimeoutError):
            return ""
        ahead_s = (before + self.clock.wall_ms() - 2 * there) / 2000
        if abs(ahead_s) < CLOCK_OFF_S:
            return ""
        where = "ahead of" if ahead_s > 0 else "behind"
        return (
            f"the local clock is {abs(ahead_s):.0f} s {where} that of the database, so ages are wrong; sync "
            "both clocks with NTP"
        )

    @staticmethod
    async def _ping(name: str, ping: Callable[[], Awaitable[None]]) -> str:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await ping()
        except TimeoutError:
            return f"{name} does not answer within {PING_TIMEOUT_S:g} s"
        except Exception as error:  # noqa: BLE001  (a probe tells what is wrong, whatever it is)
            return f"{type(error).__name__}: {error}"
        return ""


class AlarmWatch:
    """What a service says that an operator has to see to: read now and then, told when it begins, changes and ends.

    `found` are the alarms as they were read last, by name. Each process of a service reads and tells alone."""

    def __init__(
        self, service: str, read: Callable[[], Awaitable[Mapping[str, str]]], signals: Signals, clock: Clock
    ) -> None:
        self.found: Mapping[str, str] = {}
        self._service = service
        self._read = read
        self._signals = signals
        self._clock = clock

    async def step(self) -> None:
        """Read once, tell what is new, and wait for the next time. Raises what reading raises."""
        before, self.found = self.found, await self._read()
        for name, message in self.found.items():
            if before.get(name) != message:
                self._signals.emit(AlarmRaised(self._service, name, message))
        for name in before.keys() - self.found.keys():
            self._signals.emit(AlarmCleared(self._service, name))
        await self._clock.sleep(READ_EVERY_S)


def health_operations(check: HealthCheck) -> Sequence[Operation]:
    """`/health/live` and `/health/ready`."""

    async def live(_: Request[None]) -> Reply:
        """Whether the process is alive, and whose it is.

        For a supervisor: no answer means that the process needs a restart. It queries no database.
        """
        return Reply(body=Liveness(service=check.service, installation=check.installation))

    async def ready(request: Request[None]) -> Reply:
        """Whether the service can do its work, and what is in its way.

        For load balancers and people: every component that is not well, and why.
        """
        problems = dict(await check.problems())
        faults, alarms = tuple(check.faults()), check.all_alarms
        if not READ.allows(request.caller):
            problems, faults, alarms = dict.fromkeys(problems, UNTOLD), (), dict.fromkeys(alarms, UNTOLD)
        found = Readiness(ready=not problems, problems=problems, faults=faults, alarms=alarms)
        return Reply(503 if problems else 200, found)

    return (
        route(
            "GET /health/live",
            live,
            Response(200, "It is", Liveness, example=_ALIVE),
            tag="health",
            permission=EVERYBODY,
        ),
        route(
            "GET /health/ready",
            ready,
            Response(200, "Ready", Readiness, example=_READY),
            Response(503, "Not ready", Readiness, example=_UNREADY),
            tag="health",
            permission=EVERYBODY,
        ),
    )


GAUGE_TIMEOUT_S = 2.0
KEPT_FOR = 20.0
KEPT_S = 15.0
CAUSES_MAX = 20
"""So many groups of dead letters have a series of their own: labels are bounded."""

_SCRAPED = "# TYPE orderflow_outbox_unsent gauge\norderflow_outbox_unsent 0\n"
Labels = tuple[tuple[str, str], ...]
Reader = Callable[[], Awaitable[dict[str, dict[Labels, float]]]]
_AWAY = (StoreUnavailableError, TransportUnavailableError, TopicMissingError, TimeoutError)


def kept(reader: Reader, now: Callable[[], float] = time.monotonic) -> Reader:
    """`reader`, asked again only when 20 times as long has passed as it took, 15 s at most, so that a process counts
    for a twentieth of its time, however often it is asked. `now` is in seconds, by a clock that only goes on.
    """
    found: dict[str, dict[Labels, float]] = {}
    until = float("-inf")

    async def read() -> dict[str, dict[Labels, float]]:
        nonlocal found, until
        began = now()
        if began >= until:
            found = await reader()
            until = now() + min(KEPT_S, KEPT_FOR * (now() - began))
        return found

    return read


def usage_reader(pools: Callable[[], Mapping[str, Usage]], queues: Callable[[], Mapping[str, Usage]]) -> Reader:
    """How full pools of connections and bounded buffers are. It asks nobody."""

    async def usage() -> dict[str, dict[Labels, float]]:
        lent, held = pools(), queues()
        return {
            "pool_used": {(("pool", name),): each.used for name, each in lent.items()},
            "pool_waiting": {(("pool", name),): each.waiting for name, each in lent.items()},
            "pool_limit": {(("pool", name),): each.limit for name, each in lent.items()},
            "queue_length": {(("queue", name),): each.used for name, each in held.items()},
            "queue_limit": {(("queue", name),): each.limit for name, each in held.items()},
        }

    return usage


def gauge_readers(store: OperatedStore, queues: Queues) -> Sequence[Reader]:
    """Outbox, stuck keys, lag, expired records. A reader whose source is away leaves its gauges out. What counts all
    that is stuck is `kept`.
    """

    async def outbox() -> dict[str, dict[Labels, float]]:
        backlog = await store.backlog()
        return {
            "outbox_unsent": {(): backlog.unsent},
            "outbox_oldest_seconds": {(): backlog.oldest_ms / 1000},
        }

    async def stuck() -> dict[str, dict[Labels, float]]:
        found = await store.recovery.summary()
        names = ("keys", "retrying", "dead", "held")
        return {
            f"stuck_{name}": {(("consumer", each.consumer),): getattr(each, name) for each in found} for name in names
        }

    async def expired() -> dict[str, dict[Labels, float]]:
        lost: dict[Labels, float] = {}
        for each in await store.recovery.expired():
            place = (("consumer", each.consumer), ("topic", each.topic), ("partition", str(each.partition)))
            lost[place] = lost.get(place, 0) + each.count
        return {"expired_records": lost}

    return (outbox, kept(stuck), expired, kept(_dead_reader(store)), _lag_reader(queues))


def _lag_reader(queues: Queues) -> Reader:
    ages = LagAges()

    async def lag() -> dict[str, dict[Labels, float]]:
        rows = await queues.read_lag()
        found = ages.look(time.monotonic(), ((e.consumer, e.topic, e.partition, e.committed, e.end) for e in rows))
        return {
            "consumer_lag": {
                (
                    ("consumer", each.consumer),
                    ("topic", each.topic),
                    ("partition", str(each.partition)),
                ): each.lag
                for each in rows
            },
            "consumer_lag_seconds": {
                (("consumer", consumer), ("topic", topic)): age for (consumer, topic), age in found.items()
            },
        }

    return lag


def _dead_reader(store: OperatedStore) -> Reader:
    async def dead() -> dict[str, dict[Labels, float]]:
        groups = await store.recovery.groups(LetterFilter())
        told: dict[Labels, float] = {
            (("fingerprint", each.fingerprint), ("error", each.error)): each.count for each in groups[:CAUSES_MAX]
        }
        others = sum(each.count for each in groups[CAUSES_MAX:])
        return {"dead_by_cause": {**told, (("fingerprint", "others"), ("error", "others")): others}}

    return dead


def metrics_operation(metrics: Metrics, readers: Callable[[], Sequence[Reader]]) -> Operation:
    """`readers` gives those that there are at the time of the scrape: none while the process starts."""

    async def scrape(_: Request[None]) -> Reply:
        """Metrics for Prometheus (text format 0.0.4).

        This process's counters, and gauges read now. A gauge whose source is unavailable is left out.
        """
        found = await asyncio.gather(*(_read(reader) for reader in readers()))
        gauges: Gauges = {name: values for part in found for name, values in part.items()}
        return Reply(content=metrics.expose(gauges), media_type=CONTENT_TYPE)

    scraped = Response(200, "One scrape", str, media_type="text/plain", example=_SCRAPED)
    return route("GET /metrics", scrape, scraped, tag="health")


async def _read(reader: Reader) -> dict[str, dict[Labels, float]]:
    try:
        async with asyncio.timeout(GAUGE_TIMEOUT_S):
            return await reader()
    except _AWAY:
        return {}
