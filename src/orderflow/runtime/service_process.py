"""The parts of a running service, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from orderflow.core.crash_points import Point, reached
from orderflow.core.engine import Engine
from orderflow.core.game_days.game_day import GameDay, tell_ignored
from orderflow.core.identity import uuid7
from orderflow.core.postgres.faults import PostgresFaults
from orderflow.core.postgres.schema import installation_of
from orderflow.core.postgres.sessions import TransactionPoolingError
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.retry import Backoff, RetryLoop
from orderflow.core.service import Service
from orderflow.core.side_effects import Gateway
from orderflow.core.store import SchemaBehindError, StoreUnavailableError
from orderflow.core.telemetry import Signals
from orderflow.core.timing import Clock
from orderflow.core.transport import Transport
from orderflow.http.application import ApplicationState, Mount
from orderflow.http.faults import Faults
from orderflow.http.operation import Operation
from orderflow.http.operators.operators import operator_operations
from orderflow.http.operators.proposals import Proposals
from orderflow.http.operators.queues import Queues
from orderflow.observability.metrics import Metrics
from orderflow.privacy.customers import ClearCustomers, ConcealedCustomers, Customers
from orderflow.runtime.definition import ServiceContext, Surroundings
from orderflow.runtime.doors import Doors, openid_of, verifier
from orderflow.runtime.exposure import require_closed
from orderflow.runtime.health import (
    AlarmWatch,
    HealthCheck,
    Reader,
    gauge_readers,
    health_operations,
    metrics_operation,
    usage_reader,
)
from orderflow.runtime.wiring import (
    engine_config,
    http_limits,
    open_customers,
    open_store,
    open_transport,
    service_config,
)
from orderflow.settings import Settings, SettingsError

if TYPE_CHECKING:
    from orderflow.observability.tracing import Tracing

_FIRST_WAIT_MS = 100
_LONGEST_WAIT_MS = 5_000
_HTTP_STOP_S = 2.0


class StandstillError(Exception):
    """A part of the service stands still and cannot be brought back in this process. The message says which."""


class ServiceProcess:
    """`open`, then `run_until`, then `close`: each once."""

    def __init__(
        self,
        service: Service,
        settings: Settings,
        signals: Signals,
        metrics: Metrics,
        clock: Clock,
        rng: random.Random,
        listeners: tuple[socket.socket, socket.socket],
        tracing: Tracing | None = None,
    ) -> None:
        self._service = service
        self._settings = settings
        self._signals = signals
        self._clock = clock
        self._rng = rng
        self._stopping = asyncio.Event()
        self._hopeless = asyncio.Event()
        self._retry_loops: list[RetryLoop] = []
        self._why = ""
        self._health = HealthCheck(clock, service=service.name)
        observers = (metrics.observe_request, metrics.observe_refusal, metrics.observe_timeout)
        self._state = ApplicationState(rng, *observers, tracing=tracing)
        self._readers: Sequence[Reader] = ()
        probes = [*health_operations(self._health), metrics_operation(metrics, lambda: self._readers)]
        http = http_limits(settings)
        self.connections_max = http.connections_max
        title = service.title or service.name
        self._openid = openid_of(settings, clock)
        verify = verifier(settings, self._openid)
        self._config = service_config(service, settings, http)
        waiting_max = self._config.http_waiting_max
        self._doors = Doors(listeners, settings, http, waiting_max, verify, self._state, probes, title)
        self._readers = (self._doors.gauges,)
        self._open_to_all = require_closed(settings)
        self._health.standing = self._standing
        self._engine: Engine | None = None
        self._extensions: list[Operation] = []
        self._parts = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def places(self) -> dict[str, object]:
        """Where it listens: the ports of its two doors."""
        return {"port": self._doors.port, "ops_port": self._doors.ops_port}

    def open(self) -> None:
        """Listen: from here on probes are answered."""
        self._doors.open()

        async def read() -> Mapping[str, str]:
            return self._standing()

        watch = AlarmWatch(self._service.name, read, self._signals, self._clock)
        self._task(self._retry_loop("alarms").forever(watch.step))
        if self._openid is not None:
            self._task(self._retry_loop("openid").forever(self._openid.step))

    async def run_until(self, stopping: asyncio.Event, announce: Callable[[dict[str, object]], None]) -> None:
        """Start what serves, announce it, serve. Raises SchemaBehindError, SettingsError, StandstillError."""
        starting = asyncio.ensure_future(self._start())
        stopped = asyncio.ensure_future(stopping.wait())
        hopeless = asyncio.ensure_future(self._hopeless.wait())
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                name = self._service.name
                announce({"ready": True, "service": name, **self.places, "pid": os.getpid()})
                reached(Point.START_READY)
                await asyncio.wait({stopped, hopeless}, return_when=asyncio.FIRST_COMPLETED)
                if hopeless.done() and not stopped.done():
                    raise StandstillError(f"{name} ends, so that a new process takes its place: {self._why}")
        finally:
            for task in (starting, stopped, hopeless):
                task.cancel()
            await asyncio.gather(starting, stopped, hopeless, return_exceptions=True)

    async def close(self, timeout_s: float) -> None:
        """Say not ready, take no new commands, finish what is in hand, publish it, leave."""
        deadline = self._clock.monotonic() + timeout_s
        self._health.process = "stopping"
        self._state.draining = True
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._parts:
            try:
                if self._engine is not None:
                    await self._engine.drain(max(0.1, deadline - self._clock.monotonic() - _HTTP_STOP_S))
            finally:
                await self._doors.stop(max(0.1, min(_HTTP_STOP_S, deadline - self._clock.monotonic())))

    async def _start(self) -> None:
        store = await self._until_open("database", lambda: open_store(self._service, self._settings), closing=True)
        reached(Point.START_OPENED)
        self._health.pings["database"] = store.ping
        self._health.database_ms = store.clock_ms
        self._health.installation = await self._until_open("installation", lambda: installation_of(store.fetch))
        transport = await self._until_open(
            "transport", lambda: open_transport(self._service, self._settings, store, self._rng), closing=True
        )
        self._health.installation = await self._until_open("installation", lambda: installation_of(store.fetch))
        reached(Point.START_TOPICS)
        self._health.pings["transport"] = transport.ping
        game_day = await self._open_game_day(store)
        surroundings = self._surroundings(store, await self._open_customers())
        gateway = await self._open_gateway(surroundings)
        engine = self._make_engine(store, transport, gateway, game_day)
        context = ServiceContext(**_fields(surroundings), commands=engine, gateway=gateway)
        operations = self._operations(context, store, transport, engine)
        mounts = self._service.mounts(context) if self._service.mounts is not None else {}
        self._start_engine(engine, game_day)
        self._doors.show(version("orderflow"), operations, {path: Mount(each) for path, each in mounts.items()})
        self._watch_alarms(context)
        await self._begin(context)
        reached(Point.START_RUNNING)
        self._health.process = ""

    def _surroundings(self, store: PostgresStore, customers: Customers) -> Surroundings:
        return Surroundings(
            config=self._config,
            database=store,
            store=store,
            signals=self._signals,
            clock=self._clock,
            rng=self._rng,
            stopping=self._stopping,
            customers=customers,
        )

    async def _open_customers(self) -> Customers:
        """Where there is no master key, or nobody is named, names stay as they are."""
        if not self._service.personal or self._settings.keys_master_key is None:
            return ClearCustomers()
        opening = self._until_open("keys", lambda: open_customers(self._settings, self._clock), closing=True)
        customers: ConcealedCustomers = await opening
        self._health.pings["keys"] = customers.ping
        return customers

    async def _open_game_day(self, store: PostgresStore) -> GameDay | None:
        """None, and nothing of it is in the way, where the process was not started for a game day."""
        service, faults = self._service, PostgresFaults(store.fetch)
        if not self._settings.game_day:
            await self._until_open("faults", lambda: tell_ignored(service.name, faults, self._signals))
            return None
        game_day = GameDay(service, faults, self._signals, self._clock)
        await self._until_open("faults", game_day.begin)
        self._parts.push_async_callback(game_day.leave)
        self._health.faults = lambda: [str(fault) for fault in game_day.faults]
        self._extensions += Faults(service, faults, self._clock).operations()
        self._task(self._retry_loop("faults").forever(game_day.step))
        return game_day

    async def _open_gateway(self, surroundings: Surroundings) -> Gateway | None:
        make = self._service.gateway
        if make is None:
            return None
        gateway: Gateway = await self._until_open("gateway", lambda: make(surroundings), closing=True)
        return gateway

    def _operations(
        self, context: ServiceContext, store: PostgresStore, transport: Transport, engine: Engine
    ) -> Sequence[Operation]:
        queues = Queues(self._service, store, transport)
        usage = usage_reader(store.pools, engine.queues)
        self._readers = (self._doors.gauges, usage, *gauge_readers(store, queues))
        operators = operator_operations(self._service, engine.recovery, engine.overruling, queues)
        own = self._service.api(context) if self._service.api is not None else ()
        proposals = Proposals(store.recovery, lambda: uuid7(self._clock.wall_ms(), self._rng))
        return [*proposals.over([*own, *operators]), *proposals.operations(), *self._extensions]

    def _make_engine(
        self, store: PostgresStore, transport: Transport, gateway: Gateway | None, game_day: GameDay | None
    ) -> Engine:
        return Engine(
            game_day.service if game_day else self._service,
            store,
            game_day.transport(transport) if game_day else transport,
            gateway=gateway,
            signals=self._signals,
            clock=self._clock,
            rng=self._rng,
            config=engine_config(self._settings),
            held=game_day.held if game_day else lambda _: "",
            end=self._end,
        )

    def _end(self, why: str) -> None:
        self._why = why
        self._hopeless.set()

    def _start_engine(self, engine: Engine, game_day: GameDay | None) -> None:
        engine.start()
        standing = game_day.problems if game_day else dict[str, str]
        self._health.known = lambda: {**self._troubles(), **engine.health().problems, **standing()}
        self._health.alarms = lambda: engine.health().alarms
        self._engine = engine

    def _standing(self) -> Mapping[str, str]:
        """Alarms of the process itself, by name."""
        insecure = {"insecure": self._open_to_all} if self._open_to_all else {}
        return {**insecure, **self._doors.problems(self._clock.wall_ms() / 1000)}

    def _watch_alarms(self, context: ServiceContext) -> None:
        alarms = self._service.alarms
        if alarms is not None:
            watch = AlarmWatch(self._service.name, lambda: alarms(context), self._signals, self._clock)
            of_the_engine = self._health.alarms
            self._health.alarms = lambda: {**of_the_engine(), **watch.found}
            self._task(self._retry_loop("alarms").forever(watch.step))

    async def _begin(self, context: ServiceContext) -> None:
        on_start, upkeep = self._service.on_start, self._service.upkeep
        if on_start is not None:
            await self._until_open("start", lambda: on_start(context))
        if upkeep is None:
            return

        async def step() -> None:
            await self._clock.sleep(self._service.upkeep_every_s)
            await upkeep(context)

        self._task(self._retry_loop("upkeep").forever(step))

    def _troubles(self) -> dict[str, str]:
        """What the service's own tasks wait for."""
        return {each.component: each.problem for each in self._retry_loops if each.waiting}

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def _retry_loop(self, component: str) -> RetryLoop:
        backoff = Backoff(_FIRST_WAIT_MS, _LONGEST_WAIT_MS)
        retries = RetryLoop(self._service.name, component, backoff, self._signals, self._clock, self._rng)
        self._retry_loops.append(retries)
        return retries

    async def _until_open(self, component: str, make: Callable[[], Awaitable[Any]], *, closing: bool = False) -> Any:
        """What `make` returns, as soon as infrastructure lets it; what waiting cannot fix is raised.

        `closing`: it is closed at the end of the process, if it can be, whatever the start comes to after it.
        """
        retries = self._retry_loop(component)
        self._health.pings[component] = _problem_of(retries)
        made: list[Any] = []
        final: list[Exception] = []

        async def step() -> None:
            try:
                made.append(await make())
                if closing and (close := getattr(made[0], "close", None)) is not None:
                    self._parts.push_async_callback(close)
            except (SchemaBehindError, SettingsError) as error:
                final.append(error)
            except TransactionPoolingError as error:
                final.append(SettingsError(f"cannot use the address of the {component}: {error}"))

        await retries.until_done(step)
        del self._health.pings[component]
        if final:
            raise final[0]
        return made[0]


def _problem_of(retries: RetryLoop) -> Callable[[], Awaitable[None]]:
    async def ping() -> None:
        if retries.problem:
            raise StoreUnavailableError(retries.problem)

    return ping


def _fields(surroundings: Surroundings) -> dict[str, Any]:
    return {name: getattr(surroundings, name) for name in surroundings.__dataclass_fields__}
