"""Questions to a service over HTTP, whose every failure is one sentence."""

from __future__ import annotations

import ipaddress
import json
import math
import select
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from orderflow import __version__
from orderflow.cli.errors import CliError, NotFoundError, RefusedError, UnreachableError

if TYPE_CHECKING:
    from uuid import UUID

TIMEOUT_S = 10.0
SHORTEST_S = 0.001


class AnswerLostError(UnreachableError):
    """The request was sent; whether it was carried out is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: its JSON and its headers (names in lower case)."""

    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """Any answer, as it came."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Raises ValueError."""
        return json.loads(self.content)


class ServiceClient:
    """One service at `url`, asked synchronously over one connection. Close it after use.

    With `installation`, what answers must be of it: that is looked at before anything is asked. The standard
    library's client, because a command is to start in no time: the usual one costs as much as all the rest of it.
    """

    def __init__(
        self, name: str, url: str, *, timeout_s: float = TIMEOUT_S, installation: UUID | None = None
    ) -> None:
        self.name = name
        self.url = url
        self._installation = installation
        self._timeout_s = timeout_s
        self._connection, self._prefix, self._headers = _connection(url)

    def __enter__(self) -> ServiceClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(
        self,
        path: str,
        parameters: Mapping[str, str | int] | None = None,
        *,
        wait_s: float = 0.0,
        within_s: float = math.inf,
    ) -> Any:
        """The answer's JSON. `wait_s` is how long the service may hold it; `within_s` bounds that too.

        Raises UnreachableError, NotFoundError, RefusedError, CliError.
        """
        return self.ask("GET", path, parameters=parameters, wait_s=wait_s, within_s=within_s).body

    def ask(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, str | int] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        within_s: float = math.inf,
        good: tuple[int, ...] = (),
    ) -> Answer:
        """As `get`. A status of `good` is an answer too, whatever it usually means."""
        if self._installation is not None:
            self._require_ours(self._installation, within_s, may_be_starting=path.startswith("/health/"))
        reply = self._ask(method, path, within_s, parameters=parameters, body=body, headers=headers, wait_s=wait_s)
        if not 200 <= reply.status < 300 and reply.status not in good:
            raise self._refusal(reply)
        try:
            return Answer(reply.json(), reply.headers)
        except ValueError as error:
            raise self._stranger() from error

    def _require_ours(self, installation: UUID, within_s: float, *, may_be_starting: bool) -> None:
        """Raises UnreachableError for a service of somebody else, which would take the request as well."""
        reply = self._ask("GET", "/health/live", within_s)
        try:
            found = reply.json()
            service, of = found["service"], found["installation"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._stranger() from error
        if of is None and not may_be_starting:
            raise UnreachableError(f"The {service} service at {self.url} is starting. Try again later.")
        if service != self.name or (of is not None and of != str(installation)):
            whose = "of it" if of == str(installation) else "of another installation"
            raise UnreachableError(
                f"What answers at {self.url} is not the {self.name} service of this home, but the {service} service "
                f"{whose}. Start what belongs to this home with: orderflow up. To ask another installation, set "
                f"ORDERFLOW_{self.name.upper()}_URL"
            )
        if of is not None:
            self._installation = None

    def _ask(
        self,
        method: str,
        path: str,
        within_s: float,
        *,
        parameters: Mapping[str, str | int] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
    ) -> Reply:
        connection = self._connection
        limit_s, read_s = min(self._timeout_s, within_s), min(self._timeout_s + wait_s, within_s)
        target = self._prefix + quote(path, safe="/%:@!$&'()*+,;=~")
        if parameters:
            target = f"{target}?{urlencode(parameters)}"
        named = {"User-Agent": f"orderflow/{__version__}", **self._headers, **(headers or {})}
        if body is not None:
            named["Content-Type"] = "application/json"
        try:
            _connect(connection, max(SHORTEST_S, limit_s))
        except (OSError, HTTPException) as error:
            raise UnreachableError(nothing_answers(self.url, self.name)) from error
        try:
            connection.sock.settimeout(max(SHORTEST_S, read_s))
            connection.request(method, target, None if body is None else json.dumps(body).encode(), named)
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError | HTTPException):
                raise self._lost(error, read_s) from error
            raise

    def _lost(self, error: OSError | HTTPException, limit_s: float) -> CliError:
        if isinstance(error, TimeoutError):
            return AnswerLostError(
                f"The {self.name} service at {self.url} did not answer within {limit_s:.3g} s. "
                "See what it waits for with: orderflow doctor"
            )
        return AnswerLostError(
            f"The connection to the {self.name} service at {self.url} broke before it had answered "
            f"({type(error).__name__}). See what is wrong with: orderflow doctor"
        )

    def _refusal(self, reply: Reply) -> CliError:
        detail = problem_detail(reply)
        status = reply.status
        if detail is None:
            return self._stranger()
        if status == 404:
            return NotFoundError(f"The {self.name} service at {self.url} does not have that: {detail}.")
        if status == 503:
            after = reply.headers.get("retry-after")
            again = f"Try again in {after} s." if after else "Try again later."
            return UnreachableError(f"The {self.name} service cannot answer now: {detail}. {again}")
        if status >= 500:
            return CliError(
                f"The {self.name} service failed ({status}): {detail}. Its log says why: orderflow logs {self.name}"
            )
        return RefusedError(f"The {self.name} service refused that ({status}): {detail}.")

    def _stranger(self) -> CliError:
        return UnreachableError(
            f"What answers at {self.url} is not the {self.name} service of Orderflow. Is the address right? "
            f"It is set by ORDERFLOW_{self.name.upper()}_URL or ORDERFLOW_{self.name.upper()}_PORT"
        )


