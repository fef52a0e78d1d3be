"""Questions to a service over HTTP, whose every failure is one sentence."""

from __future__ import annotations

import ipaddress
import json
import math
import re
import select
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from orderflow.cli.errors import CliError, NotFoundError, RequestRefusedError, UnreachableError

if TYPE_CHECKING:
    import ssl
    from pathlib import Path
    from uuid import UUID

T = TypeVar("T")

TIMEOUT_S = 10.0


class AnswerLostError(UnreachableError):
    """The request was sent; whether it was carried out is not known."""


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """A good answer: its JSON and its headers (names in lower case)."""

    body: Any
    headers: Mapping[str, str]
    status: int = 200


@dataclass(frozen=True, slots=True)
class _Reply:
    """Any answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


FOR_OPERATORS = re.compile(r"/(ops|health)/.*|/metrics|/payments/[^/]+/settlement|/reservations/[^/]+/release")


def is_for_operators(path: str) -> bool:
    """Whether a service has it among its operators' endpoints, which have an address of their own."""
    return FOR_OPERATORS.fullmatch(path) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """PEM files: the authorities that vouch for services (None: those of the system), and what we show ourselves."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Raises CliError: a file cannot be used."""
        import ssl

        try:
            if self.ca is None:
                # Reading the certificates of all authorities takes longer than an answer does.
                import httpx2

                context = httpx2.create_ssl_context()
            else:
                context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except OSError as error:
            files = ", ".join(str(each) for each in (self.ca, self.certificate, self.key) if each is not None)
            raise CliError(
                f"Cannot set up TLS with {files}: {error.strerror or error}. Check ORDERFLOW_TLS_CA_FILE, "
                "ORDERFLOW_TLS_CLIENT_CERTIFICATE_FILE and ORDERFLOW_TLS_CLIENT_KEY_FILE"
            ) from error
        return context


class _Line:
    """One address of a service, and the connection to it, if one is open."""

    def __init__(self, url: str, tls: ClientTls) -> None:
        self.url = url
        self.tls = tls
        self.place = urlsplit(url)
        self.connection: HTTPConnection | None = None
        self.before = ""
        self.login: Mapping[str, str] = {}

    def connected(self, timeout_s: float) -> HTTPConnection:
        """The connection that is open, or a new one. Raises OSError, HTTPException, ValueError."""
        kept = self.connection
        if kept is not None and kept.sock is not None and not select.select([kept.sock], [], [], 0)[0]:
            return kept
        # What the service has closed meanwhile can be read from: its end.
        self.drop()
        self.connection, self.before = opened(self.place, timeout_s, self.tls)
        self.login = _login(_proxy_for(self.place)) if self.before else {}
        self.connection.connect()
        return self.connection

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None


