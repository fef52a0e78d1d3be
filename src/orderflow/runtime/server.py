"""Listening: a socket whose failure is one clear sentence, and uvicorn without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Generator
from functools import partial

import uvicorn

from orderflow.runtime.asgi import Receive, Scope, Send
from orderflow.runtime.frame import Frame
from orderflow.runtime.protocol import BoundedProtocol

_BACKLOG = 1024
_DATE_EVERY_S = 1.0


class CannotListenError(Exception):
    """The address cannot be listened on. Its text is fit to be shown to a user."""


def listen(host: str, port: int) -> socket.socket:
    """A bound socket (port 0: any free one). Raises CannotListenError."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise CannotListenError(f"cannot listen on {host}: {error.strerror}") from error
    listener = socket.socket(family, kind, proto)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise CannotListenError(_sentence(host, port, error)) from error
    return listener


def _sentence(host: str, port: int, error: OSError) -> str:
    reasons = {
        errno.EADDRINUSE: f"port {port} on {host} is taken by another program; choose another with --port",
        errno.EACCES: f"no right to listen on port {port} of {host}; choose a port above 1023 with --port",
        errno.EADDRNOTAVAIL: f"{host} is not an address of this machine",
    }
    return reasons.get(error.errno or 0, f"cannot listen on {host}:{port}: {error.strerror}")


class HttpServer(uvicorn.Server):
    """Serves on a socket, until `stop`, what `frame` gives at the moment of each request. Signals of the process are
    somebody else's.
    """

    def __init__(self, frame: Callable[[], Frame], listener: socket.socket) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await frame()(scope, receive, send)

        super().__init__(
            uvicorn.Config(
                application,
                http=partial(BoundedProtocol, frame=frame),  # type: ignore[arg-type]
                interface="asgi3",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=None,
            )
        )
        self._listener = listener
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.serve(sockets=[self._listener]))

    async def stop(self, timeout_s: float) -> None:
        """Finish what is being answered, then close; after `timeout_s` the rest is cut off."""
        self.config.timeout_graceful_shutdown = max(1, round(timeout_s))
        self.should_exit = True
        self._stop.set()
        if self._task is not None:
            await self._task

    async def main_loop(self) -> None:
        """Keeps the Date header right: uvicorn's own loop would wake ten times a second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATE_EVERY_S):
                    await self._stop.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield
