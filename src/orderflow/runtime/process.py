"""One process of one service: from settings to a clean end, by a signal or the end of its control pipe."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from enum import IntEnum
from types import FrameType

import msgspec

from orderflow import __version__
from orderflow.core import crash_points
from orderflow.core.service import Service
from orderflow.core.store import SchemaBehindError
from orderflow.core.telemetry import Signals
from orderflow.core.timing import Clock, SystemClock, system_random
from orderflow.http.server import CannotListenError, listen
from orderflow.observability.logs import Level, LogWriter, descriptor_sink, open_log, redact
from orderflow.observability.metrics import Metrics
from orderflow.observability.signal_log import SignalLog, error_fields, routed_logging
from orderflow.registry import service_names
from orderflow.runtime.alerts import alerting
from orderflow.runtime.service_process import ServiceProcess, StandstillError
from orderflow.settings import Settings, SettingsError


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` in the running loop at SIGTERM or SIGINT (Ctrl-C; on Windows also Ctrl-Break)."""
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)

    for name in ("SIGINT", "SIGBREAK", "SIGTERM"):
        signal.signal(getattr(signal, name), handle)


def stop_on_end_of_input(stop: Callable[[], None], descriptor: int = 0) -> None:
    """Call `stop` in the running loop when whoever holds the other end of the pipe is gone.

    A thread reads, because a pipe given by a parent cannot be awaited on every system.
    """
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            while os.read(descriptor, 1024):
                pass
        except OSError:
            pass
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop)

    threading.Thread(target=read, name="control-pipe", daemon=True).start()


HARD_END_S = 5.0
Announce = Callable[[dict[str, object]], None]


class ExitCode(IntEnum):
    """How a service's process ends."""

    OK = 0
    FAILED = 1
    SETTINGS = 2
    SCHEMA = 3
    STANDSTILL = 7


_CODES: Mapping[type[Exception], ExitCode] = {
    SettingsError: ExitCode.SETTINGS,
    SchemaBehindError: ExitCode.SCHEMA,
    StandstillError: ExitCode.STANDSTILL,
}


async def run_service(
    service: Service,
    settings: Settings,
    *,
    port: int | None = None,
    control_pipe: bool = False,
    announce: Announce | None = None,
    stop: asyncio.Event | None = None,
    end_hard: Callable[[float, int], None] = lambda _seconds, _code: None,
) -> int:
    """Serve until SIGTERM, SIGINT, the end of standard input (with `control_pipe`) or `stop`; returns an ExitCode.

    `port` wins over the settings' (0: any free one). While database or log are away the process answers
    that it is not ready; `announce` gets name, port and pid once it is. What makes it end at once is said
    in one sentence on standard error. `end_hard` is to end the process with a code after so many seconds, if it still
    runs then: what stands still may not let it end.
    """
    clock, say = SystemClock(), announce or announce_on_stdout
    try:
        log = _open_log(service, settings, clock)
        listener = listen(settings.host, settings.service_port(service.name) if port is None else port)
    except (SettingsError, CannotListenError) as error:
        return _say(error, ExitCode.SETTINGS if isinstance(error, SettingsError) else ExitCode.FAILED)
    try:
        with routed_logging(log):
            return await _serve(service, settings, log, listener, clock, control_pipe, say, stop, end_hard)
    except tuple(_CODES) as error:
        return _tell(log, error, _CODES[type(error)])
    except Exception as error:  # noqa: BLE001  (the last resort of a process: one sentence, never a trace)
        log.write(Level.ERROR, "process-failed", error_fields(error))
        return _say(f"{service.name} failed: {type(error).__name__}: {error}", ExitCode.FAILED)
    finally:
        listener.close()
        log.close()


