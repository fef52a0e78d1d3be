"""The two listeners of a service: the public API, and what operators ask, with health and metrics.

Each has its address, its gate, its connections and its documentation. What is behind one is not behind the other.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from orderflow.access.tokens import Tokens, TokensFile
from orderflow.core.access import Caller
from orderflow.http.application import Application, ApplicationState, Mount
from orderflow.http.gate import Gate, is_loopback
from orderflow.http.openapi import docs_files, docs_operations
from orderflow.http.operation import Operation
from orderflow.http.protocol import HttpLimits, for_operators
from orderflow.http.server import HttpServer, listen
from orderflow.http.tls import Certificates
from orderflow.runtime.exposure import certificates_of
from orderflow.runtime.health import Labels
from orderflow.settings import Settings, SettingsError

if TYPE_CHECKING:
    from orderflow.access.openid import OpenIdTokens
    from orderflow.core.timing import Clock

Verify = Callable[[str], Caller]


def listen_at_both(service: str, settings: Settings) -> tuple[socket.socket, socket.socket]:
    """The sockets of the public door and of the operators'. Raises CannotListenError."""
    with ExitStack() as opened:
        public = listen(settings.host, settings.service_port(service))
        opened.callback(public.close)
        ops = listen(settings.ops_host, settings.service_ops_port(service), f"ORDERFLOW_{service.upper()}_OPS_PORT")
        opened.pop_all()
    return public, ops


def openid_of(settings: Settings, clock: Clock) -> OpenIdTokens | None:
    """The provider's tokens, where the settings name one. Raises SettingsError."""
    if settings.oidc_issuer is None:
        return None
    if settings.oidc_audience is None:
        raise SettingsError("ORDERFLOW_OIDC_ISSUER needs ORDERFLOW_OIDC_AUDIENCE, the audience of its tokens")
    for url in (settings.oidc_issuer, settings.oidc_jwks or ""):
        place = urlsplit(url)
        if place.scheme == "http" and not is_loopback(place.hostname or ""):
            raise SettingsError(
                f"{url} must begin with https: whoever can change its answers can pose as anyone here"
            )
    from orderflow.access.openid import OpenIdTokens, Provider

    provider = Provider(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        jwks=settings.oidc_jwks,
        role_claim=settings.oidc_role_claim,
        shop_claim=settings.oidc_shop_claim,
    )
    return OpenIdTokens(provider, clock)


def verifier(settings: Settings, openid: OpenIdTokens | None) -> Verify:
    """Tells callers by our own tokens, and by those of the provider, if there is one."""
    tokens = Tokens(TokensFile(settings.tokens_path))
    if openid is None:
        return tokens.caller_of
    return lambda bearer: (tokens if tokens.knows(bearer) else openid).caller_of(bearer)


@dataclass(frozen=True, slots=True)
class Door:
    """One door. `application` is what is behind it at this moment."""

    name: str
    server: HttpServer
    gate: Gate
    certificates: Certificates | None
    limits: HttpLimits
    title: str
    application: list[Application]


class Doors:
    """Answers `probes` from the first moment on, and all of the service's operations once `show` has been called.

    Making them raises SettingsError: files for TLS that cannot be used.
    """

    def __init__(
        self,
        sockets: tuple[socket.socket, socket.socket],
        settings: Settings,
        limits: HttpLimits,
        waiting_max: int,
        verify: Verify,
        state: ApplicationState,
        probes: Sequence[Operation],
        title: str,
    ) -> None:
        self._settings = settings
        self._verify = verify
        self._state = state
        self._probes = probes
        self._waiting_max = waiting_max
        public, ops = sockets
        self._public = self._door("public", public, settings.host, limits, title)
        self._ops = self._door("ops", ops, settings.ops_host, for_operators(limits), f"{title}, for operators")

    @property
    def port(self) -> int:
        return self._public.server.port

    @property
    def ops_port(self) -> int:
        return self._ops.server.port

    def open(self) -> None:
        for door in (self._public, self._ops):
            door.server.start()

    def show(self, version: str, operations: Iterable[Operation], mounts: Mapping[str, Mount]) -> None:
        """Put each operation behind its door, with the documentation of that door; mounts are public."""
        listed = [*operations, *self._probes]
        for door, others in ((self._public, mounts), (self._ops, {})):
            behind = [each for each in listed if each.is_for_operators == (door is self._ops)]
            docs = docs_operations(door.title, version, behind)
            door.application[0] = Application([*behind, *docs], self._state, {**others, **docs_files()})

    def problems(self, now_s: float) -> dict[str, str]:
        """What somebody has to see to, though both doors are open. `now_s` is Unix time."""
        certificates = [each.certificates for each in (self._public, self._ops) if each.certificates is not None]
        problems = {"tls": {each.problem for each in certificates}}
        problems["tls_expiry"] = {each.expiry(now_s) for each in certificates}
        return {name: "; ".join(sorted(told)) for name, found in problems.items() if (told := found - {""})}

    async def stop(self, timeout_s: float) -> None:
        """Finish what is being answered; operators are told how it ends until there is nothing more to tell."""
        await self._public.server.stop(timeout_s)
        await self._ops.server.stop(timeout_s)

    async def gauges(self) -> dict[str, dict[Labels, float]]:
        """How full each door is, and its bounds."""
        doors = (self._public, self._ops)
        return {
            "http_connections": {(("door", door.name),): door.server.connections for door in doors},
            "http_under_way": {(("door", door.name),): door.server.under_way for door in doors},
            "http_limit": {
                (("door", door.name), ("limit", limit)): value
                for door in doors
                for limit, value in self._bounds(door).items()
            },
            "tls_expiry_timestamp_seconds": {
                (("door", door.name),): door.certificates.until_s for door in doors if door.certificates is not None
            },
        }

    def _bounds(self, door: Door) -> Mapping[str, float]:
        limits = door.limits
        return {
            "connections": limits.connections_max,
            "head_bytes": limits.framing.head_max,
            "body_bytes": limits.framing.body_max,
            "waiting": self._waiting_max,
            **door.gate.rates,
            "handshake_seconds": limits.handshake_s,
            "head_seconds": limits.head_s,
            "body_seconds": limits.body_s,
            "answer_seconds": limits.answer_s,
            "write_seconds": limits.write_s,
            "idle_seconds": limits.idle_s,
        }

    def _door(self, name: str, listener: socket.socket, host: str, limits: HttpLimits, title: str) -> Door:
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
        certificates = certificates_of(settings, for_operators=name == "ops")
        probes = self._probes if name == "ops" else ()
        shown = [Application(probes, self._state, starting=True)]
        server = HttpServer(partial(itemgetter(0), shown), gate, listener, limits, certificates)
        return Door(name, server, gate, certificates, limits, title, shown)
