"""Questions to a service over HTTP, whose every failure is one sentence."""

from __future__ import annotations

import ipaddress
import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from orderflow.cli.errors import CliError, NotFoundError, RefusedError, UnreachableError

if TYPE_CHECKING:
    from uuid import UUID

    import httpx2

T = TypeVar("T")

TIMEOUT_S = 10.0


class AnswerLostError(UnreachableError):
    """The request was sent; whether it was carried out is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: its JSON and its headers (names in lower case)."""

    body: Any
    headers: Mapping[str, str]


class ServiceClient:
    """One service at `url`, asked synchronously. Close it after use.

    With `installation`, what answers must be of it: that is looked at before anything is asked.
    """

    def __init__(
        self, name: str, url: str, *, timeout_s: float = TIMEOUT_S, installation: UUID | None = None
    ) -> None:
        import httpx2

        self.name = name
        self.url = url
        self._installation = installation
        self._timeout_s = timeout_s
        self._http = httpx2.Client(
            base_url=url,
            timeout=timeout_s,
            # Reading the certificates of all authorities takes longer than an answer does.
            verify=url.startswith("https:") or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            # A proxy of the surroundings is for the world outside, not for this machine.
            trust_env=not is_loopback(url),
        )

    def __enter__(self) -> ServiceClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

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
        if self._installation is not None:
            self._require_ours(self._installation, within_s, may_be_starting=path.startswith("/health/"))
        reply = self._ask(method, path, within_s, parameters=parameters, body=body, headers=headers, wait_s=wait_s)
        if not reply.is_success and reply.status_code not in good:
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
    ) -> httpx2.Response:
        import httpx2

        limit_s, read_s = min(self._timeout_s, within_s), min(self._timeout_s + wait_s, within_s)
        try:
            return self._http.request(
                method,
                path,
                params={name: str(value) for name, value in (parameters or {}).items()},
                json=body,
                headers=dict(headers or {}),
                timeout=httpx2.Timeout(limit_s, read=read_s),
            )
        except httpx2.HTTPError as error:
            raise self._unreachable(error, read_s) from error

    def _unreachable(self, error: httpx2.HTTPError, limit_s: float) -> CliError:
        import httpx2

        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return UnreachableError(nothing_answers(self.url, self.name))
        if isinstance(error, httpx2.TimeoutException):
            return AnswerLostError(
                f"The {self.name} service at {self.url} did not answer within {limit_s:.3g} s. "
                "See what it waits for with: orderflow doctor"
            )
        return AnswerLostError(
            f"The connection to the {self.name} service at {self.url} broke before it had answered "
            f"({type(error).__name__}). See what is wrong with: orderflow doctor"
        )

    def _refusal(self, reply: httpx2.Response) -> CliError:
        detail = problem_detail(reply)
        status = reply.status_code
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


def problem_detail(reply: httpx2.Response) -> str | None:
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
