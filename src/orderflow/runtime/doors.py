"""The two listeners of a service: the public API, and what operators ask, with health and metrics.

Each has its address, its gate, its connections and its documentation. What is behind one is not behind the other.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from orderflow.access.tokens import Tokens, TokensFile
from orderflow.core.access import Caller
from orderflow.http.application import Application, ApplicationState, Mount
from orderflow.http.gate import Gate
from orderflow.http.openapi import docs_files, docs_operations
from orderflow.http.operation import Operation
from orderflow.http.protocol import HttpLimits, for_operators
from orderflow.http.server import HttpServer, listen
from orderflow.runtime.health import Labels
from orderflow.settings import Settings

Verify = Callable[[str], Caller]


def listen_at_both(service: str, settings: Settings) -> tuple[socket.socket, socket.socket]:
    """The sockets of the public door and of the operators'. Raises CannotListenError."""
    with ExitStack() as opened:
        public = listen(settings.host, settings.service_port(service), f"--port or ORDERFLOW_{service.upper()}_PORT")
        opened.callback(public.close)
        ops = listen(settings.ops_host, settings.service_ops_port(service), f"ORDERFLOW_{service.upper()}_OPS_PORT")
        opened.pop_all()
    return public, ops


def verifier(settings: Settings) -> Verify:
    """Tells callers by the tokens of the settings."""
    return Tokens(TokensFile(settings.tokens_path)).caller_of


@dataclass(frozen=True, slots=True)
class Side:
    """One door. `application` is what is behind it at this moment."""

    name: str
    server: HttpServer
    limits: HttpLimits
    title: str
    application: list[Application]


class Doors:
    """Answers `probes` from the first moment on, and all of the service's operations once `show` has been called."""

    def __init__(
        self,
        sockets: tuple[socket.socket, socket.socket],
        settings: Settings,
        limits: HttpLimits,
        verify: Verify,
        state: ApplicationState,
        probes: Sequence[Operation],
        title: str,
    ) -> None:
        self._settings = settings
        self._verify = verify
        self._state = state
        self._probes = probes
        public, ops = sockets
        self._public = self._side("public", public, settings.host, limits, title)
        self._ops = self._side("ops", ops, settings.ops_host, for_operators(limits), f"{title}, for operators")

    @property
    def port(self) -> int:
        return self._public.server.port

    @property
    def ops_port(self) -> int:
        return self._ops.server.port

    def open(self) -> None:
        for side in (self._public, self._ops):
            side.server.start()

    def show(self, version: str, operations: Iterable[Operation], mounts: Mapping[str, Mount]) -> None:
        """Put each operation behind its door, with the documentation of that door; mounts are public."""
        listed = [*operations, *self._probes]
        for side, others in ((self._public, mounts), (self._ops, {})):
            behind = [each for each in listed if each.is_for_operators == (side is self._ops)]
            docs = docs_operations(side.title, version, behind)
            side.application[0] = Application([*behind, *docs], self._state, {**others, **docs_files()})

    async def stop(self, timeout_s: float) -> None:
        """Finish what is being answered; operators are told how it ends until there is nothing more to tell."""
        await self._public.server.stop(timeout_s)
        await self._ops.server.stop(timeout_s)

    async def gauges(self) -> dict[str, dict[Labels, float]]:
        """How full each door is, and its bounds."""
        sides = (self._public, self._ops)
        return {
            "http_connections": {(("door", side.name),): side.server.connections for side in sides},
            "http_under_way": {(("door", side.name),): side.server.under_way for side in sides},
            "http_limit": {
                (("door", side.name), ("limit", limit)): value
                for side in sides
                for limit, value in self._bounds(side).items()
            },
        }

    def _bounds(self, side: Side) -> Mapping[str, float]:
        limits, settings = side.limits, self._settings
        rates = {"token_rate": settings.http_token_rate_max, "address_rate": settings.http_address_rate_max}
        return {
            "connections": limits.connections_max,
            "head_bytes": limits.framing.head_max,
            "body_bytes": limits.framing.body_max,
            "waiting": settings.http_waiting_max,
            **{name: rate for name, rate in rates.items() if rate is not None},
        }

    def _side(self, name: str, listener: socket.socket, host: str, limits: HttpLimits, title: str) -> Side:
        settings = self._settings
        gate = Gate(
            host,
            self._verify,
            time.monotonic,
            names=settings.allowed_names(),
            anonymous=settings.anonymous,
            insecure=settings.insecure,
            token_rate=settings.http_token_rate_max,
            address_rate=settings.http_address_rate_max,
        )
        probes = self._probes if name == "ops" else ()
        shown = [Application(probes, self._state, starting=True)]
        return Side(name, HttpServer(lambda: shown[0], gate, listener, limits), limits, title, shown)
