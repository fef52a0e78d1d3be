"""`orderflow console`: one process that serves the page, from a free port to a clean end."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from orderflow.console.application import opened
from orderflow.console.asking import Services
from orderflow.console.guard import Asgi
from orderflow.console.live import LASTS_S
from orderflow.core.access import ANONYMOUS, Caller, InvalidTokenError
from orderflow.core.timing import system_random
from orderflow.diagnosis.topics import Log
from orderflow.http.application import Application, ApplicationState, Receive, Scope, Send
from orderflow.http.gate import Ends, Gate
from orderflow.http.protocol import HttpLimits
from orderflow.http.server import CannotListenError, HttpServer, listen
from orderflow.runtime.lifetime import stop_on_end_of_input, stop_on_signals

HOST = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost", "[::1]")
CONNECTIONS_MAX = 256
DRAIN_S = 2.0


class _Frame(Application):
    """Our server's frame round an application that has no operations: all of it is ASGI."""

    def __init__(self, asgi: Asgi) -> None:
        super().__init__((), ApplicationState(rng=system_random()))
        self._asgi = asgi

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._asgi(scope, receive, send)


class _Open(Gate):
    """Lets everybody in: whom the page serves, and what for, its own guard says, by what is asked for."""

    def __init__(self) -> None:
        super().__init__(HOST, _nobody, time.monotonic)

    def admit(self, headers: Mapping[bytes, bytes], ends: Ends) -> Caller:
        return ANONYMOUS


def _nobody(_: str) -> Caller:
    raise InvalidTokenError("The page takes no tokens.")


async def serve(
    services: Services, log: Log, port: int, *, may_move: bool, control_pipe: bool, ready: Callable[[int], None]
) -> None:
    """Serve on the loopback interface until a signal or the end of the control pipe; `ready` gets the port.

    `may_move`: where the port is taken, any free one will do. Raises CannotListenError.
    """
    try:
        listener = listen(HOST, port)
    except CannotListenError:
        if not may_move:
            raise
        listener = listen(HOST, 0)
    stopping = asyncio.Event()
    stop_on_signals(stopping.set)
    if control_pipe:
        stop_on_end_of_input(stopping.set)
    port = listener.getsockname()[1]
    async with opened(services, log, [f"{name}:{port}" for name in NAMES]) as console:
        frame = _Frame(console.asgi)
        limits = replace(HttpLimits(connections_max=CONNECTIONS_MAX), answer_s=2 * LASTS_S)
        server = HttpServer(lambda: frame, _Open(), listener, limits)
        server.start()
        ready(port)
        await stopping.wait()
        console.stop()
        await server.stop(DRAIN_S)


def run(
    services: Services, log: Log, port: int, *, may_move: bool, control_pipe: bool, ready: Callable[[int], None]
) -> None:
    """As `serve`, in an event loop of its own (uvloop where there is one). Raises CannotListenError."""
    serving = serve(services, log, port, may_move=may_move, control_pipe=control_pipe, ready=ready)
    if sys.platform == "win32":
        asyncio.run(serving)
    else:
        import uvloop

        uvloop.run(serving)
