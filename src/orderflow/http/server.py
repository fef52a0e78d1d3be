"""Listening: a socket whose failure is one clear sentence, and the server that accepts from it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable
from email.utils import formatdate

from orderflow.http.application import Application
from orderflow.http.gate import Gate
from orderflow.http.protocol import Connection, HttpConnections, HttpLimits, Serving
from orderflow.http.tls import Certificates, TlsListener

_TICK_S = 1.0
_TICKS_A_LIMIT = 4


class CannotListenError(Exception):
    """The address cannot be listened on. Its text is fit to be shown to a user."""


def listen(host: str, port: int, setting: str = "--port") -> socket.socket:
    """A bound socket (port 0: any free one). `setting` is what moves it. Raises CannotListenError."""
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
        listener.listen(HttpLimits().backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise CannotListenError(_sentence(host, port, setting, error)) from error
    return listener


def _sentence(host: str, port: int, setting: str, error: OSError) -> str:
    reasons = {
        errno.EADDRINUSE: f"port {port} on {host} is taken by another program; choose another with {setting}",
        errno.EACCES: f"no right to listen on port {port} of {host}; choose a port above 1023 with {setting}",
        errno.EADDRNOTAVAIL: f"{host} is not an address of this machine",
    }
    return reasons.get(error.errno or 0, f"cannot listen on {host}:{port}: {error.strerror}")


class HttpServer:
    """Serves on a socket, until `stop`, what `application` gives at the moment of each request let in by `gate`.

    With `certificates` by TLS only.
    """

    def __init__(
        self,
        application: Callable[[], Application],
        gate: Gate,
        listener: socket.socket,
        limits: HttpLimits | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        limits = limits or HttpLimits()
        self._listener = listener
        self._certificates = certificates
        self._serving = Serving(
            application=application, gate=gate, limits=limits, connections=HttpConnections(limits), now=time.monotonic
        )
        shortest = min(
            limits.handshake_s,
            limits.idle_s,
            limits.head_s,
            limits.body_s,
            limits.answer_s,
            limits.write_s,
            limits.linger_s,
        )
        self._tick_s = min(_TICK_S, shortest / _TICKS_A_LIMIT)
        self._server: asyncio.Server | TlsListener | None = None
        self._starting: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._serving.connections)

    @property
    def under_way(self) -> int:
        """How many requests are being carried out, those that wait among them."""
        return len(self._serving.tasks)

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._date()
        self._starting = loop.create_task(self._accept())
        self._ticking = loop.create_task(self._tick())

    async def stop(self, timeout_s: float) -> None:
        """Finish what is being answered, then close; after `timeout_s` the rest is cut off."""
        serving = self._serving
        serving.stopping = True
        try:
            if self._starting is not None:
                await self._starting
            if self._server is not None:
                self._server.close()
            await serving.connections.shut_down(timeout_s)
        finally:
            ticking = [self._ticking] if self._ticking is not None else []
            for task in [*serving.tasks, *ticking]:
                task.cancel()
            await asyncio.gather(*serving.tasks, *serving.handshakes, *ticking, return_exceptions=True)

    async def _accept(self) -> None:
        if self._certificates is not None:
            self._server = TlsListener(self._serving, self._listener, self._certificates)
            return
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._serving), sock=self._listener, backlog=self._serving.limits.backlog
        )

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            if self._certificates is not None:
                self._certificates.refresh()
            self._date()
            self._serving.connections.expire(self._serving.now())

    def _date(self) -> None:
        self._serving.date = formatdate(usegmt=True).encode()
