"""A service as a process of its own: `orderflow run NAME`, tied to us by a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orderflow.local.child import tail
from orderflow.local.errors import LocalError
from orderflow.local.exits import watch
from orderflow.messaging import crash_points

READY_TIMEOUT_S = 60.0
TERM_TIMEOUT_S = 3.0
CRASH_AT = "ORDERFLOW_CRASH_AT"
# subprocess.CREATE_NEW_PROCESS_GROUP, which is there on Windows only.
NEW_PROCESS_GROUP = 0x200


@dataclass(frozen=True, slots=True)
class ServiceCommand:
    """How a service is started. Each restart takes the same environment; `stderr` gets what is not logged."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    host: str
    stderr: Path


class ServiceUnit:
    """Ready when it says so: a JSON line on its standard output. It drains when its standard input ends."""

    def __init__(self, command: ServiceCommand, *, drain_timeout_s: float) -> None:
        self.name = command.name
        self.kind = "service"
        self._command = command
        self._drain_timeout_s = drain_timeout_s
        self._port: int | None = None
        self._ended: asyncio.Future[int] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = dict(command.environment)

    @property
    def address(self) -> str:
        host = f"[{self._command.host}]" if ":" in self._command.host else self._command.host
        return f"http://{host}:{self._port}"

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
            self._port = int(ready.result()["port"])
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
                return subprocess.Popen(  # noqa: S603 - commands are ours
                    list(self._command.command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=self._environment,
                    start_new_session=True,
                    creationflags=NEW_PROCESS_GROUP if sys.platform == "win32" else 0,
                )
        except OSError as error:
            raise LocalError(f"cannot start {self.name}: {error.strerror or error}") from error

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
    return found if isinstance(found, dict) and found.get("ready") is True and "port" in found else None
