"""Keeps the processes of a run alive, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import psutil

from orderflow.core import crash_points
from orderflow.local.errors import LocalError
from orderflow.local.home import Home
from orderflow.local.processes import Server, hand_over, is_free, require_free, tail
from orderflow.local.reporter import Reporter
from orderflow.local.services import alone
from orderflow.local.state import (
    OF_OURS,
    PREFIX,
    Down,
    ProcessMark,
    Running,
    settings_environment,
    settings_secrets,
)
from orderflow.registry import database_names, service_names
from orderflow.settings import Secret, Settings

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 10.0
STABLE_AFTER_S = 30.0
READY_TIMEOUT_S = 60.0
TERM_TIMEOUT_S = 3.0
CRASH_AT = "ORDERFLOW_CRASH_AT"
CONSOLE = "console"
LOOPBACK = "127.0.0.1"
# subprocess.CREATE_NEW_PROCESS_GROUP, which is there on Windows only.
NEW_PROCESS_GROUP = 0x200


def restart_delay_s(failures: int) -> float:
    """Seconds before the next start after `failures` short lives in a row: none, then 0.5 doubling up to 10."""
    if failures <= 1:
        return 0.0
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** (failures - 2))


@dataclass(slots=True, eq=False)
class SupervisedUnit:
    """A unit under supervision. `why` it does not run is said where it has no `mark`."""

    unit: Unit
    mark: ProcessMark | None = None
    restarts: int = 0
    why: str = "it has not started yet"
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def as_running(self) -> Running | None:
        if self.mark is None:
            return None
        unit = self.unit
        mark = self.mark
        return Running(unit.name, unit.kind, mark.pid, mark.started, unit.address, self.restarts, unit.ops_address)

    def as_down(self) -> Down | None:
        return None if self.mark is not None else Down(self.unit.name, self.unit.kind, self.why, self.restarts)


class Supervisor:
    """Starts units, restarts those that die, says so.

    `changed` is called when a process came or went. Neither it nor the reporter may raise or wait.
    """

    def __init__(self, reporter: Reporter, changed: Callable[[], None]) -> None:
        self._reporter = reporter
        self._changed = changed
        self._kept: list[SupervisedUnit] = []
        self._stopping = False

    def running(self) -> tuple[Running, ...]:
        """What runs now, in the order of starting."""
        found = (kept.as_running() for kept in self._kept)
        return tuple(running for running in found if running is not None)

    def down(self) -> tuple[Down, ...]:
        """What should run and does not."""
        found = (kept.as_down() for kept in self._kept)
        return tuple(down for down in found if down is not None)

    async def start(self, *units: Unit) -> None:
        """Start units side by side and keep them. Raises LocalError when one cannot be started."""
        fresh = [SupervisedUnit(unit) for unit in units]
        self._kept.extend(fresh)
        try:
            async with asyncio.TaskGroup() as group:
                for kept in fresh:
                    group.create_task(self._first_start(kept))
        except BaseExceptionGroup as errors:
            raise first_local_error(errors) from None

    async def stop(self) -> None:
        """End everything: services first and side by side, then what carries them, last started first."""
        self._stopping = True
        watchers = [kept.task for kept in self._kept if kept.task is not None]
        for task in watchers:
            task.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        services = [kept for kept in self._kept if kept.unit.kind in OF_OURS]
        await asyncio.gather(*(self._stop_one(kept) for kept in services))
        for kept in reversed(self._kept):
            if kept not in services:
                await self._stop_one(kept)

    def kill(self) -> None:
        """End everything at once, without asking."""
        self._stopping = True
        for kept in self._kept:
            if kept.unit.process is not None:
                with contextlib.suppress(OSError):
                    kept.unit.process.kill()

    async def _first_start(self, kept: SupervisedUnit) -> None:
        try:
            await kept.unit.start()
        except OSError as error:
            raise LocalError(f"cannot start {kept.unit.name}: {_words(error)}") from error
        self._note_process(kept)
        kept.task = asyncio.create_task(self._keep(kept), name=f"keep {kept.unit.name}")

    async def _stop_one(self, kept: SupervisedUnit) -> None:
        try:
            await kept.unit.stop()
        except (OSError, LocalError) as error:
            self._reporter.note(f"{kept.unit.name} could not be stopped cleanly: {_words(error)}")
        self._note_end(kept, "it was stopped")

    async def _keep(self, kept: SupervisedUnit) -> None:
        failures = 0
        while kept.unit.process is not None:
            started = time.monotonic()
            status = await watch(kept.unit.process)
            lived_s = time.monotonic() - started
            self._note_end(kept, f"it {_how_it_ended(status)}")
            failures = 1 if lived_s >= STABLE_AFTER_S else failures + 1
            self._reporter.note(f"{kept.unit.name} {_how_it_ended(status)}; starting it again")
            await self._restart(kept, failures)

    async def _restart(self, kept: SupervisedUnit, failures: int) -> None:
        """Tries until it runs, whatever comes in between: a full disk gives errors that nobody has foreseen."""
        while not self._stopping:
            await asyncio.sleep(restart_delay_s(failures))
            try:
                await kept.unit.start()
            except Exception as error:  # noqa: BLE001  (what is not tried again stays down for ever)
                failures += 1
                self._note_end(kept, _words(error))
                # What has started half way must not stand in the way of the next start.
                with contextlib.suppress(OSError, LocalError):
                    await kept.unit.stop()
                self._reporter.note(f"{_words(error)}; next try in {restart_delay_s(failures):g} s")
                continue
            kept.restarts += 1
            self._note_process(kept)
            self._reporter.note(f"{kept.unit.name} is back at {kept.unit.address}")
            return

    def _note_process(self, kept: SupervisedUnit) -> None:
        process = kept.unit.process
        with contextlib.suppress(psutil.Error):
            kept.mark = None if process is None else ProcessMark.of(process.pid)
        self._changed()

    def _note_end(self, kept: SupervisedUnit, why: str) -> None:
        kept.mark, kept.why = None, why
        self._changed()


def watch(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """A future of its exit status. A thread sleeps in the system's wait: it costs nothing, on any system."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def tell(status: int) -> None:
        if not ended.done():
            ended.set_result(status)

    def wait() -> None:
        status = process.wait()
        # The loop may be closed by now: then nobody waits for the answer.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, status)

    threading.Thread(target=wait, name=f"exit-of-{process.pid}", daemon=True).start()
    return ended


