"""`orderflow up`: everything on this machine, from an empty folder to the last goodbye."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from orderflow.access.tokens import TokenRefusedError, Tokens, TokensFile, TokensFileError, write_secret
from orderflow.core.access import CannotVerifyError, InvalidTokenError, Role
from orderflow.local import state
from orderflow.local.control import end_leftovers
from orderflow.local.errors import LocalError
from orderflow.local.home import EventLog, Home, authority_of
from orderflow.local.kafka import LocalKafka
from orderflow.local.logs import rotate_for_ever
from orderflow.local.postgres import EmbeddedPostgres
from orderflow.local.preparation import Preparation
from orderflow.local.reporter import Reporter, tell_ready
from orderflow.local.state import (
    ProcessMark,
    RunState,
    broker_port,
    choose_event_log,
    with_embedded,
    with_event_log,
    with_master_key,
)
from orderflow.local.supervisor import Fleet, ServerUnit, Supervisor, UpOptions, first_local_error
from orderflow.settings import Settings

DRAIN_LOOK_EVERY_S = 0.5
DRAIN_TELL_EVERY_S = 5.0
WRITE_AGAIN_AFTER_S = 1.0
FORCED = 130
LOOK_EVERY_S = 1.0
OWNER = "home"
OWNERS_ROLES = frozenset({Role.SHOP, Role.OPERATOR, Role.APPROVER})
"""Whoever can read the files of a home has all of its data anyway."""


class LocalRun:
    """One life of a home."""

    def __init__(
        self,
        settings: Settings,
        options: UpOptions,
        reporter: Reporter,
        preparation: Preparation,
        fleet: Fleet,
    ) -> None:
        self._settings = settings
        self._options = options
        self._reporter = reporter
        self._preparation = preparation
        self._fleet = fleet
        self._home = Home.open(settings.home)
        self._mark = ProcessMark.of(os.getpid())
        self._phase = state.STARTING
        self._event_log = ""
        self._secure = False
        self._server: EmbeddedPostgres | None = None
        self._unwritten = asyncio.Event()
        self._supervisor = Supervisor(reporter, self._note_state)

    async def run(self) -> int:
        """Return the exit code when everything is stopped again. Raises LocalError."""
        with self._home.lock():
            async with stop_requests(self._home.path / "stop.request") as requests:
                helpers = [
                    asyncio.create_task(work) for work in (self._force(requests), self._rotate(), self._write_again())
                ]
                try:
                    await self._live(requests)
                except BaseExceptionGroup as group:
                    raise first_local_error(group) from None
                finally:
                    await self._end()
                    for helper in helpers:
                        helper.cancel()
        self._reporter.note("Stopped")
        self._reporter.close()
        return FORCED if requests.forced.is_set() else 0

    async def _live(self, requests: StopRequests) -> None:
        if await _unless_stopped(self._begin(), requests) and self._options.drain:
            self._reporter.note("Waiting until nothing is under way")
            await _unless_stopped(self._until_nothing_is_under_way(), requests)
            return
        await requests.wanted.wait()

    async def _begin(self) -> None:
        if left := await asyncio.to_thread(end_leftovers, self._home):
            self._reporter.note(f"Stopped {left} processes from an earlier run")
        self._write_state()
        remembered = self._home.event_log()
        chosen = choose_event_log(
            self._settings, remembered, own_broker=self._options.own_broker, secure=self._options.secure
        )
        if self._options.drain and remembered is not None:
            chosen = remembered
        self._fleet.require_ports(self._settings)
        keep_token(self._home.path / "token", TokensFile(self._settings.tokens_path))
        installation = await self._start_databases()
        self._home.remember_installation(installation)
        if remembered is not None and not remembered.holds_what(chosen):
            await self._require_nothing_under_way(remembered, chosen)
        self._settings, self._event_log, self._secure = (
            with_event_log(self._settings, chosen),
            str(chosen),
            chosen.secure,
        )
        self._note_state()
        if chosen.own_broker:
            await self._start_broker(chosen)
        self._reporter.step("Creating the topics")
        await self._preparation.topics(self._settings, installation, take_over=self._options.take_over)
        self._home.remember_event_log(chosen, self._settings.kafka_bootstrap if chosen.own_broker else None)
        self._reporter.step("Starting the services")
        await self._supervisor.start(*self._fleet.units(self._settings, self._options, self._home))
        self._set_phase(state.READY)
        tell_ready(self._reporter, self._supervisor.running(), self._settings, str(chosen))

    async def _start_databases(self) -> UUID:
        if self._settings.embedded:
            self._reporter.step("Starting PostgreSQL")
            self._server = EmbeddedPostgres(self._home.path, port=self._settings.postgres_port)
            await self._supervisor.start(ServerUnit(self._server))
            self._settings = with_embedded(self._settings, self._server.service_url)
        self._settings = with_master_key(self._settings)
        self._reporter.step("Preparing the databases")
        return await self._preparation.databases(self._settings, self._server)

    async def _start_broker(self, chosen: EventLog) -> None:
        self._reporter.step("Starting Kafka")
        broker = self._own_broker(chosen)
        await self._supervisor.start(ServerUnit(broker))
        if chosen.secure:
            from orderflow.local.kafka_rights import grant, of_owner, users

            self._reporter.step("Granting each service its rights")
            await asyncio.to_thread(grant, users(self._settings), of_owner(broker.owners_listener))

    async def _require_nothing_under_way(self, remembered: EventLog, chosen: EventLog) -> None:
        """Events that wait on one transport are not seen by consumers of another."""
        self._reporter.step(f"Checking whether anything is under way on {remembered}")
        old = with_event_log(self._settings, remembered)
        broker = ServerUnit(self._own_broker(remembered)) if remembered.own_broker else None
        try:
            if broker is not None:
                await broker.start()
            found = await self._preparation.under_way(old)
        finally:
            if broker is not None:
                await broker.stop()
        if found:
            raise LocalError(
                f"this home runs on {remembered}, where {', '.join(found)} are under way: finish them with "
                f"`orderflow up --drain`, then start on {chosen}"
            )

    async def _until_nothing_is_under_way(self) -> None:
        loop = asyncio.get_running_loop()
        tell_at = loop.time() + DRAIN_TELL_EVERY_S
        while found := await self._preparation.under_way(self._settings):
            if loop.time() >= tell_at:
                tell_at = loop.time() + DRAIN_TELL_EVERY_S
                self._reporter.note(f"Still under way: {', '.join(found)}")
            await asyncio.sleep(DRAIN_LOOK_EVERY_S)
        self._reporter.note("Nothing is under way")

    async def _end(self) -> None:
        self._reporter.step("Stopping")
        self._set_phase(state.STOPPING)
        await self._supervisor.stop()
        with contextlib.suppress(OSError):
            self._home.state.unlink(missing_ok=True)
        self._reporter.close()

    async def _force(self, requests: StopRequests) -> None:
        await requests.forced.wait()
        self._reporter.note("Stopping everything at once")
        self._supervisor.kill()

    async def _rotate(self) -> None:
        logs = [self._home.logs / name for name in ("postgres.log", "kafka.log", "up.log")]
        await rotate_for_ever(
            [*logs, *self._fleet.captured_logs(self._options, self._home)],
            max_bytes=self._settings.log_file_max_mb * 1_000_000,
            kept=self._settings.log_files_kept,
        )

    def _own_broker(self, event_log: EventLog) -> LocalKafka:
        authority = None
        if event_log.secure:
            from orderflow.local.authority import Authority

            authority = Authority(authority_of(self._home.path))
        return LocalKafka(self._home.path, broker_port(self._settings), tell=self._reporter.step, authority=authority)

    def _set_phase(self, phase: str) -> None:
        self._phase = phase
        self._note_state()

    def _note_state(self) -> None:
        """Write it, or have it written as soon as that can be done: a full disk stops no supervision."""
        try:
            self._write_state()
        except LocalError:
            self._unwritten.set()

    async def _write_again(self) -> None:
        while True:
            await self._unwritten.wait()
            await asyncio.sleep(WRITE_AGAIN_AFTER_S)
            self._unwritten.clear()
            self._note_state()

    def _write_state(self) -> None:
        """Raises LocalError."""
        RunState(
            supervisor=self._mark,
            phase=self._phase,
            processes=self._supervisor.running(),
            down=self._supervisor.down(),
            transport=self._settings.transport,
            event_log=self._event_log,
            secure=self._secure,
            postgres=None if self._server is None else self._server.where,
            bootstrap=self._settings.kafka_bootstrap if self._settings.transport == "kafka" else None,
        ).write(self._home.state)


def keep_token(path: Path, tokens: TokensFile) -> None:
    """See that there is a token that is good, for the command line on this machine. Raises LocalError."""
    try:
        if path.is_file() and _is_good(path, tokens):
            return
        if any(each.name == OWNER and each.revoked is None for each in tokens.all()):
            tokens.revoke(OWNER)
        _, text = tokens.create(OWNER, OWNERS_ROLES)
        write_secret(path, text.encode())
    except (TokensFileError, TokenRefusedError, CannotVerifyError) as error:
        raise LocalError(str(error)) from error
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror or error}") from error


def _is_good(path: Path, tokens: TokensFile) -> bool:
    try:
        return Tokens(tokens).caller_of(path.read_text(encoding="ascii").strip()).roles >= OWNERS_ROLES
    except (InvalidTokenError, ValueError):
        return False


async def _unless_stopped(work: Coroutine[Any, Any, None], requests: StopRequests) -> bool:
    """Whether `work` was done before a request to stop came, which cancels it."""
    task = asyncio.create_task(work)
    stop = asyncio.create_task(requests.wanted.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        return False
    await task
    return True


class StopRequests:
    """`wanted` after the first request; `forced` after the second."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.forced = asyncio.Event()

    def request(self) -> None:
        (self.forced if self.wanted.is_set() else self.wanted).set()


@asynccontextmanager
async def stop_requests(file: Path) -> AsyncIterator[StopRequests]:
    """Within this block, signals are requests. `file` is how `orderflow down` asks on Windows."""
    requests = StopRequests()
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        _take(file)
        signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(requests.request))
        task = asyncio.create_task(_look_for(file, requests))
        try:
            yield requests
        finally:
            task.cancel()
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, requests.request)
    try:
        yield requests
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _look_for(file: Path, requests: StopRequests) -> None:
    while not _take(file):  # noqa: ASYNC110 - another process makes the file
        await asyncio.sleep(LOOK_EVERY_S)
    requests.request()


def _take(file: Path) -> bool:
    """Remove the file; says whether it was there."""
    try:
        file.unlink()
    except OSError:
        return False
    return True