async def _serve(
    service: Service,
    settings: Settings,
    log: LogWriter,
    listener: socket.socket,
    clock: Clock,
    control_pipe: bool,
    announce: Announce,
    stop: asyncio.Event | None,
    end_hard: Callable[[float, int], None],
) -> int:
    metrics = Metrics(service.name, clock.wall_ms, __version__)
    signals = Signals([SignalLog(log, service.logged), metrics])
    stopping = stop or asyncio.Event()
    stop_on_signals(stopping.set)
    if control_pipe:
        stop_on_end_of_input(stopping.set)
    if settings.alert_url and not settings.alert_secret:
        log.write(Level.WARNING, "alerts-unsigned", {"detail": "set alert_secret, so that receivers can trust them"})
    arm(settings, service.name, log)
    chance = system_random()
    process = ServiceProcess(service, settings, signals, metrics, clock, chance, listener)
    process.open()
    log.write(Level.INFO, "listening", {"port": process.port, "connections_max": process.connections_max})
    async with alerting(settings, signals, clock, chance), summing_up(log):
        try:
            await process.run_until(stopping, announce)
        except StandstillError:
            end_hard(settings.drain_timeout_s + HARD_END_S, ExitCode.STANDSTILL)
            raise
        finally:
            log.write(Level.INFO, "stopping")
            await process.close(settings.drain_timeout_s)
    log.write(Level.INFO, "stopped")
    return ExitCode.OK


def arm(settings: Settings, service: str, log: LogWriter) -> None:
    """Make this process die at the crash points that the settings name for the service."""
    asked = crash_points.parse(settings.crash_at, service_names())
    points = {**asked.get("", {}), **asked.get(service, {})}
    if points:
        log.write(Level.WARNING, "armed", {"dies_at": {str(point): times for point, times in points.items()}})
    crash_points.arm(points)


@asynccontextmanager
async def summing_up(log: LogWriter) -> AsyncIterator[None]:
    """While the block runs, lines that repeat themselves are summed up in time; at the end `close` does it."""

    async def forever() -> None:
        while True:
            await log.sum_up()

    task = asyncio.get_running_loop().create_task(forever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def announce_on_stdout(facts: dict[str, object]) -> None:
    """One JSON line for a supervisor; nobody has to read it."""
    try:
        sys.stdout.write(msgspec.json.encode(facts).decode() + "\n")
        sys.stdout.flush()
    except OSError:
        return


def run_process(service: Service, settings: Settings, *, port: int | None = None, control_pipe: bool = False) -> int:
    """`run_service` in an event loop of its own (uvloop where there is one); returns the exit code."""
    collect_rarely()
    running = run_service(service, settings, port=port, control_pipe=control_pipe, end_hard=end_this_process)
    if sys.platform == "win32":
        return asyncio.run(running)
    import uvloop

    return uvloop.run(running)


def end_this_process(seconds: float, code: int) -> None:
    """After so many seconds, whatever its threads and tasks wait for: an exit waits for the threads of executors."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()


def collect_rarely() -> None:
    """What is loaded by now stays; a batch makes thousands of short-lived records and no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _open_log(service: Service, settings: Settings, clock: Clock) -> LogWriter:
    try:
        return open_log(
            service.name,
            style=settings.log_format,
            level=settings.log_level,
            file=settings.log_file,
            file_max_bytes=settings.log_file_max_mb * 1_000_000,
            files_kept=settings.log_files_kept,
            clock=clock,
        )
    except OSError as error:
        raise SettingsError(f"log_file {settings.log_file} cannot be written: {error.strerror}") from error


def _tell(log: LogWriter, error: Exception, code: ExitCode) -> int:
    log.write(Level.ERROR, "cannot-run", {"error": redact(str(error))})
    return _say(error, code)


def _say(sentence: object, code: ExitCode) -> int:
    """On standard error, whose reader may be gone or stand still."""
    stderr = descriptor_sink(2)
    stderr.write(f"{redact(str(sentence))}\n".encode("utf-8", "backslashreplace"))
    stderr.close()
    return code