def _how_it_ended(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"


def _words(error: Exception) -> str:
    """One sentence, of an error that was made for people or of any other."""
    if isinstance(error, LocalError):
        return str(error)
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    return f"{said or type(error).__name__}{where}"


def first_local_error(error: BaseExceptionGroup[BaseException]) -> BaseException:
    """The sentence among what a group of starts raised; the first error when there is none."""
    leaves = list(_leaves(error))
    return next((leaf for leaf in leaves if isinstance(leaf, LocalError)), leaves[0])


def _leaves(error: BaseException) -> Sequence[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


class Unit(Protocol):
    """One process. `start` returns when it is ready and may be called again after its end."""

    name: str
    kind: str

    @property
    def address(self) -> str: ...

    @property
    def ops_address(self) -> str:
        """Where it answers operators; "" where that is nothing apart."""
        ...

    @property
    def process(self) -> subprocess.Popen[bytes] | None: ...

    async def start(self) -> None:
        """Raises LocalError."""
        ...

    async def stop(self) -> None:
        """In good order, with a limit of time. Idempotent."""
        ...


class ServerUnit:
    """The embedded PostgreSQL, or a local broker."""

    ops_address = ""

    def __init__(self, server: Server) -> None:
        self.name = self.kind = server.kind
        self._server = server

    @property
    def address(self) -> str:
        return self._server.where

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self._server.process

    async def start(self) -> None:
        await asyncio.to_thread(self._server.prepare)
        self._server.spawn()
        await asyncio.to_thread(self._server.wait_ready)

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.stop)


@dataclass(frozen=True, slots=True)
class ServiceCommand:
    """How a service, or the console, is started. Each restart takes the same environment; `stderr` gets what is not
    logged.

    `secrets` are what its standard input begins with; `address` and `ops_address` are where it is, by its ports.
    `ports` are the settings of its port and of that for operators' endpoints, each with the host to listen on.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    secrets: bytes = field(repr=False)
    address: Callable[[int | None], str]
    ops_address: Callable[[int | None], str]
    stderr: Path
    kind: str = "service"
    ports: Mapping[str, str] = field(default_factory=dict)


class ServiceUnit:
    """Ready when it says so: a JSON line on its standard output. It drains when its standard input ends."""

    def __init__(self, command: ServiceCommand, *, drain_timeout_s: float) -> None:
        self.name = command.name
        self.kind = command.kind
        self._command = command
        self._drain_timeout_s = drain_timeout_s
        self._port: int | None = None
        self._ops_port: int | None = None
        self._ended: asyncio.Future[int] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = dict(command.environment)

    @property
    def address(self) -> str:
        return self._command.address(self._port)

    @property
    def ops_address(self) -> str:
        return self._command.ops_address(self._ops_port)

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self._process

    async def start(self) -> None:
        if self._has_died_on_purpose():
            # What it left is for one that goes on.
            self._environment[CRASH_AT] = crash_points.NEVER
        self._end_input()
        said_before = self._stderr_size()
        self._process = self._spawn()
        self._ended = watch(self._process)
        ready = _listen_for_ready(self._process, self._command.stderr)
        awaited: set[asyncio.Future[Any]] = {ready, self._ended}
        await asyncio.wait(awaited, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            self._port, self._ops_port = int(ready.result()["port"]), int(ready.result().get("ops_port", 0))
            return
        ready.cancel()
        if self._has_died_on_purpose() and self._environment.get(CRASH_AT) != crash_points.NEVER:
            await self.start()
            return
        if not self._ended.done():
            await self.stop()
            raise LocalError(f"{self.name} was not ready within {READY_TIMEOUT_S:.0f} s: orderflow logs {self.name}")
        said = tail(self._command.stderr)[-max(0, self._stderr_size() - said_before) :].strip()
        reason = said.splitlines()[-1] if said else f"it ended with exit status {self._ended.result()}"
        raise LocalError(f"{self.name} did not start: {reason.removeprefix('Error: ')}")

    async def stop(self) -> None:
        if self._process is None or self._ended is None:
            return
        self._end_input()
        for end, patience_s in (
            (None, self._drain_timeout_s + 2.0),
            (self._process.terminate, TERM_TIMEOUT_S),
            (self._process.kill, None),
        ):
            if end is not None:
                end()
            await asyncio.wait({self._ended}, timeout=patience_s)
            if self._ended.done():
                return

    def _spawn(self) -> subprocess.Popen[bytes]:
        try:
            with self._command.stderr.open("ab") as stderr:
                process = subprocess.Popen(  # noqa: S603 - commands are ours
                    list(self._command.command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env={**self._environment, **self._ports_as_before()},
                    start_new_session=True,
                    creationflags=NEW_PROCESS_GROUP if sys.platform == "win32" else 0,
                )
        except OSError as error:
            raise LocalError(f"cannot start {self.name}: {error.strerror or error}") from error
        hand_over(process, self._command.secrets)
        return process

    def _ports_as_before(self) -> dict[str, str]:
        """Clients know where it was, so it comes back there, unless somebody else has taken the port."""
        known = zip(self._command.ports.items(), (self._port, self._ops_port), strict=False)
        return {PREFIX + name.upper(): str(port) for (name, host), port in known if port and is_free(port, host)}

    def _end_input(self) -> None:
        """A process that runs drains then; of one that has ended it is what is left open."""
        with contextlib.suppress(OSError):
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()

    def _has_died_on_purpose(self) -> bool:
        return self._process is not None and self._process.returncode == crash_points.EXIT_CODE

    def _stderr_size(self) -> int:
        try:
            return os.stat(self._command.stderr).st_size
        except OSError:
            return 0


def _listen_for_ready(process: subprocess.Popen[bytes], rest: Path) -> asyncio.Future[dict[str, Any]]:
    """A future of the ready line. Whatever else comes on standard output is kept in `rest`, if there is room."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[dict[str, Any]] = loop.create_future()

    def tell(line: dict[str, Any]) -> None:
        if not ready.done():
            ready.set_result(line)

    def read(output: IO[bytes]) -> None:
        with output:
            for line in output:
                if (found := _ready_line(line)) is None:
                    with contextlib.suppress(OSError), rest.open("ab", buffering=0) as others:
                        others.write(line)
                    continue
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(tell, found)

    assert process.stdout is not None
    threading.Thread(target=read, args=(process.stdout,), name="ready-line", daemon=True).start()
    return ready


def _ready_line(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    is_ready = isinstance(found, dict) and found.get("ready") is True and "port" in found
    return found if is_ready else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What `up` is asked for beyond settings.

    `secure`: our own broker wants a password of everybody; None: as before.
    `take_over`: use topics that another installation has used. `processes`: how many of a service, where not one.
    """

    own_broker: bool = False
    secure: bool | None = None
    drain: bool = False
    take_over: bool = False
    processes: Mapping[str, int] = field(default_factory=dict)


def service_command(name: str) -> Sequence[str]:
    """Shown by ps as `orderflow run NAME`, the console's as `orderflow console`."""
    command = [CONSOLE] if name == CONSOLE else ["run", name]
    return [sys.executable, "-m", "orderflow", *command, "--secrets-pipe", "--control-pipe"]


class Fleet:
    """Every service once or more, and the console; the first process of each has the known ports, the others any free
    ones.
    """

    def __init__(self, command: Callable[[str], Sequence[str]] = service_command) -> None:
        self._command = command

    def require_ports(self, settings: Settings) -> None:
        """Raises LocalError when a known port is taken."""
        for name in service_names():
            port, ops_port = settings.service_port(name), settings.service_ops_port(name)
            if port:
                require_free(port, f"the service {name}", f"--{name}-port", settings.host)
            if ops_port:
                setting = f"ORDERFLOW_{name.upper()}_OPS_PORT"
                require_free(ops_port, f"operators' endpoints of {name}", setting, settings.ops_host)
        if settings.console and settings.console_port and settings.is_given("console_port"):
            require_free(settings.console_port, "the page", "ORDERFLOW_CONSOLE_PORT")

    def units(self, settings: Settings, options: UpOptions, home: Home) -> list[ServiceUnit]:
        """What the supervisor is to start."""
        services = [
            self._unit(settings, home, label, name, is_first=number == 1) for name, number, label in _labels(options)
        ]
        return [self._console(settings, home), *services] if settings.console else services

    def captured_logs(self, options: UpOptions, home: Home) -> list[Path]:
        """What services say beside their logs."""
        return [_stderr(home, CONSOLE), *(_stderr(home, label) for _, _, label in _labels(options))]

    def _console(self, settings: Settings, home: Home) -> ServiceUnit:
        """It is given no way into the services' databases, only into the log."""
        told = _without_databases(settings)
        command = ServiceCommand(
            CONSOLE,
            self._command(CONSOLE),
            settings_environment(told, os.environ),
            settings_secrets(told),
            _page_address,
            lambda _: "",
            _stderr(home, CONSOLE),
            CONSOLE,
            ports={"console_port": LOOPBACK},
        )
        return ServiceUnit(command, drain_timeout_s=settings.drain_timeout_s)

    def _unit(self, settings: Settings, home: Home, label: str, name: str, *, is_first: bool) -> ServiceUnit:
        ports = {
            f"{name}_port": settings.service_port(name) if is_first else 0,
            f"{name}_ops_port": settings.service_ops_port(name) if is_first else 0,
        }
        told = alone(settings, name)
        command = ServiceCommand(
            label,
            self._command(name),
            settings_environment(told, os.environ, **ports, log_file=home.logs / f"{label}.log"),
            settings_secrets(told),
            partial(settings.address, settings.host),
            partial(settings.address, settings.ops_host),
            _stderr(home, label),
            ports={f"{name}_port": settings.host, f"{name}_ops_port": settings.ops_host},
        )
        return ServiceUnit(command, drain_timeout_s=settings.drain_timeout_s)


def _without_databases(settings: Settings) -> Settings:
    """The embedded server's passwords are in the home; of another server, only the log's are handed on."""
    names = [f"{name}_database_url" for name in database_names()]
    is_elsewhere = any(settings.is_given(name) for name in ("database_url", *names))
    log = Secret(settings.service_database_url("log")) if is_elsewhere and settings.transport == "postgres" else None
    nothing = dict.fromkeys([*names, *settings.secrets()])
    return settings.replaced(**{**nothing, "database_url": None, "log_database_url": log, "token": settings.token})


def _page_address(port: int | None) -> str:
    return f"http://{LOOPBACK}:{port or '...'}"


def _labels(options: UpOptions) -> list[tuple[str, int, str]]:
    """Service, number from 1, and the label of the process: `order`, `order-2`, …"""
    return [
        (name, number, name if number == 1 else f"{name}-{number}")
        for name in service_names()
        for number in range(1, options.processes.get(name, 1) + 1)
    ]


def _stderr(home: Home, label: str) -> Path:
    return home.logs / f"{label}.stderr.log"