class ServiceClient:
    """One service at `url`, and its operators' endpoints at `ops_url`, asked synchronously. Close it after use.

    With `installation`, what answers must be of it: that is looked at before anything is asked. `token` is shown with
    every request but probes. Where nothing answers, the error advises `up`; it names the home too if that is known to
    be `stopped`.
    """

    def __init__(
        self,
        name: str,
        url: str,
        ops_url: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        installation: UUID | None = None,
        token: str | None = None,
        tls: ClientTls | None = None,
        up: str = "orderflow up",
        stopped: Path | None = None,
    ) -> None:
        self.name = name
        self.url = url
        self._up = up
        self._stopped = stopped
        self._installation = installation
        self._timeout_s = timeout_s
        self._token = {"Authorization": f"Bearer {token}"} if token else {}
        self._public = _Line(url, tls or ClientTls())
        self._ops = self._public if ops_url in (None, url) else _Line(ops_url, tls or ClientTls())

    def __enter__(self) -> ServiceClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._public.drop()
        self._ops.drop()

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

        from orderflow.core.conversion import converted

        try:
            return converted(answer, kind)
        except msgspec.ValidationError as error:
            raise CliError(
                f"The {self.name} service at {self.url} answered in a form that this release cannot read: {error}. "
                "Use the command line of the service's own release"
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
    ) -> JsonAnswer:
        """As `get`. A status of `good` is an answer too, whatever it usually means."""
        sent = {"parameters": parameters, "body": body, "headers": headers, "wait_s": wait_s}
        reply = self._good(method, path, within_s, good, **sent)
        try:
            return JsonAnswer(json.loads(reply.content), reply.headers, reply.status)
        except ValueError as error:
            raise self._stranger() from error

    def listed(
        self, path: str, name: str, wanted: Mapping[str, str | int], *, page: int, limit: float = math.inf
    ) -> list[dict[str, Any]]:
        """The entries `name` of a list that comes in pages, at most `limit` of them. Raises as `get`."""
        found: list[dict[str, Any]] = []
        asked = dict(wanted)
        while len(found) < limit:
            answer = self.get(path, asked | {"limit": int(min(page, limit - len(found)))})
            found += answer[name]
            if answer["next"] is None:
                break
            asked["cursor"] = answer["next"]
        return found

    def text(self, path: str) -> str:
        """What is not JSON. Raises as `get`."""
        return self._good("GET", path, math.inf).content.decode("utf-8", "replace")

    def _good(self, method: str, path: str, within_s: float, good: tuple[int, ...] = (), **sent: Any) -> _Reply:
        """Of a service of this home, a reply with a status of success or of `good`. Raises as `get`."""
        if self._installation is not None:
            self._require_ours(self._installation, within_s, may_be_starting=path.startswith("/health/"))
        reply = self._ask(method, path, within_s, **sent)
        if not 200 <= reply.status < 300 and reply.status not in good:
            raise self._refusal(reply, path)
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
                f"{whose}. Start what belongs to this home with: {self._up}. To ask another installation, set "
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
        line = self._line(path)
        target = quote(line.place.path.rstrip("/") + path, safe="/%?=&")
        if parameters:
            target += "?" + urlencode({name: str(value) for name, value in parameters.items()})
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        kind = {} if content is None else {"content-type": "application/json"}
        shown = {} if path.startswith("/health/") else self._token
        connection = self._connected(line, limit_s)
        try:
            connection.sock.settimeout(read_s)
            all_headers = {**kind, **line.login, **shown, **(headers or {})}
            connection.request(method, line.before + target, content, all_headers)
            reply = connection.getresponse()
            return _Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        except TimeoutError as error:
            line.drop()
            raise AnswerLostError(
                f"The {self.name} service at {line.url} did not answer within {read_s:.3g} s. "
                "See what it waits for with: orderflow doctor"
            ) from error
        except (OSError, HTTPException) as error:
            line.drop()
            raise AnswerLostError(
                f"The connection to the {self.name} service at {line.url} broke before it answered "
                f"({type(error).__name__}). See what is wrong with: orderflow doctor"
            ) from error

    def _line(self, path: str) -> _Line:
        return self._ops if is_for_operators(path) else self._public

    def _connected(self, line: _Line, timeout_s: float) -> HTTPConnection:
        """Raises UnreachableError."""
        try:
            return line.connected(timeout_s)
        except (OSError, HTTPException, ValueError) as error:
            line.drop()
            if line.place.scheme == "https" and (why := _no_trust(error)):
                raise UnreachableError(f"TLS with the {self.name} service at {line.url} failed: {why}") from error
            raise UnreachableError(self._nothing_answers(line.url)) from error

    def _nothing_answers(self, url: str) -> str:
        where = f"at {url} (the {self.name} service)"
        if self._stopped is None:
            return f"Nothing answers {where}. Is it running? Start it with: {self._up}"
        return f"Nothing is running on {self._stopped}: nothing answers {where}. Start it with: {self._up}"

    def _refusal(self, reply: _Reply, path: str) -> CliError:
        detail = problem_detail(reply.content)
        status = reply.status
        if detail is None:
            return self._stranger()
        if status == 401:
            return RequestRefusedError(
                f"The {self.name} service refused that (401): {detail}. {self._what_was_shown()}"
            )
        if status == 404:
            said = f"The {self.name} service at {self._line(path).url} does not have that: {detail}."
            is_elsewhere = self._ops is self._public and is_for_operators(path)
            return NotFoundError(f"{said} {self._elsewhere()}" if is_elsewhere else said)
        if status == 503:
            after = reply.headers.get("retry-after")
            again = f"Try again in {after} s." if after else "Try again later."
            return UnreachableError(f"The {self.name} service cannot answer now: {detail}. {again}")
        if status >= 500:
            return CliError(
                f"The {self.name} service failed ({status}): {detail}. Its log says why: orderflow logs {self.name}"
            )
        return RequestRefusedError(f"The {self.name} service refused that ({status}): {detail}.")

    def _elsewhere(self) -> str:
        name = self.name.upper()
        return f"(ORDERFLOW_{name}_URL is set. Its operators' endpoints are elsewhere: set ORDERFLOW_{name}_OPS_URL)"

    def _what_was_shown(self) -> str:
        if self._token:
            return "The token sent is that of ORDERFLOW_TOKEN or, if that is not set, of the file `token` in the home"
        return "No token was sent: ORDERFLOW_TOKEN is not set, and the home has no file `token`"

    def _stranger(self) -> CliError:
        return UnreachableError(
            f"What answers at {self.url} is not the {self.name} service of Orderflow. Is the address right? "
            f"It is set by ORDERFLOW_{self.name.upper()}_URL or ORDERFLOW_{self.name.upper()}_PORT"
        )


def _no_trust(error: Exception) -> str:
    """What is wrong with TLS, and what to do; empty when it is something else."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message.rstrip('.')}. Set ORDERFLOW_TLS_CA_FILE to the authority that vouches for it"
    if isinstance(error, ssl.SSLError):
        return f"{(error.reason or str(error)).replace('_', ' ').lower()}. Does it speak HTTPS?"
    return ""


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def opened(place: SplitResult, timeout_s: float, tls: ClientTls) -> tuple[HTTPConnection, str]:
    """A connection, not yet made, to what an http(s) URL names, and what stands before the path in its requests.

    By way of the proxy that the surroundings name for it; not for this machine: that is for the world outside. Raises
    ValueError, OSError (no certificates).
    """
    if place.scheme not in {"http", "https"} or not place.hostname:
        raise ValueError(f"no address of http: {place.geturl()}")
    proxy = None if is_loopback(place.geturl()) else _proxy_for(place)
    if place.scheme == "https":
        at = proxy or place
        secured = HTTPSConnection(at.hostname or "", at.port, timeout=timeout_s, context=tls.context())
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
