"""One process of one service: from settings to a clean end, by a signal or the end of its control pipe."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from enum import IntEnum

from orderflow import __version__
from orderflow.core import crash_points
from orderflow.core.service import Service
from orderflow.core.store import SchemaBehindError
from orderflow.core.telemetry import Signals
from orderflow.core.timing import Clock, SystemClock, system_random
from orderflow.http.server import CannotListenError
from orderflow.observability.logs import Level, LogWriter, descriptor_sink, open_log, redact
from orderflow.observability.metrics import Metrics
from orderflow.observability.signal_log import SignalLog, error_fields, routed_logging
from orderflow.registry import service_names
from orderflow.runtime.alerts import alerting
from orderflow.runtime.doors import listen_at_both
from orderflow.runtime.exposure import insist, require_closed
from orderflow.runtime.lifetime import announce_on_stdout, beside, stop_on_end_of_input, stop_on_signals
from orderflow.runtime.service_process import ServiceProcess, StandstillError
from orderflow.runtime.wiring import tracing
from orderflow.settings import Settings, SettingsError

HARD_END_S = 5.0
Announce = Callable[[dict[str, object]], None]


class ProcessExit(IntEnum):
    """How a service's process ends."""

    OK = 0
    FAILED = 1
    SETTINGS = 2
    SCHEMA = 3
    STANDSTILL = 7


_CODES: Mapping[type[Exception], ProcessExit] = {
    SettingsError: ProcessExit.SETTINGS,
    SchemaBehindError: ProcessExit.SCHEMA,
    StandstillError: ProcessExit.STANDSTILL,
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
    that it is not ready; `announce` gets name, ports and pid once it is. What makes it end at once is said
    in one sentence on standard error. `end_hard` is to end the process with a code after so many seconds, if it still
    runs then: what stands still may not let it end.
    """
    clock, say = SystemClock(), announce or announce_on_stdout
    try:
        if port is not None:
            settings = settings.replaced(**{f"{service.name}_port": port})
        open_to_all = require_closed(settings)
        log = _open_log(service, settings, clock)
        listeners = listen_at_both(service.name, settings)
    except (SettingsError, CannotListenError) as error:
        return _say(error, ProcessExit.SETTINGS if isinstance(error, SettingsError) else ProcessExit.FAILED)
    try:
        with routed_logging(log):
            async with beside(insist(log, open_to_all)):
                return await _serve(service, settings, log, listeners, clock, control_pipe, say, stop, end_hard)
    except tuple(_CODES) as error:
        return _tell(log, error, _CODES[type(error)])
    except Exception as error:  # noqa: BLE001  (the last resort of a process: one sentence, never a trace)
        log.write(Level.ERROR, "process-failed", error_fields(error))
        return _say(f"{service.name} failed: {type(error).__name__}: {error}", ProcessExit.FAILED)
    finally:
        for listener in listeners:
            listener.close()
        log.close()


async def _serve(
    service: Service,
    settings: Settings,
    log: LogWriter,
    listeners: tuple[socket.socket, socket.socket],
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
    rng = system_random()
    async with (
        alerting(settings, signals, clock, rng),
        tracing(service, settings, signals, rng) as spans,
        beside(sum_up(log)),
    ):
        process = ServiceProcess(service, settings, signals, metrics, clock, rng, listeners, spans)
        process.open()
        log.write(Level.INFO, "listening", {**process.places, "connections_max": process.connections_max})
        try:
            await process.run_until(stopping, announce)
        except StandstillError:
            end_hard(settings.drain_timeout_s + HARD_END_S, ProcessExit.STANDSTILL)
            raise
        finally:
            log.write(Level.INFO, "stopping")
            await process.close(settings.drain_timeout_s)
    log.write(Level.INFO, "stopped")
    return ProcessExit.OK


def arm(settings: Settings, service: str, log: LogWriter) -> None:
    """Make this process die at the crash points that the settings name for the service."""
    asked = crash_points.parse(settings.crash_at, service_names())
    points = {**asked.get("", {}), **asked.get(service, {})}
    if points:
        log.write(Level.WARNING, "armed", {"dies_at": {str(point): times for point, times in points.items()}})
    crash_points.arm(points)


async def sum_up(log: LogWriter) -> None:
    """Lines that repeat themselves are summed up in time; at the end `close` does it."""
    while True:
        await log.sum_up()


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


def _tell(log: LogWriter, error: Exception, code: ProcessExit) -> int:
    log.write(Level.ERROR, "cannot-run", {"error": redact(str(error))})
    return _say(error, code)


def _say(sentence: object, code: ProcessExit) -> int:
    """On standard error, whose reader may be gone or stand still."""
    stderr = descriptor_sink(2)
    stderr.write(f"{redact(str(sentence))}\n".encode("utf-8", "backslashreplace"))
    stderr.close()
    return code
