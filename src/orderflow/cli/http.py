"""Questions to a service over HTTP, whose every failure is one sentence."""

from __future__ import annotations

import ipaddress
import json
import math
import select
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from orderflow.cli.errors import CliError, NotFoundError, RefusedError, UnreachableError

if TYPE_CHECKING:
    from uuid import UUID

T = TypeVar("T")

TIMEOUT_S = 10.0


class AnswerLostError(UnreachableError):
    """The request was sent; whether it was carried out is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: its JSON and its headers (names in lower case)."""

    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Reply:
    """Any answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class ServiceClient:
    """One service at `url`, asked synchronously. Close it after use.

    With `installation`, what answers must be of it: that is looked at before anything is asked.
    """

    def __init__(
        self, name: str, url: str, *, timeout_s: float = TIMEOUT_S, installation: UUID | None = None
    ) -> None:
        self.name = name
        self.url = url
        self._installation = installation
        self._timeout_s = timeout_s
        self._place = urlsplit(url)
        self._connection: HTTPConnection | None = None
        self._before = ""
        self._login: Mapping[str, str] = {}

    def __enter__(self) -> ServiceClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

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

    def read(self, kind: type[T], path: str, parameters: Mapping[str, str | int] | None = None) -> T:
        """The answer as the class that the service sends. Raises as `get`."""
        return self.decoded(kind, self.get(path, parameters))

    def decoded(self, kind: type[T], answer: object) -> T:
        """Raises CliError: the answer is not of this form."""
        import msgspec

        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise CliError(
                f"The {self.name} service at {self.url} answered in a form that this release cannot read: {error}. "
                "Use the command line of the release that the service runs"
            ) from error

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
        sent = {"parameters": parameters, "body": body, "headers": headers, "wait_s": wait_s}
        reply = self._good(method, path, within_s, good, **sent)
        try:
            return Answer(json.loads(reply.content), reply.headers)
        except ValueError as error:
            raise self._stranger() from error

    def text(self, path: str) -> str:
        """What is not JSON. Raises as `get`."""
        return self._good("GET", path, math.inf).content.decode("utf-8", "replace")

    def _good(self, method: str, path: str, within_s: float, good: tuple[int, ...] = (), **sent: Any) -> _Reply:
        """Of a service of this home, a reply with a status of success or of `good`. Raises as `get`."""
        if self._installation is not None:
            self._require_ours(self._installation, within_s, may_be_starting=path.startswith("/health/"))
        reply = self._ask(method, path, within_s, **sent)
        if not 200 <= reply.status < 300 and reply.status not in good:
            raise self._refusal(reply)
        return reply

    def _require_ours(self, installation: UUID, within_s: float, *, may_be_starting: bool) -> None:
        """Raises UnreachableError for a service of somebody else, which would take the request as well."""
        reply = self._ask("GET", "/health/live", within_s)
        try:
            found = json.loads(reply.content)
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
    ) -> _Reply:
        limit_s, read_s = min(self._timeout_s, within_s), min(self._timeout_s + wait_s, within_s)
        target = quote(self._place.path.rstrip("/") + path, safe="/%?=&")
        if parameters:
            target += "?" + urlencode({name: str(value) for name, value in parameters.items()})
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        kind = {} if content is None else {"content-type": "application/json"}
        connection = self._connected(limit_s)
        try:
            connection.sock.settimeout(read_s)
            connection.request(method, self._before + target, content, {**kind, **self._login, **(headers or {})})
            reply = connection.getresponse()
            return _Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        except TimeoutError as error:
            self._drop()
            raise AnswerLostError(
                f"The {self.name} service at {self.url} did not answer within {read_s:.3g} s. "
                "See what it waits for with: orderflow doctor"
            ) from error
        except (OSError, HTTPException) as error:
            self._drop()
            raise AnswerLostError(
                f"The connection to the {self.name} service at {self.url} broke before it had answered "
                f"({type(error).__name__}). See what is wrong with: orderflow doctor"
            ) from error

    def _connected(self, timeout_s: float) -> HTTPConnection:
        """The connection that is open, or a new one. Raises UnreachableError."""
        kept = self._connection
        if kept is not None and kept.sock is not None and not select.select([kept.sock], [], [], 0)[0]:
            return kept
        # What the service has closed meanwhile can be read from: its end.
        self._drop()
        try:
            self._connection, self._before = opened(self._place, timeout_s)
            self._login = _login(_proxy_for(self._place)) if self._before else {}
            self._connection.connect()
        except (OSError, HTTPException, ValueError) as error:
            self._drop()
            raise UnreachableError(nothing_answers(self.url, self.name)) from error
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _refusal(self, reply: _Reply) -> CliError:
        detail = problem_detail(reply.content)
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


def opened(place: SplitResult, timeout_s: float) -> tuple[HTTPConnection, str]:
    """A connection, not yet made, to what an http(s) URL names, and what stands before the path in its requests.

    By way of the proxy that the surroundings name for it; not for this machine: that is for the world outside. Raises
    ValueError, OSError (no certificates).
    """
    if place.scheme not in {"http", "https"} or not place.hostname:
        raise ValueError(f"no address of http: {place.geturl()}")
    proxy = None if is_loopback(place.geturl()) else _proxy_for(place)
    if place.scheme == "https":
        # Reading the certificates of all authorities takes longer than an answer does: only where they are needed.
        import httpx2

        at = proxy or place
        secured = HTTPSConnection(at.hostname or "", at.port, timeout=timeout_s, context=httpx2.create_ssl_context())
        if proxy:
            secured.set_tunnel(place.hostname, place.port, _login(proxy))
        return secured, ""
    if proxy is None:
        return HTTPConnection(place.hostname, place.port, timeout=timeout_s), ""
    return HTTPConnection(proxy.hostname or "", proxy.port, timeout=timeout_s), f"http://{place.netloc}"


def _proxy_for(place: SplitResult) -> SplitResult | None:
    """As http_proxy, https_proxy, all_proxy and no_proxy say."""
    from urllib.request import getproxies_environment, proxy_bypass

    known = getproxies_environment()
    named = known.get(place.scheme) or known.get("all")
    if not named or proxy_bypass(place.hostname or ""):
        return None
    return urlsplit(named if "//" in named else f"http://{named}")


def _login(proxy: SplitResult | None) -> dict[str, str]:
    """What a proxy is told that its URL names a user for."""
    if proxy is None or proxy.username is None:
        return {}
    from base64 import b64encode

    told = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {b64encode(told).decode()}"}


def problem_detail(content: bytes) -> str | None:
    """What a problem document (RFC 9457) says, with every wrong field; None when it is none."""
    try:
        problem = json.loads(content)
    except ValueError:
        return None
    if not isinstance(problem, dict) or not isinstance(problem.get("title"), str):
        return None
    said = str(problem.get("detail") or problem["title"])
    errors = [each for each in problem.get("errors") or [] if isinstance(each, dict)]
    fields = [f"{each.get('pointer') or each.get('parameter')}: {each.get('detail')}" for each in errors]
    return "; ".join([said.rstrip("."), *(field for field in fields if field not in said)])