def nothing_answers(url: str, name: str) -> str:
    """The sentence for a service that is not there."""
    return f"Nothing answers at {url} (the {name} service). Is it running? Start it with: orderflow up"


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def problem_detail(reply: Reply) -> str | None:
    """What a problem document (RFC 9457) says, with every wrong field; None when it is none."""
    try:
        problem = reply.json()
    except ValueError:
        return None
    if not isinstance(problem, dict) or not isinstance(problem.get("title"), str):
        return None
    said = str(problem.get("detail") or problem["title"])
    errors = [each for each in problem.get("errors") or [] if isinstance(each, dict)]
    fields = [f"{each.get('pointer') or each.get('parameter')}: {each.get('detail')}" for each in errors]
    return "; ".join([said.rstrip("."), *(field for field in fields if field not in said)])


def _connection(url: str) -> tuple[HTTPConnection, str, Mapping[str, str]]:
    """A connection that is not open yet, what stands before each path on it, and headers for who is between."""
    parts = urlsplit(url)
    host, prefix = parts.hostname or "", parts.path.rstrip("/")
    proxy = None if is_loopback(url) else _proxy_of(parts.scheme, host)
    if proxy is None:
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(host, parts.port), prefix, {}
    through = urlsplit(proxy)
    login = _login(through.username, through.password)
    if parts.scheme == "https":
        tunnel = HTTPSConnection(through.hostname or "", through.port or 80)
        tunnel.set_tunnel(host, parts.port or 443, login)
        return tunnel, prefix, {}
    plain = HTTPConnection(through.hostname or "", through.port or 80)
    return plain, f"{parts.scheme}://{parts.netloc}{prefix}", login


def _proxy_of(scheme: str, host: str) -> str | None:
    """What the surroundings name for the world outside."""
    from urllib.request import getproxies, proxy_bypass

    return None if proxy_bypass(host) else getproxies().get(scheme)


def _login(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    from base64 import b64encode

    said = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {b64encode(said).decode()}"}


def _connect(connection: HTTPConnection, limit_s: float) -> None:
    """Open it, unless it is: one that the other side has closed meanwhile can be read from. Raises OSError."""
    if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
        connection.close()
    connection.timeout = limit_s
    if connection.sock is None:
        connection.connect()
